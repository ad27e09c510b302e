// Package loopback has the listener of a server that a browser visits on this machine.
package loopback

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// MaxConns is how many connections a Listener keeps at once. Everybody on the machine can open
	// some.
	MaxConns = 64
	// minAcceptPause and maxAcceptPause are the limits of the pause after a failed accept.
	minAcceptPause, maxAcceptPause = 5 * time.Millisecond, time.Second
)

// Listener is the listener of a server for the person's browser. It bounds the connections: for one
// too many, it closes the oldest one that sends no request. If accepting fails, it closes all
// connections that send no request and goes on, because the person's callback needs their
// descriptors.
type Listener struct {
	net.Listener
	// closed is closed with the listener.
	closed    chan struct{}
	closeOnce sync.Once

	mu sync.Mutex
	// conns are the open connections, the oldest first.
	conns []*boundedConn
}

// boundedConn is a connection of a Listener.
type boundedConn struct {
	net.Conn
	from *Listener
	// served says that a request is being answered. It is guarded by from.mu.
	served bool
}

// NewListener bounds the connections that ln accepts. The caller closes the Listener, and so ln.
func NewListener(ln net.Listener) *Listener {
	return &Listener{Listener: ln, closed: make(chan struct{})}
}

// Accept returns the next connection. It fails only once the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := minAcceptPause; ; pause = min(2*pause, maxAcceptPause) {
		conn, err := l.Listener.Accept()
		if err == nil {
			return l.add(conn), nil
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.closeUnserved(0)
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-l.closed:
			return nil, err
		}
	}
}

// Close closes the listener and no connection.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// add notes a new connection, and makes room for it.
func (l *Listener) add(conn net.Conn) *boundedConn {
	l.closeUnserved(MaxConns - 1)
	c := &boundedConn{Conn: conn, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c
}

// closeUnserved closes the oldest connections without a request until no more than keep are open.
func (l *Listener) closeUnserved(keep int) {
	l.mu.Lock()
	var surplus []*boundedConn
	for _, c := range l.conns {
		if !c.served && len(surplus) < len(l.conns)-keep {
			surplus = append(surplus, c)
		}
	}
	l.mu.Unlock()
	for _, c := range surplus {
		c.Close()
	}
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	l := c.from
	l.mu.Lock()
	l.conns = slices.DeleteFunc(l.conns, func(other *boundedConn) bool { return other == c })
	l.mu.Unlock()
	return c.Conn.Close()
}

// connKey is the key of the boundedConn in a request's context.
type connKey struct{}

// WithConn is the http.Server.ConnContext of a server on a Listener.
func WithConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// Serving notes that the request with the context ctx is being answered, until done is called.
// Meanwhile its connection is not closed to make room for another.
func Serving(ctx context.Context) (done func()) {
	c, ok := ctx.Value(connKey{}).(*boundedConn)
	if !ok {
		return func() {}
	}
	set := func(served bool) {
		c.from.mu.Lock()
		defer c.from.mu.Unlock()
		c.served = served
	}
	set(true)
	return func() { set(false) }
}
