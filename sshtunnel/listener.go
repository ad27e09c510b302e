package sshtunnel

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// maxUnaccepted bounds how many connections of one Listener wait for Accept. More are refused.
const maxUnaccepted = 16

// listenAddress is where a server is asked to listen.
type listenAddress struct {
	// network is "tcp" or "unix".
	network string
	// host is a name or address that the server resolves, or the path of a Unix socket.
	host string
	// port is 0 if the server is to choose one, and for a Unix socket.
	port uint32
}

func parseListenAddress(network, address string) (listenAddress, error) {
	switch network {
	case "unix":
		return listenAddress{network: "unix", host: address}, nil
	case "tcp", "tcp4", "tcp6":
		host, port, err := splitHostPort(address)
		return listenAddress{"tcp", host, port}, err
	}
	return listenAddress{}, net.UnknownNetworkError(network)
}

// String returns the path, or host:port.
func (a listenAddress) String() string {
	if a.network == "unix" {
		return a.host
	}
	return net.JoinHostPort(a.host, strconv.FormatUint(uint64(a.port), 10))
}

func (a listenAddress) netAddr() net.Addr { return farAddr(a.network, a.String()) }

// backlog holds connections that wait for Accept. Adding to it never blocks. Its methods may be
// called concurrently.
type backlog struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newBacklog() *backlog {
	return &backlog{conns: make(chan net.Conn, maxUnaccepted), closed: make(chan struct{})}
}

// full reports whether add would close a connection.
func (b *backlog) full() bool { return len(b.conns) == cap(b.conns) || isDone(b.closed) }

// add hands a connection to Accept. It closes the connection if too many wait, or after close.
func (b *backlog) add(conn net.Conn) {
	select {
	case b.conns <- conn:
	default:
		conn.Close()
		return
	}
	if isDone(b.closed) {
		b.drain() // close may have drained before us
	}
}

// close closes the connections that wait. It reports whether this call was the first.
func (b *backlog) close() bool {
	first := false
	b.once.Do(func() {
		first = true
		close(b.closed)
		b.drain()
	})
	return first
}

func (b *backlog) drain() {
	for {
		select {
		case conn := <-b.conns:
			conn.Close()
		default:
			return
		}
	}
}

// listener is the net.Listener of Tunnel.Listen. It outlives links: each new link is asked for the
// forward again.
type listener struct {
	tunnel   *Tunnel
	arrivals *backlog

	// mu guards what follows.
	mu sync.Mutex
	// at is where the server listens. After the first grant it has the port that the server chose.
	at listenAddress
	// grant is that of the latest link. It is nil before the first one.
	grant *grant
}

func newListener(t *Tunnel, network, address string) (*listener, error) {
	at, err := parseListenAddress(network, address)
	if err != nil {
		return nil, err
	}
	return &listener{tunnel: t, arrivals: newBacklog(), at: at}, nil
}

func (ln *listener) address() listenAddress {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.at
}

// request asks a link for the forward. ctx bounds the call.
func (ln *listener) request(ctx context.Context, l *link) error {
	g, err := l.last().listen(ctx, ln.address(), ln.arrivals)
	if err != nil {
		return err
	}
	ln.mu.Lock()
	ln.grant = g
	if ln.at.network == "tcp" {
		ln.at.port = g.port // the next link is asked for the same port
	}
	ln.mu.Unlock()
	return nil
}

// renew asks a new link for the forward until it is granted. The server may refuse at first,
// because its end of the lost connection still holds the port. renew ends with the grant, the link,
// the listener or ctx.
func (ln *listener) renew(ctx context.Context, l *link) {
	for n := 0; ; n++ {
		err := ln.request(ctx, l)
		if isDone(ln.arrivals.closed) {
			if err == nil {
				ln.cancelGrant()
			}
			return
		}
		if err == nil || l.life.Err() != nil || ctx.Err() != nil {
			return
		}
		ln.tunnel.cfg.Log.Warn("remote forward not granted, trying again",
			"hop", l.last().place().alias, "addr", ln.Addr().String(), "err", err)
		timer := time.NewTimer(backoff(n))
		select {
		case <-timer.C:
		case <-ln.arrivals.closed:
		case <-l.life.Done():
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// cancelGrant takes the forward back from the latest link.
func (ln *listener) cancelGrant() {
	ln.mu.Lock()
	g := ln.grant
	ln.mu.Unlock()
	if g == nil {
		return
	}
	if err := g.cancel(); err != nil {
		ln.tunnel.cfg.Log.Debug("remote forward not cancelled", "addr", ln.Addr().String(), "err", err)
	}
}

// Accept waits for the next connection, through any number of lost links. It fails when the
// listener or the tunnel is closed, and when the tunnel is refused.
func (ln *listener) Accept() (net.Conn, error) {
	for {
		st, changed := ln.tunnel.State()
		if st.Phase == Refused {
			return nil, st.Err
		}
		select {
		case conn := <-ln.arrivals.conns:
			return conn, nil
		case <-ln.arrivals.closed:
			return nil, net.ErrClosed
		case <-changed:
		}
	}
}

// Close ends the remote forward and closes the connections that wait for Accept. It waits a few
// seconds at most for the server.
func (ln *listener) Close() error {
	if !ln.arrivals.close() {
		return net.ErrClosed
	}
	ln.tunnel.send(func(l *loop) { delete(l.listeners, ln) })
	ln.cancelGrant()
	return nil
}

// Addr returns the address that was asked for, with the port that the server chose for port 0.
func (ln *listener) Addr() net.Addr { return ln.address().netAddr() }

// Forward carries each connection that ln accepts to an address, as ssh's -L does. For network and
// addr see [Tunnel.DialContext]. Connections wait for a link while the tunnel is down.
//
// Forward returns when ctx ends, ln fails or the tunnel is closed. It has then closed ln and all
// connections. The error is the cause of ctx, that of ln, or ErrClosed.
func (t *Tunnel) Forward(ctx context.Context, ln net.Listener, network, addr string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel(nil)
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer context.AfterFunc(t.ctx, func() { cancel(ErrClosed) })()
	// So many connections may wait for the far side. More wait in the system's backlog.
	waiting := make(chan struct{}, maxUnaccepted)
	for {
		select {
		case waiting <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		near, err := ln.Accept()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			if near != nil {
				near.Close()
			}
			return err
		}
		conns.Go(func() { // ends with the connections, which ctx bounds
			far, err := t.DialContext(ctx, network, addr)
			<-waiting
			if err != nil {
				t.cfg.Log.Warn("connection not forwarded", "addr", addr, "err", err)
				near.Close()
				return
			}
			join(ctx, near, far)
		})
	}
}

// farConn is a connection of DialContext.
type farConn interface {
	net.Conn
	CloseWrite() error
	// Ended returns a channel that is closed when nothing can be sent any more, nor come.
	Ended() <-chan struct{}
}

// join copies in both directions, and closes both connections in the end. It returns when both
// directions have ended, one has failed or ctx ends. The end of one direction is passed on.
func join(ctx context.Context, near, far net.Conn) {
	closeBoth := func() {
		near.Close()
		far.Close()
	}
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	var directions sync.WaitGroup
	copyTo := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if half, ok := dst.(interface{ CloseWrite() error }); err == nil && ok {
			err = half.CloseWrite()
		}
		if err != nil {
			closeBoth()
		}
	}
	directions.Go(func() { copyTo(far, near) })
	directions.Go(func() {
		copyTo(near, far)
		// A lost link looks like the end of one direction. The other would wait for near for ever.
		<-far.(farConn).Ended()
		near.Close()
	})
	directions.Wait()
}
