package sshtunnel

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherSize is how many bytes may wait for others. Where more come, as in bulk, they go at once.
	gatherSize = 16 << 10
	// gatherLimit is how long they wait at most: who has promised to flush may itself be waiting for a window.
	gatherLimit = 200 * time.Microsecond
	// gatherCrowd is how many channels must be waiting for an answer for one to expect company.
	gatherCrowd = 3
	// gatherTurns is how often one goroutine sends what others bring while it is sending.
	gatherTurns = 8
)

// gatherConn sends together what several channels write at about the same time. x/crypto makes a system call of each packet, for which
// sshd then wakes up; ssh, which has one thread, sends what has come in the meantime with it. A channel alone loses no time to this.
//
// Who is going to call flush says so to hold before it writes. While somebody has, and there is a crowd, Write sends nothing itself.
type gatherConn struct {
	net.Conn
	holders atomic.Int32
	asking  atomic.Int32 // channels that have written and not been answered yet

	mu      sync.Mutex // guards what follows
	done    sync.Cond  // a Write of Conn has ended
	written int64      // bytes, ever
	sent    int64      // of these
	waiting []byte     // the others
	spare   []byte     // memory for the next of these
	sending bool       // somebody is at it
	timed   bool       // gatherLimit is running
	err     error      // nothing more can be sent
}

func newGatherConn(conn net.Conn) *gatherConn {
	c := &gatherConn{Conn: conn}
	c.done.L = &c.mu
	return c
}

func (c *gatherConn) crowded() bool { return c.asking.Load() >= gatherCrowd }

func (c *gatherConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sending && len(c.waiting)+len(p) > gatherSize {
		c.done.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	c.written += int64(len(p))
	written := c.written
	now := c.holders.Load() == 0 || !c.crowded() || len(c.waiting)+len(p) > gatherSize
	if now && !c.sending && len(c.waiting) == 0 {
		c.sendLocked(p) // not copied, for it may be bulk
	} else {
		c.waiting = append(c.waiting, p...)
		switch {
		case c.sending: // it goes next
		case now:
			c.sendLocked(nil)
		case !c.timed:
			c.timed = true
			time.AfterFunc(gatherLimit, c.late)
		}
	}
	if c.err != nil && c.sent < written {
		return 0, c.err
	}
	return len(p), nil
}

func (c *gatherConn) late() {
	c.mu.Lock()
	c.timed = false
	c.mu.Unlock()
	c.send()
}

// hold announces a flush.
func (c *gatherConn) hold() { c.holders.Add(1) }

// flush takes a hold back, and returns when all that was written before has been sent, or why it was not.
func (c *gatherConn) flush() error {
	if c.crowded() {
		runtime.Gosched() // lets those write who are about to
	}
	c.holders.Add(-1)
	return c.send()
}

// send returns when all that has been written so far has been sent, or why it was not.
func (c *gatherConn) send() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := c.written
	for c.sent < written && c.err == nil {
		if c.sending {
			c.done.Wait()
		} else {
			c.sendLocked(nil)
		}
	}
	if c.sent < written {
		return c.err
	}
	return nil
}

// sendLocked sends b, if there is one, and then what waits, until that is nothing. Others may always bring more: after some turns they are
// left to another goroutine.
func (c *gatherConn) sendLocked(b []byte) {
	c.sending = true
	if b != nil {
		c.writeLocked(b)
	}
	for turn := 0; len(c.waiting) > 0 && c.err == nil; turn++ {
		if turn == gatherTurns {
			go c.send() // ends with what waits, or with the connection
			break
		}
		b := c.waiting
		c.waiting = c.spare[:0]
		c.writeLocked(b)
		if c.spare = b; cap(b) > 4*gatherSize {
			c.spare = nil
		}
	}
	c.sending = false
	c.done.Broadcast()
}

// writeLocked writes b, without the lock. After an error the connection is closed: its reader is to notice, whoever wrote.
func (c *gatherConn) writeLocked(b []byte) {
	c.mu.Unlock()
	n, err := c.Conn.Write(b)
	if err != nil {
		c.Conn.Close()
	}
	c.mu.Lock()
	c.sent += int64(n)
	c.err = err
	c.done.Broadcast()
}
