package oauthtest

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
)

// firstPort is the first port that Network.Listen gives to an address with port 0.
const firstPort = 40000

// Network is an internet in memory: hosts of any name, and nothing of this machine. Its connections
// are pipes, so a test in a bubble of testing/synctest passes hours in no time. A URL with https
// reaches its host without TLS. A host that nobody serves refuses connections. The methods may be
// called concurrently; Close ends it.
type Network struct {
	mu sync.Mutex
	// listeners are keyed by HOST:PORT, or by HOST alone for all ports.
	listeners map[string]*pipeListener
	servers   []*http.Server
	lastPort  int
}

// NewNetwork returns a Network without hosts.
func NewNetwork() *Network {
	return &Network{listeners: make(map[string]*pipeListener), lastPort: firstPort - 1}
}

// Serve answers requests to host, at every port, with h.
func (n *Network) Serve(host string, h http.Handler) {
	ln := n.open(host, host)
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	n.mu.Lock()
	n.servers = append(n.servers, s)
	n.mu.Unlock()
	go s.Serve(ln) // ends with Close
}

// Listen opens addr, HOST:PORT, as net.Listen does. It fits oauth.CallbackConfig.Listen.
func (n *Network) Listen(_ context.Context, addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	if port == "0" {
		n.lastPort++
		port = strconv.Itoa(n.lastPort)
	}
	addr = net.JoinHostPort(host, port)
	taken := n.listeners[addr] != nil
	n.mu.Unlock()
	if taken {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	return n.open(addr, addr), nil
}

func (n *Network) open(key, addr string) *pipeListener {
	ln := &pipeListener{addr: pipeAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
	ln.forget = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.listeners, key)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[key] = ln
	return ln
}

// Dial connects to addr, HOST:PORT.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	n.mu.Lock()
	ln := n.listeners[addr]
	if ln == nil {
		ln = n.listeners[host]
	}
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	if ln == nil {
		return nil, refused
	}
	ours, theirs := net.Pipe()
	select {
	case ln.conns <- pipeConn{theirs, ln.addr}:
		return pipeConn{ours, ln.addr}, nil
	case <-ln.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Transport returns an http.RoundTripper to the hosts. It keeps no connection.
func (n *Network) Transport() *http.Transport {
	return &http.Transport{DialContext: n.Dial, DialTLSContext: n.Dial, DisableKeepAlives: true}
}

// Close ends the hosts. Listeners that Listen opened are closed too.
func (n *Network) Close() {
	n.mu.Lock()
	servers, listeners := n.servers, make([]*pipeListener, 0, len(n.listeners))
	for _, ln := range n.listeners {
		listeners = append(listeners, ln)
	}
	n.mu.Unlock()
	for _, s := range servers {
		s.Close()
	}
	for _, ln := range listeners {
		ln.Close()
	}
}

// pipeListener is a net.Listener whose connections are pipes.
type pipeListener struct {
	addr   pipeAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	// forget takes the listener off its network.
	forget func()
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	err := errors.New("closed before")
	l.once.Do(func() {
		l.forget()
		close(l.closed)
		err = nil
	})
	return err
}

func (l *pipeListener) Addr() net.Addr { return l.addr }

// pipeAddr is HOST:PORT.
type pipeAddr string

func (pipeAddr) Network() string  { return "tcp" }
func (a pipeAddr) String() string { return string(a) }

// pipeConn is a pipe with the address of its listener at both ends.
type pipeConn struct {
	net.Conn
	addr pipeAddr
}

func (c pipeConn) LocalAddr() net.Addr  { return c.addr }
func (c pipeConn) RemoteAddr() net.Addr { return c.addr }
