//go:build !windows

package person

import "golang.org/x/sys/unix"

// terminalPath is the controlling terminal of the process.
const terminalPath = "/dev/tty"

// echoOff discards what was typed ahead and stops the terminal from showing what is typed, until
// restore is called: readpassphrase(3).
func echoOff(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermiosFlush, &quiet); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, before) }, nil
}
