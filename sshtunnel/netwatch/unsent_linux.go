package netwatch

import (
	"net"

	"golang.org/x/sys/unix"
)

// LimitUnsent makes writes wait while more than about so many bytes have not been sent yet
// (TCP_NOTSENT_LOWAT of tcp(7)). What is sent and not confirmed does not count, so the connection
// is as fast as before.
func LimitUnsent(conn *net.TCPConn, bytes int) {
	if raw, err := conn.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes) // without it, it is only slower
		})
	}
}
