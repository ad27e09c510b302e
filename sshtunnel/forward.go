package sshtunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// maxUnaccepted bounds the connections of one Listener that wait for Accept; more are refused.
	maxUnaccepted = 16
	// farewell bounds requests that only tidy up on the far side.
	farewell = 3 * time.Second
)

// forwardRequest is the payload of tcpip-forward and its cancel (RFC 4254 7.1).
type forwardRequest struct {
	Host string
	Port uint32
}

// forwardUnixRequest is that of streamlocal-forward@openssh.com (OpenSSH's PROTOCOL, 2.4).
type forwardUnixRequest struct{ Path string }

// forwardedOpen is the payload of forwarded-tcpip (RFC 4254 7.2).
type forwardedOpen struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// forwardedUnixOpen is that of forwarded-streamlocal@openssh.com.
type forwardedUnixOpen struct{ Path, Reserved string }

// forwardTable hands channels that the server opens to listeners.
//
// x/crypto's own Listen would do, but for its blocking queue: connections that nobody accepts stop
// the client's one reading loop, keepalive included. Here a full queue refuses.
type forwardTable struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
}

// serve takes all forwarded channels until the link ends.
func (f *forwardTable) serve(l *link) {
	f.listeners = map[*listener]struct{}{}
	for _, kind := range []string{"forwarded-tcpip", "forwarded-streamlocal@openssh.com"} {
		opens := l.last().client.HandleChannelOpen(kind)
		l.wg.Go(func() { // ends when the connection closes opens
			for nc := range opens {
				f.open(nc)
			}
		})
	}
}

func (f *forwardTable) set(ln *listener, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on {
		f.listeners[ln] = struct{}{}
	} else {
		delete(f.listeners, ln)
	}
}

func (f *forwardTable) open(nc ssh.NewChannel) {
	var ln *listener
	raddr := farAddr("unix", "@")
	switch nc.ChannelType() {
	case "forwarded-tcpip":
		var m forwardedOpen
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			nc.Reject(ssh.ConnectionFailed, "bad request")
			return
		}
		ln = f.find("tcp", m.Host, m.Port)
		raddr = farAddr("tcp", net.JoinHostPort(m.OriginHost, strconv.FormatUint(uint64(m.OriginPort), 10)))
	default:
		var m forwardedUnixOpen
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			nc.Reject(ssh.ConnectionFailed, "bad request")
			return
		}
		ln = f.find("unix", m.Path, 0)
	}
	if ln == nil {
		nc.Reject(ssh.Prohibited, "no such forward") // RFC 4254 7.2: MUST
		return
	}
	ln.deliver(nc, raddr)
}

// find returns the listener for an address as the server words it. Servers differ in what they
// call the host (the one asked for, or the one bound), so a port that only one listener has decides.
func (f *forwardTable) find(network, host string, port uint32) *listener {
	f.mu.Lock()
	defer f.mu.Unlock()
	var only *listener
	n := 0
	for ln := range f.listeners {
		if ln.network != network {
			continue
		}
		if ln.host == host && (network == "unix" || ln.port.Load() == port) {
			return ln
		}
		if network == "tcp" && ln.port.Load() == port {
			only = ln
			n++
		}
	}
	if n == 1 {
		return only
	}
	return nil
}

// request asks the last hop to listen. When ctx ends first, a late yes is taken back.
func (l *link) request(ctx context.Context, ln *listener) error {
	if m := l.last().master; m != nil {
		return m.listen(ctx, ln)
	}
	name, payload := ln.request("")
	l.forwards.set(ln, true) // before the answer: a connection may come right behind it
	type answer struct {
		ok   bool
		resp []byte
		err  error
	}
	answers := make(chan answer)
	go func() { // ends with the answer, or with the link
		ok, resp, err := l.last().client.SendRequest(name, true, payload)
		select {
		case answers <- answer{ok, resp, err}:
		case <-ctx.Done():
			if ok && err == nil {
				name, payload := ln.request("cancel-")
				l.last().client.SendRequest(name, false, payload)
			}
		}
	}()
	select {
	case a := <-answers:
		var err error
		switch {
		case a.err != nil:
			err = fmt.Errorf("%w: %w", errLost, a.err)
		case !a.ok:
			err = &ListenError{Hop: l.last().host.Alias, Network: ln.network, Addr: ln.Addr().String()}
		}
		if err != nil {
			l.forwards.set(ln, false)
			return err
		}
		if ln.network == "tcp" && ln.port.Load() == 0 && len(a.resp) >= 4 {
			// The server chose; after a reconnect the same port is asked for.
			ln.port.Store(binary.BigEndian.Uint32(a.resp))
		}
		return nil
	case <-ctx.Done():
		l.forwards.set(ln, false)
		return context.Cause(ctx)
	}
}

// cancel takes a remote forward back. Some servers (dropbear) refuse that; nothing can be done then.
func (l *link) cancel(ln *listener) error {
	if m := l.last().master; m != nil {
		return m.unlisten(ln)
	}
	l.forwards.set(ln, false)
	done := make(chan error, 1)
	go func() { // ends with the answer, or with the link
		name, payload := ln.request("cancel-")
		ok, _, err := l.last().client.SendRequest(name, true, payload)
		if err == nil && !ok {
			err = errors.New("refused")
		}
		done <- err
	}()
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return context.DeadlineExceeded
	case <-l.done:
		return nil
	}
}

// listener is the net.Listener of Tunnel.Listen. It outlives links.
type listener struct {
	tunnel  *Tunnel
	network string // tcp or unix
	host    string // or the path
	port    atomic.Uint32

	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newListener(t *Tunnel, network, address string) (*listener, error) {
	ln := &listener{tunnel: t, network: network, host: address, queue: make(chan net.Conn, maxUnaccepted), closed: make(chan struct{})}
	switch network {
	case "unix":
		return ln, nil
	case "tcp", "tcp4", "tcp6":
		host, portText, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := net.LookupPort("tcp", portText)
		if err != nil {
			return nil, err
		}
		ln.network, ln.host = "tcp", host
		ln.port.Store(uint32(port))
		return ln, nil
	}
	return nil, net.UnknownNetworkError(network)
}

// request returns the name and payload of the global request for this forward.
func (ln *listener) request(prefix string) (string, []byte) {
	if ln.network == "unix" {
		return prefix + "streamlocal-forward@openssh.com", ssh.Marshal(forwardUnixRequest{ln.host})
	}
	return prefix + "tcpip-forward", ssh.Marshal(forwardRequest{ln.host, ln.port.Load()})
}

// deliver accepts a channel into the queue, or refuses it. It never waits for Accept.
func (ln *listener) deliver(nc ssh.NewChannel, raddr net.Addr) {
	if len(ln.queue) == cap(ln.queue) || isDone(ln.closed) {
		nc.Reject(ssh.ResourceShortage, "too many connections wait")
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	ln.enqueue(newChannelConn(nil, ch, reqs, ssh.DiscardRequests, ln.Addr(), raddr))
}

// enqueue hands a connection to Accept, or closes it when too many wait.
func (ln *listener) enqueue(conn net.Conn) {
	select {
	case ln.queue <- conn:
	default:
		conn.Close()
		return
	}
	if isDone(ln.closed) {
		ln.drain() // Close may have drained before us
	}
}

func (ln *listener) drain() {
	for {
		select {
		case conn := <-ln.queue:
			conn.Close()
		default:
			return
		}
	}
}

// Accept waits for the next connection, through any number of lost links. It fails when the
// listener or the tunnel is closed, and when the tunnel was refused for good.
func (ln *listener) Accept() (net.Conn, error) {
	for {
		st, changed := ln.tunnel.State()
		if st.Phase == Refused {
			return nil, st.Err
		}
		select {
		case conn := <-ln.queue:
			return conn, nil
		case <-ln.closed:
			return nil, net.ErrClosed
		case <-changed:
		}
	}
}

// Close ends the remote forward.
func (ln *listener) Close() error {
	err := net.ErrClosed
	ln.once.Do(func() {
		err = nil
		close(ln.closed)
		if l := ln.tunnel.forget(ln); l != nil {
			if err := l.cancel(ln); err != nil {
				ln.tunnel.cfg.Log.Debug("remote forward not cancelled", "hop", l.last().host.Alias, "addr", ln.Addr().String(), "err", err)
			}
		}
		ln.drain()
	})
	return err
}

// Addr is the address as it was asked for, with the port that the server chose for port 0.
func (ln *listener) Addr() net.Addr {
	if ln.network == "unix" {
		return farAddr("unix", ln.host)
	}
	return farAddr("tcp", net.JoinHostPort(ln.host, strconv.FormatUint(uint64(ln.port.Load()), 10)))
}

// keepListening asks a new link for a forward until it is granted: the server may hold the port
// for the dead connection yet. It ends with the grant, the link or the listener.
func (l *link) keepListening(ctx context.Context, ln *listener) {
	for n := 0; ; n++ {
		err := l.request(ctx, ln)
		if isDone(ln.closed) {
			if err == nil {
				l.cancel(ln)
			}
			return
		}
		if err == nil || isDone(l.done) || ctx.Err() != nil {
			return
		}
		ln.tunnel.cfg.Log.Warn("remote forward not granted, trying again", "hop", l.last().host.Alias, "addr", ln.Addr().String(), "err", err)
		timer := time.NewTimer(backoff(n))
		select {
		case <-timer.C:
		case <-ln.closed:
		case <-l.done:
		}
		timer.Stop()
	}
}
