package sshtunnel

import (
	"cmp"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// chunkSize is the largest packet that x/crypto takes or gives at once, in bytes.
	chunkSize = 32 << 10
	// minBuffer and maxBuffer bound the buffers between a connection and its channel: they grow with
	// what comes at once, so that an idle connection costs little and bulk few switches of goroutines.
	minBuffer = 2 << 10
	maxBuffer = 4 * chunkSize
)

// channelConn makes a net.Conn of an SSH channel.
//
// x/crypto's own conn refuses deadlines, and its Close frees a blocked Read or Write only once the
// peer has answered. Here two goroutines stand between: Read and Write wait for them, for Close or
// for a deadline, whichever is first. The goroutines end when the peer confirms the close, or with
// the link. To write in the caller's goroutine would save two switches, but x/crypto does not tell
// whether the window has room, and a Write that waits for it could not be given up.
//
// A deadline that runs out closes the channel, for the peer would go on otherwise: the next Read or
// Write notices. One that already lies in the past when it is set only interrupts, as net/http's
// server does between two requests.
type channelConn struct {
	link         *gatherConn // nil: each piece goes by itself
	ch           ssh.Channel
	laddr, raddr net.Addr
	bye          func()        // goes before the close; may be nil
	closed       chan struct{} // closed by Close
	gone         chan struct{} // closed when the channel has ended on both sides

	turn sync.Mutex // held by Write: one piece is under way at a time

	mu       sync.Mutex // guards what follows
	readable sync.Cond  // unread or readErr came, or an end
	taken    sync.Cond  // unread has been taken, or an end
	unread   []byte     // lies in the reading goroutine's buffer
	readErr  error      // after unread

	writing  bool      // the writing goroutine has been started
	toWrite  sync.Cond // piece came, or an end
	written  sync.Cond // piece has gone, or an end
	piece    []byte    // to be written; nil when that is done
	went     int       // bytes of the last piece
	wbuf     []byte    // that piece lies in
	writeErr error     // nothing more can be written: an error, or a Write that was given up

	rd, wd deadline

	asking bool // something was written and nothing has come since; counted by link
}

// newChannelConn takes over ch. link gathers what it writes; it may be nil. requests must take all of reqs, which end with the channel.
func newChannelConn(link *gatherConn, ch ssh.Channel, reqs <-chan *ssh.Request, requests func(<-chan *ssh.Request), laddr, raddr net.Addr) *channelConn {
	c := &channelConn{link: link, ch: ch, laddr: laddr, raddr: raddr, closed: make(chan struct{}), gone: make(chan struct{})}
	for _, cond := range []*sync.Cond{&c.readable, &c.taken, &c.toWrite, &c.written} {
		cond.L = &c.mu
	}
	go func() { // ends with the channel
		requests(reqs)
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.gone)
		c.toWrite.Broadcast()
	}()
	go c.readLoop() // ends with the channel, or after Close when the peer confirms
	return c
}

func (c *channelConn) setAskingLocked(asking bool) {
	switch {
	case c.link == nil:
	case asking && !c.asking:
		c.link.asking.Add(1)
	case c.asking && !asking:
		c.link.asking.Add(-1)
	}
	c.asking = asking
}

// readLoop reads into one of two buffers while Read empties the other.
func (c *channelConn) readLoop() {
	var bufs [2][]byte
	size := minBuffer
	for i := 0; ; i = 1 - i {
		if len(bufs[i]) != size {
			bufs[i] = make([]byte, size)
		}
		n, err := c.ch.Read(bufs[i])
		switch {
		case n == size && size < maxBuffer:
			size *= 2
		case n < size/8 && size > minBuffer:
			size /= 2
		}
		if !c.give(bufs[i][:n], err) {
			return
		}
	}
}

// give hands over what was read, once Read has taken what came before; false after an error, which
// waits for nobody, as the reader may never come. After Close it throws the data away: without
// reading on to the confirmation, a full window would keep the peer from closing.
func (c *channelConn) give(b []byte, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(b) > 0 && len(c.unread) > 0 && !c.isClosed() {
		c.taken.Wait()
	}
	if len(b) > 0 {
		c.unread = b
	}
	c.readErr = err
	c.setAskingLocked(false)
	if err != nil {
		c.readable.Broadcast()
	} else {
		c.readable.Signal()
	}
	return err == nil
}

func (c *channelConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.isClosed():
			return 0, net.ErrClosed
		case c.rd.expired:
			return 0, c.expireLocked(c.rd.past)
		case len(p) == 0:
			return 0, nil
		case len(c.unread) > 0:
			n := copy(p, c.unread)
			if c.unread = c.unread[n:]; len(c.unread) == 0 {
				c.taken.Signal()
			} else {
				c.readable.Signal() // another Read may wait
			}
			return n, nil
		case c.readErr != nil:
			return 0, c.readErr
		}
		c.readable.Wait()
	}
}

// Idle reports whether a Read would wait: nothing has come, nor an end. A client that has kept the connection asks before it uses it again.
func (c *channelConn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.isClosed() && !c.rd.expired && len(c.unread) == 0 && c.readErr == nil
}

// expireLocked closes the connection, unless the deadline only interrupts.
func (c *channelConn) expireLocked(interrupt bool) error {
	if !interrupt {
		c.closeLocked()
	}
	return os.ErrDeadlineExceeded
}

func (c *channelConn) writeLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for c.piece == nil {
			if c.isClosed() || isDone(c.gone) {
				return
			}
			c.toWrite.Wait()
		}
		piece := c.piece
		c.mu.Unlock()
		n, err := c.send(piece)
		c.mu.Lock()
		c.piece, c.went = nil, n
		if err != nil && c.writeErr == nil {
			switch {
			case c.isClosed():
				err = net.ErrClosed
			case err == io.EOF: // the peer or the link has closed the channel
				err = io.ErrClosedPipe
			}
			c.writeErr = err
		}
		c.written.Signal()
	}
}

// send writes to the channel, together with what others write at the time. Where it fails, up to n bytes may have gone out, and no more.
func (c *channelConn) send(p []byte) (n int, err error) {
	if c.link == nil {
		return c.ch.Write(p)
	}
	c.link.hold()
	n, err = c.ch.Write(p)
	return n, cmp.Or(err, c.link.flush())
}

func (c *channelConn) Write(p []byte) (n int, err error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writing {
		c.writing = true
		go c.writeLoop() // ends at Close, or with the channel
	}
	for first := true; first || n < len(p); first = false {
		switch {
		case c.writeErr != nil:
			return n, c.writeErr
		case c.isClosed():
			return n, net.ErrClosed
		case c.wd.expired:
			return n, c.expireLocked(c.wd.past && n == 0)
		case isDone(c.gone):
			return n, io.ErrClosedPipe
		}
		// A copy: a Write that is given up must not keep the caller's slice.
		c.wbuf = append(c.wbuf[:0], p[n:min(len(p), n+maxBuffer)]...)
		size := len(c.wbuf)
		if size == 0 {
			return 0, nil
		}
		c.piece = c.wbuf
		c.setAskingLocked(c.readErr == nil)
		c.toWrite.Signal()
		for c.piece != nil {
			switch {
			case c.isClosed():
				c.writeErr = net.ErrClosed
				return n, net.ErrClosed
			case c.wd.expired:
				c.writeErr = os.ErrDeadlineExceeded // how much of piece went out is not known
				return n, c.expireLocked(false)
			}
			c.written.Wait()
		}
		if c.writeErr != nil {
			return n + c.went, c.writeErr
		}
		n += size
	}
	return n, nil
}

// CloseWrite sends EOF; reading goes on.
func (c *channelConn) CloseWrite() error {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	if c.isClosed() {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.writeErr == nil {
		c.writeErr = io.ErrClosedPipe
	}
	c.mu.Unlock()
	return c.ch.CloseWrite()
}

// Close closes the channel and frees whoever waits in Read or Write. It does not wait for the peer.
func (c *channelConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeLocked()
}

func (c *channelConn) closeLocked() error {
	if c.isClosed() {
		return net.ErrClosed
	}
	close(c.closed)
	c.setAskingLocked(false)
	c.rd.stop()
	c.wd.stop()
	for _, cond := range []*sync.Cond{&c.readable, &c.taken, &c.toWrite, &c.written} {
		cond.Broadcast()
	}
	go func() { // may wait for a stuck link; ends with it
		if c.bye != nil {
			c.bye()
		}
		c.ch.Close()
	}()
	return nil
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

func (c *channelConn) SetReadDeadline(t time.Time) error  { return c.setDeadline(&c.rd, &c.readable, t) }
func (c *channelConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.wd, &c.written, t) }

// deadline is a time that the connection's mutex guards.
type deadline struct {
	timer   *time.Timer // of a time to come; else nil
	expired bool
	past    bool // the time had come already when it was set
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// setDeadline sets d anew and wakes those who wait when it has come.
func (c *channelConn) setDeadline(d *deadline, waiting *sync.Cond, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed() {
		return net.ErrClosed
	}
	d.stop()
	d.expired, d.past = false, false
	if t.IsZero() {
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		d.expired, d.past = true, true
		waiting.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if d.timer == timer { // else it was set anew meanwhile
			d.expired = true
			waiting.Broadcast()
		}
	})
	d.timer = timer
	return nil
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
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return addr{"tcp", name}
}
