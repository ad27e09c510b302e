// Package muxstream has the streams that a client of a shared connection has open there (package
// mux), and ends them: when their server is gone, and in time when it takes no new ones.
package muxstream

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
)

const (
	// DrainLimit is how long a stream of a server that takes no new one may go on, and QuietLimit
	// how long it may carry nothing at first. See Group.Retire.
	DrainLimit = 10 * time.Minute
	QuietLimit = time.Minute
)

// start is the base of monotonic times.
var start = time.Now()

// Set is the streams of a client at all servers that it has used. The zero value is empty. Its
// methods may be called concurrently.
type Set struct {
	mu   sync.Mutex
	open map[*Conn]struct{}
	// closed is set by Close.
	closed bool
}

// add reports false if the set is closed.
func (s *Set) add(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = map[*Conn]struct{}{}
	}
	s.open[c] = struct{}{}
	return true
}

func (s *Set) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// Close ends all streams, and those that come later. It calls drop of their groups.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.cut()
		c.group.drop()
	}
}

// Group is the streams of a Set that one server has. Its methods may be called concurrently.
type Group struct {
	set *Set
	// life ends when the server takes no new stream, or is gone.
	life context.Context
	// left is called when a stream has ended, and drop when the set is closed.
	left, drop func()
	// open counts the streams.
	open atomic.Int32
	// IdleSince is when the last stream ended, in nanoseconds of a clock that Used reads. It is 0
	// before.
	IdleSince atomic.Int64
}

// NewGroup returns a group of a set. The context ends when the server takes no new stream, or is
// gone. Set.Close calls drop, and each stream that ends calls left.
func (s *Set) NewGroup(life context.Context, left, drop func()) *Group {
	return &Group{set: s, life: life, left: left, drop: drop}
}

// Open returns how many streams there are.
func (g *Group) Open() int { return int(g.open.Load()) }

// Used reports whether there is a stream, or was one within the grace.
func (g *Group) Used(grace time.Duration) bool {
	since := g.IdleSince.Load()
	return g.open.Load() > 0 || since > 0 && time.Since(start)-time.Duration(since) < grace
}

// Cut ends the streams of the group. What has come can still be read.
func (g *Group) Cut() {
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	for c := range g.set.open {
		if c.group == g {
			c.cut()
		}
	}
}

// Retire ends streams of a server that has taken no new one for a time, and returns their remote
// addresses. Some would last as long as the program: the stream by which an MCP server sends
// notices, and connections that an HTTP client keeps for later. A server that drains would live on
// for their sake, logged in, for days.
//
// So a stream ends when it carries nothing for QuietLimit, and for less the longer the server has
// drained: down to nothing at DrainLimit. But if its last bytes went to the server, or if it has
// carried none, an answer may be due, and it has all of DrainLimit. So has a command, and so have
// all streams while busy says that an answer is due: its headers may have come early, or it comes
// on another stream than the question. Nothing that is written just then is lost: Write has either
// passed the bytes on, or fails without one.
func (g *Group) Retire(drained time.Duration, busy bool) (ended []net.Addr) {
	left := max(0, DrainLimit-drained)
	if busy && left > 0 {
		return nil
	}
	quiet := time.Duration(float64(QuietLimit) * float64(left) / float64(DrainLimit))
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	for c := range g.set.open {
		if c.group == g && c.retire(quiet, left == 0) {
			ended = append(ended, c.remote)
			c.cut()
		}
	}
	return ended
}

// Add enters a stream. Of a command, wait is for its end; else it is nil. If it returns false, the
// set is closed. The caller must close the stream in any case.
func (g *Group) Add(c, wait *mux.Conn, local, remote net.Addr) (*Conn, bool) {
	s := &Conn{Conn: c, group: g, wait: wait, local: local, remote: remote, closed: make(chan struct{})}
	s.note(true) // it was opened in order to ask for something
	g.open.Add(1)
	return s, g.set.add(s)
}
