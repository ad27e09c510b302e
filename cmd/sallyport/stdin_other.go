//go:build !linux

package main

import "os"

// openStdin returns stdin as it is.
func openStdin() *os.File { return os.Stdin }
