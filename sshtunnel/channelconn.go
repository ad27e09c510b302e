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
	// minBuffer and maxBuffer bound the buffers between a connection and its channel, in bytes. A
	// buffer grows when reads fill it, so that an idle connection costs little and bulk data needs
	// few switches between goroutines.
	minBuffer = 2 << 10
	maxBuffer = 4 * chunkSize
)

// channelConn makes a net.Conn of an SSH channel.
//
// x/crypto's own conn refuses deadlines. Its Close frees a blocked Read or Write only when the peer
// has answered. So two goroutines stand between here. Read and Write wait for them, for Close or for
// a deadline. The goroutines end when the peer confirms the close, or with the connection below.
//
// Write could do without its goroutine if x/crypto told whether the channel's window has room. It
// does not, and a Write that waits for room could not be given up.
//
// A deadline that runs out closes the channel at the next Read or Write, because the peer would go
// on sending otherwise. A deadline that is in the past when it is set only interrupts, because
// net/http's server sets such deadlines between two requests.
type channelConn struct {
	channelSetup

	// closed is closed by Close.
	closed chan struct{}
	// gone is closed when the channel has ended on both sides.
	gone chan struct{}

	// writing is held by Write and CloseWrite, so that one piece is under way at a time.
	writing sync.Mutex

	mu  sync.Mutex // guards what follows
	in  inbound
	out outbound
	// asking is set if something was written and nothing has come since. gather counts these.
	asking bool
}

// channelSetup is what a channelConn is made of.
type channelSetup struct {
	ch ssh.Channel
	// serve must take all of reqs, which end with the channel.
	reqs  <-chan *ssh.Request
	serve func(reqs <-chan *ssh.Request)
	// gather sends what several channels write together. If it is nil, each piece goes by itself.
	gather *gatherConn
	// beforeClose is called before the channel is closed. It may be nil.
	beforeClose  func()
	laddr, raddr net.Addr
}

// inbound is the reading side of a channelConn.
type inbound struct {
	ready    sync.Cond // data or err came, or an end
	taken    sync.Cond // data has been taken, or an end
	data     []byte    // not read yet; it lies in a buffer of readLoop
	err      error     // comes after data
	deadline deadline
}

// outbound is the writing side of a channelConn.
type outbound struct {
	started  bool      // writeLoop runs
	ready    sync.Cond // piece came, or an end
	sent     sync.Cond // piece has gone, or an end
	piece    []byte    // to be written; nil when that is done
	went     int       // bytes of the last piece
	buf      []byte    // holds piece
	err      error     // why nothing more can be written: an error, or a Write that was given up
	deadline deadline
}

// newChannelConn takes over a channel.
func newChannelConn(setup channelSetup) *channelConn {
	c := &channelConn{channelSetup: setup, closed: make(chan struct{}), gone: make(chan struct{})}
	for _, cond := range c.conds() {
		cond.L = &c.mu
	}
	go func() { // ends with the channel
		c.serve(c.reqs)
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.gone)
		c.out.ready.Broadcast()
	}()
	go c.readLoop() // ends with the channel, or after Close when the peer confirms
	return c
}

func (c *channelConn) conds() []*sync.Cond {
	return []*sync.Cond{&c.in.ready, &c.in.taken, &c.out.ready, &c.out.sent}
}

func (c *channelConn) setAskingLocked(asking bool) {
	switch {
	case c.gather == nil:
	case asking && !c.asking:
		c.gather.asking.Add(1)
	case c.asking && !asking:
		c.gather.asking.Add(-1)
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
		if !c.deliver(bufs[i][:n], err) {
			return
		}
	}
}

// deliver hands data to Read, once Read has taken the data before it. It reports false after an
// error. It does not wait before it delivers a bare error, because nobody may read any more.
//
// After Close it throws the data away. Without reading on, a full window would keep the peer from
// closing.
func (c *channelConn) deliver(b []byte, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(b) > 0 && len(c.in.data) > 0 && !c.isClosed() {
		c.in.taken.Wait()
	}
	if len(b) > 0 {
		c.in.data = b
	}
	c.in.err = err
	c.setAskingLocked(false)
	if err != nil {
		c.in.ready.Broadcast()
	} else {
		c.in.ready.Signal()
	}
	return err == nil
}

// Read reads what the peer sent. After Close it returns net.ErrClosed, after a deadline
// os.ErrDeadlineExceeded.
func (c *channelConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.isClosed():
			return 0, net.ErrClosed
		case c.in.deadline.expired:
			return 0, c.expireLocked(c.in.deadline.past)
		case len(p) == 0:
			return 0, nil
		case len(c.in.data) > 0:
			n := copy(p, c.in.data)
			if c.in.data = c.in.data[n:]; len(c.in.data) == 0 {
				c.in.taken.Signal()
			} else {
				c.in.ready.Signal() // another Read may wait
			}
			return n, nil
		case c.in.err != nil:
			return 0, c.in.err
		}
		c.in.ready.Wait()
	}
}

// Idle reports whether a Read would wait: neither data nor an end has come. A client that has kept
// the connection asks this before it uses it again.
func (c *channelConn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.isClosed() && !c.in.deadline.expired && len(c.in.data) == 0 && c.in.err == nil
}

// expireLocked closes the connection, unless the deadline only interrupts.
func (c *channelConn) expireLocked(interrupts bool) error {
	if !interrupts {
		c.closeLocked()
	}
	return os.ErrDeadlineExceeded
}

func (c *channelConn) writeLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for c.out.piece == nil {
			if c.isClosed() || isDone(c.gone) {
				return
			}
			c.out.ready.Wait()
		}
		piece := c.out.piece
		c.mu.Unlock()
		n, err := c.send(piece)
		c.mu.Lock()
		c.out.piece, c.out.went = nil, n
		if err != nil && c.out.err == nil {
			switch {
			case c.isClosed():
				err = net.ErrClosed
			case err == io.EOF: // the peer or the end of the connection has closed the channel
				err = io.ErrClosedPipe
			}
			c.out.err = err
		}
		c.out.sent.Signal()
	}
}

// send writes to the channel, together with what others write at the time. If it fails, at most n
// bytes have gone out.
func (c *channelConn) send(p []byte) (n int, err error) {
	if c.gather == nil {
		return c.ch.Write(p)
	}
	c.gather.hold()
	n, err = c.ch.Write(p)
	return n, cmp.Or(err, c.gather.flush())
}

// Write sends p to the peer. If it fails, at most n bytes have gone out.
func (c *channelConn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.started {
		c.out.started = true
		go c.writeLoop() // ends at Close, or with the channel
	}
	for first := true; first || n < len(p); first = false {
		switch {
		case c.out.err != nil:
			return n, c.out.err
		case c.isClosed():
			return n, net.ErrClosed
		case c.out.deadline.expired:
			return n, c.expireLocked(c.out.deadline.past && n == 0)
		case isDone(c.gone):
			return n, io.ErrClosedPipe
		}
		if len(p) == 0 {
			return 0, nil
		}
		went, err := c.writePieceLocked(p[n:min(len(p), n+maxBuffer)])
		n += went
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// writePieceLocked has writeLoop send a copy of p, because a Write that is given up must not keep
// the caller's slice. It returns how many bytes went out.
func (c *channelConn) writePieceLocked(p []byte) (int, error) {
	c.out.buf = append(c.out.buf[:0], p...)
	c.out.piece = c.out.buf
	c.setAskingLocked(c.in.err == nil)
	c.out.ready.Signal()
	for c.out.piece != nil {
		switch {
		case c.isClosed():
			c.out.err = net.ErrClosed
			return 0, net.ErrClosed
		case c.out.deadline.expired:
			c.out.err = os.ErrDeadlineExceeded // it is not known how much of p went out
			return 0, c.expireLocked(false)
		}
		c.out.sent.Wait()
	}
	if c.out.err != nil {
		return c.out.went, c.out.err
	}
	return len(p), nil
}

// CloseWrite sends EOF. Reading goes on.
func (c *channelConn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	if c.isClosed() {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.out.err == nil {
		c.out.err = io.ErrClosedPipe
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
	c.in.deadline.stop()
	c.out.deadline.stop()
	for _, cond := range c.conds() {
		cond.Broadcast()
	}
	go func() { // may wait for a peer that does not read; ends with the connection below
		if c.beforeClose != nil {
			c.beforeClose()
		}
		c.ch.Close()
	}()
	return nil
}

func (c *channelConn) isClosed() bool { return isDone(c.closed) }

// Ended returns a channel that is closed when nothing can be sent any more, nor come.
func (c *channelConn) Ended() <-chan struct{} { return c.gone }

func (c *channelConn) LocalAddr() net.Addr  { return c.laddr }
func (c *channelConn) RemoteAddr() net.Addr { return c.raddr }

func (c *channelConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *channelConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.in.deadline, &c.in.ready, t)
}

func (c *channelConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.out.deadline, &c.out.sent, t)
}

// deadline is a time limit, guarded by the mutex of its connection.
type deadline struct {
	timer   *time.Timer // nil unless the time is yet to come
	expired bool
	past    bool // the time had already come when it was set
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// setDeadline sets a deadline, which wakes those who wait when it has come. The zero time means none.
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
		if d.timer == timer { // else the deadline was set again meanwhile
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
