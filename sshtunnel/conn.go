package sshtunnel

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// chunkSize is the largest packet that x/crypto takes or gives at once, in bytes.
const chunkSize = 32 << 10

// channelConn makes a net.Conn of an SSH channel.
//
// x/crypto's own conn refuses deadlines, and its Close frees a blocked Read or Write only once the
// peer has answered. Here two goroutines stand between: Read and Write wait for them, for Close or
// for a deadline, whichever is first. The goroutines end when the peer confirms the close, or with
// the link.
//
// A deadline that runs out closes the channel, for the peer would go on otherwise: the next Read or
// Write notices. One that already lies in the past when it is set only interrupts, as net/http's
// server does between two requests.
type channelConn struct {
	ch           ssh.Channel
	laddr, raddr net.Addr

	chunks  chan []byte // from the reading goroutine; closed after readErr is set
	free    chan []byte // buffers to read into
	readErr error

	rmu sync.Mutex // held by Read
	cur []byte     // what is left of the last chunk
	buf []byte     // the buffer that cur lies in

	wmu      sync.Mutex // held by Write
	writing  bool       // the writing goroutine has been started
	writes   chan []byte
	written  chan error
	wbuf     []byte
	writeErr error // after a Write that was given up, nothing more can be written

	bye       func() // goes before the close; may be nil
	closeOnce sync.Once
	closed    chan struct{} // at Close
	gone      chan struct{} // when the channel has ended on both sides
	rd, wd    deadline
}

// newChannelConn takes over ch. requests must take all of reqs, which end with the channel.
func newChannelConn(ch ssh.Channel, reqs <-chan *ssh.Request, requests func(<-chan *ssh.Request), laddr, raddr net.Addr) *channelConn {
	c := &channelConn{
		ch: ch, laddr: laddr, raddr: raddr,
		chunks: make(chan []byte), free: make(chan []byte, 2),
		writes: make(chan []byte), written: make(chan error, 1),
		closed: make(chan struct{}), gone: make(chan struct{}),
	}
	c.rd.init()
	c.wd.init()
	c.free <- nil
	c.free <- nil
	go func() { // ends with the channel
		defer close(c.gone)
		requests(reqs)
	}()
	go c.readLoop() // ends with the channel, or after Close when the peer confirms
	return c
}

func (c *channelConn) readLoop() {
	defer close(c.chunks)
	var buf []byte
	for {
		select {
		case buf = <-c.free:
		case <-c.closed:
			// Read on to the confirmation: a full window would keep the peer from closing.
		}
		if buf == nil {
			buf = make([]byte, chunkSize)
		}
		n, err := c.ch.Read(buf[:chunkSize])
		if n > 0 {
			select {
			case c.chunks <- buf[:n]:
			case <-c.closed:
			}
		}
		if err != nil {
			c.readErr = err
			return
		}
	}
}

func (c *channelConn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if c.isClosed() {
		return 0, net.ErrClosed
	}
	expired, past := c.rd.wait()
	if isDone(expired) {
		return 0, c.expire(past)
	}
	if len(c.cur) == 0 {
		if len(p) == 0 {
			return 0, nil
		}
	wait:
		for {
			select {
			case chunk, ok := <-c.chunks:
				if !ok {
					return 0, c.readErr
				}
				c.cur, c.buf = chunk, chunk
				break wait
			case <-c.closed:
				return 0, net.ErrClosed
			case <-expired:
				if expired, past = c.rd.wait(); isDone(expired) {
					return 0, c.expire(past)
				}
			}
		}
	}
	n := copy(p, c.cur)
	if c.cur = c.cur[n:]; len(c.cur) == 0 {
		c.free <- c.buf[:0]
	}
	return n, nil
}

// expire closes the connection, unless the deadline only interrupts.
func (c *channelConn) expire(interrupt bool) error {
	if !interrupt {
		c.Close()
	}
	return os.ErrDeadlineExceeded
}

func (c *channelConn) writeLoop() {
	for {
		select {
		case p := <-c.writes:
			_, err := c.ch.Write(p)
			c.written <- err
		case <-c.closed:
			return
		case <-c.gone:
			return
		}
	}
}

func (c *channelConn) Write(p []byte) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	if !c.writing {
		c.writing = true
		go c.writeLoop() // ends at Close, or with the channel
	}
	for first := true; first || len(p) > 0; first = false {
		if c.isClosed() {
			return n, net.ErrClosed
		}
		expired, past := c.wd.wait()
		if isDone(expired) {
			return n, c.expire(past && n == 0)
		}
		// A copy: a Write that is given up must not keep the caller's slice.
		c.wbuf = append(c.wbuf[:0], p[:min(len(p), chunkSize)]...)
		piece := c.wbuf
		select {
		case c.writes <- piece:
		case <-c.closed:
			return n, net.ErrClosed
		case <-c.gone:
			return n, io.ErrClosedPipe
		}
	wait:
		for {
			select {
			case err := <-c.written:
				if err != nil {
					c.writeErr = err
					return n, err
				}
				break wait
			case <-c.closed:
				c.writeErr = net.ErrClosed
				return n, net.ErrClosed
			case <-expired:
				if expired, _ = c.wd.wait(); isDone(expired) {
					c.writeErr = os.ErrDeadlineExceeded // how much of piece went out is not known
					return n, c.expire(false)
				}
			}
		}
		n += len(piece)
		p = p[len(piece):]
	}
	return n, nil
}

// CloseWrite sends EOF; reading goes on.
func (c *channelConn) CloseWrite() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.isClosed() {
		return net.ErrClosed
	}
	if c.writeErr == nil {
		c.writeErr = io.ErrClosedPipe
	}
	return c.ch.CloseWrite()
}

// Close closes the channel and frees whoever waits in Read or Write. It does not wait for the peer.
func (c *channelConn) Close() error {
	err := net.ErrClosed
	c.closeOnce.Do(func() {
		err = nil
		close(c.closed)
		c.rd.stop()
		c.wd.stop()
		go func() { // may wait for a stuck link; ends with it
			if c.bye != nil {
				c.bye()
			}
			c.ch.Close()
		}()
	})
	return err
}

func (c *channelConn) isClosed() bool { return isDone(c.closed) }

func (c *channelConn) LocalAddr() net.Addr  { return c.laddr }
func (c *channelConn) RemoteAddr() net.Addr { return c.raddr }

func (c *channelConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *channelConn) SetReadDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.rd.set(t)
	return nil
}

func (c *channelConn) SetWriteDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.wd.set(t)
	return nil
}

// deadline is a channel that is closed when a time has come, and can be set anew.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{}
	past    bool // the time had come already when it was set
}

func (d *deadline) init() { d.expired = make(chan struct{}) }

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if isDone(d.expired) {
		d.expired = make(chan struct{})
	}
	d.past = false
	if t.IsZero() {
		return
	}
	expired := d.expired
	if left := time.Until(t); left > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(left, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.timer == timer && d.expired == expired { // else it was set anew meanwhile
				close(expired)
			}
		})
		d.timer = timer
		return
	}
	d.past = true
	close(expired)
}

func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) wait() (expired <-chan struct{}, past bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired, d.past
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

// farAddr returns a *net.TCPAddr or *net.UnixAddr where name allows, for those who look at the type.
func farAddr(network, name string) net.Addr {
	if network == "unix" {
		return &net.UnixAddr{Net: "unix", Name: name}
	}
	if ap, err := parseAddrPort(name); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return addr{"tcp", name}
}
