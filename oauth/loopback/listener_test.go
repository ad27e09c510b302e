package loopback

import (
	"net"
	"testing"
	"time"
)

// The oldest connections are closed that send no request, and no others.
func TestBrowserConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := NewListener(inner)
	defer ln.Close()
	const surplus = 5
	var conns []*boundedConn
	for i := range MaxConns + surplus {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn.(*boundedConn))
		if i == 0 {
			defer Serving(WithConn(t.Context(), conn))()
		}
	}
	for i, conn := range conns {
		open := conn.SetDeadline(time.Time{}) == nil
		if want := i == 0 || i > surplus; open != want {
			t.Errorf("connection %d is open: %t, want %t", i, open, want)
		}
	}
	conns[0].Close()
	if got := len(ln.conns); got != MaxConns-1 {
		t.Errorf("%d connections are noted, want %d", got, MaxConns-1)
	}
}
