//go:build darwin || freebsd || dragonfly

package localsock

import "golang.org/x/sys/unix"

// solLocal is the level of LOCAL_PEERCRED. Some of these systems have no name for it.
const solLocal = 0

// peerOf returns the user of the process at the other end of a socket: the one that connected, or
// that called listen(2).
func peerOf(fd int) (uid int, known bool, err error) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
