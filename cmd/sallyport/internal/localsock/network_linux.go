package localsock

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SameNetwork reports whether the process that listens at the other end of a connection of Dial is
// in the same network namespace as this one. It reports true if the system does not tell.
func SameNetwork(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil || cred.Pid <= 0 {
		return true
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cred.Pid))
	ours, err2 := os.Readlink("/proc/self/ns/net")
	return err != nil || err2 != nil || theirs == ours
}
