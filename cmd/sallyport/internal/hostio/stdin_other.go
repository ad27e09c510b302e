//go:build !linux

package hostio

import "os"

// OpenStdin returns stdin unchanged. The caller must call restore at the end of the process.
func OpenStdin() (in *os.File, restore func()) { return os.Stdin, func() {} }
