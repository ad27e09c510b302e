// Package service lets a command of this program run whenever its user is logged on: by systemd,
// by launchd, or by a Run key of Windows. It needs no more rights than the user has.
//
// Each system has a file here, which makes the text that the system reads, and says which of its
// commands take it over. The texts are the same on every system, so the tests compare them with
// those in testdata wherever they run.
//
// A service has nobody who answers questions, no terminal, and an environment of its own: nothing
// of the terminal is in it but what the text names. It may be asked for nothing secret, and its
// text holds no secret.
package service
