package localsock

import "golang.org/x/sys/unix"

// peerOf returns the user of the process at the other end of a socket: the one that connected, or
// that called listen(2).
func peerOf(fd int) (uid int, known bool, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, false, err
	}
	return int(cred.Uid), true, nil
}
