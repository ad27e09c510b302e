// Package tokenstore keeps small secret values between runs: named, encrypted, and locked among all
// processes that use the same directory. It knows nothing of what the values mean.
package tokenstore
