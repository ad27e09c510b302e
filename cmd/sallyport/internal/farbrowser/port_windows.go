package farbrowser

import (
	"context"
	"fmt"
	"net"
	"os"
)

// reserve reserves nothing: a browser inherits no socket here.
func reserve() (file *os.File, port int, err error) { return nil, 0, nil }

// listenPort listens on a port of 127.0.0.1.
func listenPort(ctx context.Context, port int) (*net.TCPListener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}
