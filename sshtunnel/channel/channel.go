// Package channel makes a net.Conn of an SSH channel.
package channel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Conn is the net.Conn of an SSH channel.
//
// x/crypto's own conn refuses deadlines. Its Close frees a blocked Read or Write only when the peer
// has answered. So a pipe stands between here for each direction, and a goroutine copies between
// the pipe and the channel. net.Pipe has deadlines, and a Close that frees whoever waits. Two pipes
// are needed because net.Pipe cannot be closed in one direction.
//
// The goroutines end when the peer confirms the close, or with the link. If the link is lost, what
// has come can still be read.
type Conn struct {
	setup Setup

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

// Setup is what a Conn is made of.
type Setup struct {
	// Link ends with what carries the channel. If its cause is Dropped, the caller will not read
	// what is left.
	Link    context.Context
	Dropped error
	// Channel is the channel, and Requests are its requests, which end with it. Serve must take all
	// of them.
	Channel  ssh.Channel
	Requests <-chan *ssh.Request
	Serve    func(<-chan *ssh.Request)
	// BeforeClose is called before the channel is closed. It may be nil.
	BeforeClose func()
	// Local and Remote are the addresses of the Conn.
	Local, Remote net.Addr
	// GoodbyeLimit is how long Close waits for what was written to be sent.
	GoodbyeLimit time.Duration
}

// New takes over a channel.
func New(setup Setup) *Conn {
	c := &Conn{
		setup:   setup,
		written: make(chan struct{}),
		closed:  make(chan struct{}),
		gone:    make(chan struct{}),
	}
	var farIn, farOut net.Conn
	c.in, farIn = net.Pipe()
	c.out, farOut = net.Pipe()
	go func() { // ends with the channel
		c.setup.Serve(c.setup.Requests)
		close(c.gone)
		farOut.Close() // nothing can be sent any more
	}()
	go func() { // ends with the channel when all is read, after Close when the peer confirms, or when it is dropped
		defer context.AfterFunc(c.setup.Link, func() {
			if context.Cause(c.setup.Link) == c.setup.Dropped {
				farIn.Close() // the caller may never read what is left
			}
		})()
		io.Copy(farIn, c.setup.Channel)
		farIn.Close()
		// Nobody reads any more. A full window would keep the peer from confirming the close.
		io.Copy(io.Discard, c.setup.Channel)
	}()
	go func() { // ends with the channel, with CloseWrite or with Close
		if _, err := io.Copy(c.setup.Channel, farOut); err == nil {
			c.setup.Channel.CloseWrite()
		}
		farOut.Close()
		close(c.written)
	}()
	return c
}

// Read reads what the peer has sent. After Close it returns net.ErrClosed, and after a deadline
// os.ErrDeadlineExceeded.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	return n, c.explain(err)
}

// Write hands p to the goroutine that sends. An error may come with a later call. After Close it is
// net.ErrClosed, and after a deadline os.ErrDeadlineExceeded.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	return n, c.explain(err)
}

// explain replaces the error of a pipe that Close has closed. If the channel has ended by itself,
// the error is still io.ErrClosedPipe.
func (c *Conn) explain(err error) error {
	if errors.Is(err, io.ErrClosedPipe) && isDone(c.closed) {
		return net.ErrClosed
	}
	return err
}

// CloseWrite sends what has been written, and then EOF. Reading goes on.
func (c *Conn) CloseWrite() error {
	if isDone(c.closed) {
		return net.ErrClosed
	}
	return c.out.Close()
}

// Close frees whoever waits in Read or Write, and closes the channel when everything that was
// written has been sent, or a few seconds later. It does not wait for that. A second call returns
// net.ErrClosed.
func (c *Conn) Close() error {
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

func (c *Conn) closeChannel() {
	if c.setup.BeforeClose != nil {
		c.setup.BeforeClose()
	}
	timer := time.NewTimer(c.setup.GoodbyeLimit)
	defer timer.Stop()
	select {
	case <-c.written:
	case <-timer.C: // the peer does not read
	}
	c.setup.Channel.Close()
}

// Closed returns a channel that is closed by Close.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Ended returns a channel that is closed when nothing can be sent any more, nor come.
func (c *Conn) Ended() <-chan struct{} { return c.gone }

// LocalAddr returns an address that names the hop.
func (c *Conn) LocalAddr() net.Addr { return c.setup.Local }

// RemoteAddr returns the address that the channel leads to, or comes from.
func (c *Conn) RemoteAddr() net.Addr { return c.setup.Remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline limits the present and all later calls of Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.explain(c.in.SetReadDeadline(t))
}

// SetWriteDeadline limits the present and all later calls of Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
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
