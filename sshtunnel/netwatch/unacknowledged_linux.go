package netwatch

import (
	"net"

	"golang.org/x/sys/unix"
)

// Unacknowledged returns how many segments the peer's TCP has not confirmed yet (TCP_INFO of
// tcp(7)). It is 0 if the system does not tell.
func Unacknowledged(conn *net.TCPConn) (segments uint32) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			segments = info.Unacked
		}
	})
	return segments
}
