package person

import "golang.org/x/sys/unix"

// termios(4)
const (
	getTermios      = unix.TCGETS
	setTermios      = unix.TCSETS
	setTermiosFlush = unix.TCSETSF
)
