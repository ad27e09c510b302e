//go:build !windows

package main

// terminalPath is the controlling terminal of the process.
const terminalPath = "/dev/tty"
