package sshtunnel

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherSize bounds how many bytes wait for those of others. More, as in bulk, go at once.
	gatherSize = 16 << 10
	// gatherLimit bounds how long they wait. Whoever has promised to flush may itself have to wait for
	// its channel's window.
	gatherLimit = 200 * time.Microsecond
	// gatherCrowd is how many channels must wait for an answer before bytes wait for those of others.
	gatherCrowd = 3
	// gatherRounds bounds how often one goroutine sends what others have brought while it was sending.
	gatherRounds = 8
)

// gatherConn sends together what several channels write at about the same time. x/crypto makes a
// system call for each packet, and sshd wakes up for each. ssh has one thread, and so sends what has
// come meanwhile in one piece. A channel that is alone loses no time by this.
//
// A channel that is going to call flush tells hold before it writes. Write then sends nothing itself,
// provided that there is a crowd.
type gatherConn struct {
	net.Conn
	holders atomic.Int32
	asking  atomic.Int32 // channels that have written and are not answered yet

	mu      sync.Mutex // guards what follows
	done    sync.Cond  // a Write of Conn has ended
	written int64      // bytes that Write has taken, ever
	sent    int64      // bytes that Conn has taken, ever
	waiting []byte     // those that Conn has not taken
	spare   []byte     // memory for the next waiting
	sending bool       // a goroutine is in sendLocked
	timed   bool       // the timer of gatherLimit runs
	err     error      // why nothing more can be sent
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
	atOnce := c.holders.Load() == 0 || !c.crowded() || len(c.waiting)+len(p) > gatherSize
	if atOnce && !c.sending && len(c.waiting) == 0 {
		c.sendLocked(p) // not copied, for it may be bulk
	} else {
		c.waiting = append(c.waiting, p...)
		switch {
		case c.sending: // who sends takes it along
		case atOnce:
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

// late sends what has waited for gatherLimit.
func (c *gatherConn) late() {
	c.mu.Lock()
	c.timed = false
	c.mu.Unlock()
	c.send()
}

// hold announces a flush.
func (c *gatherConn) hold() { c.holders.Add(1) }

// flush takes a hold back. It returns when everything that was written before has been sent, or why
// that has failed.
func (c *gatherConn) flush() error {
	if c.crowded() {
		runtime.Gosched() // those who are about to write do so now
	}
	c.holders.Add(-1)
	return c.send()
}

// send returns when everything that was written before has been sent, or why that has failed.
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

// sendLocked sends b, unless it is nil, and then what waits. Others may bring more all the time, so
// after some rounds it leaves them to another goroutine.
func (c *gatherConn) sendLocked(b []byte) {
	c.sending = true
	if b != nil {
		c.writeLocked(b)
	}
	for round := 0; len(c.waiting) > 0 && c.err == nil; round++ {
		if round == gatherRounds {
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

// writeLocked writes b, and does not hold the lock meanwhile. After an error it closes the connection,
// so that the reader notices, whoever wrote.
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
