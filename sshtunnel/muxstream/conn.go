package muxstream

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"sallyport/sshtunnel/mux"
)

// Conn is a stream. Deadlines, the end of one direction and the
// waiting for a slow reader are what the system makes of the local connection.
type Conn struct {
	*mux.Conn
	group *Group
	// wait is for the end of a command. It is nil for other streams.
	wait          *mux.Conn
	local, remote net.Addr

	once sync.Once
	// closed is closed by Close.
	closed chan struct{}
	// watched and over are for Ended.
	watched sync.Once
	over    chan struct{}

	mu sync.Mutex
	// moved is when bytes have moved last, since start.
	moved time.Duration
	// asks is set when the last bytes went to the server, and before there are any.
	asks bool
	// retired is set when nothing may be written any more.
	retired bool
}

// note notes that bytes move. It reports false if none may.
func (c *Conn) note(asks bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired {
		c.moved, c.asks = time.Since(start), asks
	}
	return !c.retired
}

// retire reports whether the stream is to end, if it may be quiet for so long, or at any rate.
func (c *Conn) retire(quiet time.Duration, anyhow bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.asks || c.wait != nil
	if c.retired || !anyhow && (waits || time.Since(start)-c.moved < quiet) {
		return false
	}
	c.retired = true
	return true
}

// Read reads what comes from the far side.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.note(false)
	}
	return n, err
}

// Write writes to the far side.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.note(true) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// Close frees whoever waits in Read or Write. What was written is still sent. A second call returns
// net.ErrClosed.
func (c *Conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		close(c.closed)
		c.group.set.remove(c)
		c.group.IdleSince.Store(int64(time.Since(start)))
		c.group.open.Add(-1)
		c.group.left()
		if c.wait != nil {
			c.wait.Close()
		}
		err = c.Conn.Close()
	})
	return err
}

// cut ends the stream because its server is gone.
func (c *Conn) cut() {
	c.Shutdown()
	if c.wait != nil {
		c.wait.Close()
	}
}

// Ended returns a channel that is closed when nothing can be sent any more, nor come. It must be
// called when reading has ended.
func (c *Conn) Ended() <-chan struct{} {
	c.watched.Do(func() {
		c.over = make(chan struct{})
		go func() { // ends with the stream
			defer close(c.over)
			if !errors.Is(c.AwaitHangup(), os.ErrInvalid) {
				return
			}
			select { // the system does not tell
			case <-c.closed:
			case <-c.group.life.Done():
			}
		}()
	})
	return c.over
}

// Closed returns a channel that is closed by Close.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// LocalAddr returns an address that names the hop.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address that the stream leads to, or comes from.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }
