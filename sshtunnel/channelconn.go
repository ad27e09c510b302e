package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// channelConn makes a net.Conn of an SSH channel.
//
// x/crypto's own conn refuses deadlines. Its Close frees a blocked Read or Write only when the peer
// has answered. So a pipe stands between here for each direction, and a goroutine copies between
// the pipe and the channel. net.Pipe has deadlines, and a Close that frees whoever waits. Two pipes
// are needed because net.Pipe cannot be closed in one direction.
//
// The goroutines end when the peer confirms the close, or with the link. If the link is lost, what
// has come can still be read. Tunnel.Close drops it.
type channelConn struct {
	channelSetup

	// in and out are our ends of the pipes.
	in, out net.Conn
	// written is closed when everything that came through out has been sent, or cannot be sent.
	written chan struct{}
	// closed is closed by Close.
	closed chan struct{}
	once   sync.Once
	// gone is closed when the channel has ended on both sides.
	gone chan struct{}
}

// channelSetup is what a channelConn is made of.
type channelSetup struct {
	// link ends with the link, for the cause that the link has.
	link context.Context
	ch   ssh.Channel
	// serve must take all of reqs, which end with the channel.
	reqs  <-chan *ssh.Request
	serve func(reqs <-chan *ssh.Request)
	// beforeClose is called before the channel is closed. It may be nil.
	beforeClose  func()
	laddr, raddr net.Addr
}

// newChannelConn takes over a channel.
func newChannelConn(setup channelSetup) *channelConn {
	c := &channelConn{
		channelSetup: setup,
		written:      make(chan struct{}),
		closed:       make(chan struct{}),
		gone:         make(chan struct{}),
	}
	var farIn, farOut net.Conn
	c.in, farIn = net.Pipe()
	c.out, farOut = net.Pipe()
	go func() { // ends with the channel
		c.serve(c.reqs)
		close(c.gone)
		farOut.Close() // nothing can be sent any more
	}()
	go func() { // ends with the channel when all is read, after Close when the peer confirms, or at Tunnel.Close
		defer context.AfterFunc(c.link, func() {
			if context.Cause(c.link) == ErrClosed {
				farIn.Close() // the caller may never read what is left
			}
		})()
		io.Copy(farIn, c.ch)
		farIn.Close()
		// Nobody reads any more. A full window would keep the peer from confirming the close.
		io.Copy(io.Discard, c.ch)
	}()
	go func() { // ends with the channel, with CloseWrite or with Close
		if _, err := io.Copy(c.ch, farOut); err == nil {
			c.ch.CloseWrite()
		}
		farOut.Close()
		close(c.written)
	}()
	return c
}

// Read reads what the peer has sent. After Close it returns net.ErrClosed, and after a deadline
// os.ErrDeadlineExceeded.
func (c *channelConn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	return n, c.explain(err)
}

// Write hands p to the goroutine that sends. An error may come with a later call. After Close it is
// net.ErrClosed, and after a deadline os.ErrDeadlineExceeded.
func (c *channelConn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	return n, c.explain(err)
}

// explain replaces the error of a pipe that Close has closed. If the channel has ended by itself,
// the error is still io.ErrClosedPipe.
func (c *channelConn) explain(err error) error {
	if errors.Is(err, io.ErrClosedPipe) && isDone(c.closed) {
		return net.ErrClosed
	}
	return err
}

// CloseWrite sends what has been written, and then EOF. Reading goes on.
func (c *channelConn) CloseWrite() error {
	if isDone(c.closed) {
		return net.ErrClosed
	}
	return c.out.Close()
}

// Close frees whoever waits in Read or Write, and closes the channel when everything that was
// written has been sent, or a few seconds later. It does not wait for that. A second call returns
// net.ErrClosed.
func (c *channelConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		close(c.closed)
		c.in.Close()
		c.out.Close()
		go c.closeChannel() // may wait for a peer that does not read; ends with the connection below
	})
	return err
}

func (c *channelConn) closeChannel() {
	if c.beforeClose != nil {
		c.beforeClose()
	}
	timer := time.NewTimer(goodbyeLimit)
	defer timer.Stop()
	select {
	case <-c.written:
	case <-timer.C: // the peer does not read
	}
	c.ch.Close()
}

// Ended returns a channel that is closed when nothing can be sent any more, nor come.
func (c *channelConn) Ended() <-chan struct{} { return c.gone }

// LocalAddr returns an address that names the hop.
func (c *channelConn) LocalAddr() net.Addr { return c.laddr }

// RemoteAddr returns the address that the channel leads to, or comes from.
func (c *channelConn) RemoteAddr() net.Addr { return c.raddr }

// SetDeadline sets both deadlines.
func (c *channelConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline limits the present and all later calls of Read.
func (c *channelConn) SetReadDeadline(t time.Time) error {
	return c.explain(c.in.SetReadDeadline(t))
}

// SetWriteDeadline limits the present and all later calls of Write.
func (c *channelConn) SetWriteDeadline(t time.Time) error {
	return c.explain(c.out.SetWriteDeadline(t))
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// addr is a far address that need not be an IP address.
type addr struct{ network, name string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.name }

// farAddr returns a *net.TCPAddr or *net.UnixAddr if name allows, because some callers look at the
// type.
func farAddr(network, name string) net.Addr {
	if network == "unix" {
		return &net.UnixAddr{Net: "unix", Name: name}
	}
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return addr{"tcp", name}
}
