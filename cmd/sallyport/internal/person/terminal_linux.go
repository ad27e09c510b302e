package person

import "golang.org/x/sys/unix"

// The requests that read and set a terminal, and set it after input was discarded: termios(4).
const (
	getTermios      = unix.TCGETS
	setTermios      = unix.TCSETS
	setTermiosFlush = unix.TCSETSF
)
