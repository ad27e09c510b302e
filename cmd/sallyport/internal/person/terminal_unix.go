//go:build !windows

package person

import (
	"io"

	"golang.org/x/sys/unix"
)

// terminalPath names the controlling terminal of the process.
const terminalPath = "/dev/tty"

// echoOff discards what was typed ahead, as readpassphrase(3) does, and stops the terminal from
// showing what is typed. The caller must call restore.
func echoOff(fd int) (restore func(), err error) { return setSilent(fd, setTermiosFlush) }

// hideTyping is echoOff for a time in which nothing is asked. It discards nothing.
func hideTyping(fd int) (restore func(), err error) { return setSilent(fd, setTermios) }

// setSilent stops the terminal from showing what is typed, by one of the two requests.
func setSilent(fd int, request uint) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, request, &silent); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, before) }, nil
}

// canLook says that hasLine works.
const canLook = true

// hasLine reports whether a line waits on the terminal fd, and this process may read it. The system
// stops a process in the background that reads.
func hasLine(fd int) (bool, error) {
	if fd >= unix.FD_SETSIZE {
		return false, unix.EBADF
	}
	var set unix.FdSet
	set.Set(fd)
	// Not poll(2), which does not work on a terminal of macOS.
	n, err := unix.Select(fd+1, &set, nil, nil, new(unix.Timeval))
	if err == unix.EINTR || err == nil && n == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return ownsTerminal(fd), nil
}

// ownsTerminal reports whether this process is in the foreground of the terminal fd.
func ownsTerminal(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// enableEscapes reports whether the terminal takes escape sequences.
func enableEscapes(io.Writer) bool { return true }
