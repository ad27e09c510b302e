package netwatch

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn counts what moves. Any byte that arrives is a sign of life.
type Conn struct {
	net.Conn
	// Raw is what lies below Conn.
	Raw net.Conn
	// Received and Written count bytes.
	Received, Written atomic.Int64
	// Failed is set when a Read or Write has failed.
	Failed atomic.Bool
	// Flow counts the bytes of both directions.
	Flow Flow
	// At is when the last bytes came, in nanoseconds of a clock that Last reads.
	At atomic.Int64

	// answered is what Written was then, and asked when more was written for the first time.
	answered, asked atomic.Int64
	// own is how many of these bytes, at most, are questions whether the peer lives.
	own atomic.Int64
}

// start is the base of monotonic times.
var start = time.Now()

// Last returns when bytes last arrived.
func (c *Conn) Last() time.Time { return start.Add(time.Duration(c.At.Load())) }

// questionSize is more than a request for a sign of life takes on the wire, in bytes, and no more
// than anything else does.
const questionSize = 96

// Question notes that the peer is about to be asked whether it lives.
func (c *Conn) Question() { c.own.Add(questionSize) }

// Asked returns since when something has been sent that wants an answer, while nothing has arrived.
// It is zero if something has arrived since, or if only questions were sent whether the peer lives.
func (c *Conn) Asked() time.Time {
	if c.Written.Load()-c.answered.Load() <= c.own.Load() {
		return time.Time{}
	}
	return start.Add(time.Duration(c.asked.Load()))
}

// Delivery is what TCP tells of what was sent.
type Delivery struct {
	// Known is set if the system tells, and if the connection is TCP.
	Known bool
	// Unconfirmed is how many segments the peer's TCP has not confirmed yet.
	Unconfirmed uint32
	// Bytes is how much it has confirmed.
	Bytes int64
	// Since is how long ago the last confirmation came.
	Since time.Duration
}

// Delivered returns what TCP tells of what was sent.
func (c *Conn) Delivered() Delivery {
	if tcp, ok := c.Raw.(*net.TCPConn); ok {
		return Delivered(tcp)
	}
	return Delivery{}
}

// Read reads, and notes that the peer lives.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.At.Store(int64(time.Since(start)))
	c.answered.Store(c.Written.Load())
	c.own.Store(0)
	c.Received.Add(int64(n))
	c.Flow.add(n)
	if err != nil {
		c.Failed.Store(true)
	}
	return n, err
}

// Write writes, and notes that the peer has something to answer.
func (c *Conn) Write(p []byte) (int, error) {
	if c.Written.Load() == c.answered.Load() {
		c.asked.Store(int64(time.Since(start)))
	}
	n, err := c.Conn.Write(p)
	c.Written.Add(int64(n))
	c.Flow.add(n)
	if err != nil {
		c.Failed.Store(true)
	}
	return n, err
}

// Flow tells how many bytes have moved lately.
type Flow struct {
	mu sync.Mutex
	// second counts the seconds since start. now is how many bytes have moved in this one, and
	// before how many had in the one before.
	second      int64
	now, before int64
}

func (f *Flow) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	f.now += int64(n)
}

// Recent returns how many bytes have moved within the last one or two seconds.
func (f *Flow) Recent() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	return f.now + f.before
}

// advance begins a new second when it is time. The caller holds mu.
func (f *Flow) advance() {
	second := int64(time.Since(start) / time.Second)
	switch second - f.second {
	case 0:
		return
	case 1:
		f.before = f.now
	default:
		f.before = 0
	}
	f.second, f.now = second, 0
}
