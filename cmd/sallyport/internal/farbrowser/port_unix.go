//go:build !windows

package farbrowser

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reserve binds a free port of 127.0.0.1 without listening on it. The browser inherits the file, so
// that the port is nobody else's as long as the browser runs: after the login its PAC file still
// names that port, and another user of this machine could take it. SO_REUSEPORT lets the proxies of
// this user listen there, and no other user (socket(7)). The caller must close the file.
func reserve() (file *os.File, port int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, 0, err
	}
	unix.CloseOnExec(fd) // os/exec hands it to the browser, and to nobody else
	file = os.NewFile(uintptr(fd), "the port of the local proxy")
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(fd)
	}
	addr, ok := bound.(*unix.SockaddrInet4)
	if err != nil || !ok {
		file.Close()
		return nil, 0, fmt.Errorf("a port on loopback: %w", err)
	}
	return file, addr.Port, nil
}

// listenPort listens on a port of 127.0.0.1, which a browser of ours may have reserved.
func listenPort(ctx context.Context, port int) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		controlErr := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	l, err := config.Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}
