package farbrowser

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// ownListener accepts only connections of processes of this user, and no more than maxConns at
// once. A connection of another user is closed before anything is read from it.
type ownListener struct {
	*net.TCPListener
	// unchecked says that this system does not tell who connects.
	unchecked bool
	slots     chan struct{}
	// closed is closed by Close.
	closed chan struct{}
	once   sync.Once
	// told logs the first connection that is sent away. There may be thousands.
	told sync.Once
	log  *slog.Logger
}

// errOwnerUnknown says that the system's table of sockets cannot be read.
var errOwnerUnknown = errors.New("this system does not tell which user connects to the local proxy")

// newOwnListener finds out whether the system tells who connects. Linux does, so there it is an
// error if not. On other systems every local user is served then, and the log says so.
func newOwnListener(tcp *net.TCPListener, log *slog.Logger) (*ownListener, error) {
	l := &ownListener{TCPListener: tcp, slots: make(chan struct{}, maxConns), closed: make(chan struct{}), log: log}
	known, err := systemTellsOwners()
	if err != nil {
		return nil, err
	}
	if !known {
		if runtime.GOOS == "linux" {
			return nil, errOwnerUnknown
		}
		l.unchecked = true
		log.Warn("the local proxy for a login serves every user of this machine", "err", errOwnerUnknown)
	}
	return l, nil
}

// systemTellsOwners asks for the owner of a connection of ours.
func systemTellsOwners() (bool, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return false, err
	}
	defer l.Close()
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := l.SetDeadline(time.Now().Add(headerTimeout)); err != nil {
		return false, err
	}
	for {
		accepted, err := l.Accept()
		if err != nil {
			return false, err
		}
		known := isSameUser(accepted)
		ours := accepted.RemoteAddr().String() == conn.LocalAddr().String()
		accepted.Close()
		if ours { // else somebody was faster
			return known, nil
		}
	}
}

// Accept implements net.Listener.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if !l.unchecked && !isSameUser(conn) {
			l.told.Do(func() {
				l.log.Debug("the local proxy sends away what is not this user's or gone already", "from", conn.RemoteAddr().String())
			})
			conn.Close()
			continue
		}
		// The next connections of the browser wait in the kernel. A proxy that closed them would
		// count as broken in Chromium.
		select {
		case l.slots <- struct{}{}:
			return &slotConn{TCPConn: conn, release: func() { <-l.slots }}, nil
		case <-l.closed:
			conn.Close()
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener.
func (l *ownListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	*net.TCPConn
	release func()
	once    sync.Once
}

// Close implements net.Conn.
func (c *slotConn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(c.release)
	return err
}

// isSameUser reports whether a process of this user has the other end of a connection from this
// machine. It is false if that cannot be known.
func isSameUser(conn net.Conn) bool {
	client, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return false
	}
	server, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return err == nil && ownsSocket(client, server)
}
