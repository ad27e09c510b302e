package netwatch

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Delivered asks the system what the peer's TCP has confirmed (TCP_INFO of tcp(7)).
func Delivered(conn *net.TCPConn) (d Delivery) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return d
	}
	raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			since := time.Duration(info.Last_ack_recv) * time.Millisecond
			d = Delivery{Known: true, Unconfirmed: info.Unacked, Bytes: int64(info.Bytes_acked), Since: since}
		}
	})
	return d
}
