//go:build !windows

package person

import "golang.org/x/sys/unix"

// terminalPath names the controlling terminal of the process.
const terminalPath = "/dev/tty"

// echoOff discards what was typed ahead, as readpassphrase(3) does, and stops the terminal from
// showing what is typed. The caller must call restore.
func echoOff(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermiosFlush, &silent); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, before) }, nil
}
