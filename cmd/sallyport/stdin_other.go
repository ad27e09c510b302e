//go:build !linux

package main

import "os"

// openStdin returns stdin as it is.
func openStdin() (in *os.File, restore func()) { return os.Stdin, func() {} }
