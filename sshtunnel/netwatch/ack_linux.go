package netwatch

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// AckAtOnce returns a connection that confirms what has come before it waits for more (TCP_QUICKACK
// of tcp(7)), if conn is TCP. Otherwise it returns conn.
//
// Linux confirms up to 40 ms later, in the hope that something is sent meanwhile. But sshd has
// Nagle's algorithm on as long as no command runs: a small packet waits until the one before is
// confirmed. At a round trip of 50 ms, a login took 92 ms more by that, and so did the next answer
// but one of each stream.
func AckAtOnce(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	return &prompt{Conn: conn, raw: raw}
}

// prompt is what AckAtOnce returns. Read must not be called concurrently.
type prompt struct {
	net.Conn
	raw syscall.RawConn
	// came is set if something has come that may not be confirmed yet.
	came bool
}

// Read implements net.Conn.
func (p *prompt) Read(b []byte) (int, error) {
	if p.came {
		p.raw.Control(ack)
	}
	n, err := p.Conn.Read(b)
	p.came = n > 0
	return n, err
}

// ack confirms what has come to a socket. It does nothing if that was done, by a packet that was
// sent.
func ack(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // without it, it is only slower
}
