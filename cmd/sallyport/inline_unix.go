//go:build unix

package main

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// quietSocket looks without waiting whether there is something to read.
func quietSocket(conn net.Conn, _ time.Duration) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var peek error
	if err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, peek = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true
	}); err != nil {
		return false
	}
	return n <= 0 && (peek == unix.EAGAIN || peek == unix.EWOULDBLOCK)
}
