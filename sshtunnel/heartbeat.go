package sshtunnel

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/sshconfig"
)

const (
	// defaultAliveInterval and defaultAliveCount hold for a chain whose user sets neither. A dead
	// link is then found within 45 s.
	defaultAliveInterval = 15 * time.Second
	defaultAliveCount    = 3

	// watchInterval is the time between two looks at the clocks and the local address.
	watchInterval = 2 * time.Second
	// probeLimit is how long a link may take to answer when there is reason to doubt it.
	probeLimit = 5 * time.Second
)

// heartbeat asks the server of one hop for signs of life. Any byte that arrives is a sign of life.
type heartbeat struct {
	// conn counts the bytes that arrive.
	conn *countedConn
	// request asks the server for an answer. It returns when the answer has come, or an error when
	// the connection has ended.
	request func() error
	// answered is told how long an answer took. It may be nil.
	answered func(time.Duration)

	mu sync.Mutex
	// pending is closed when the latest request is answered. It is nil before the first one.
	pending chan struct{}
}

// ping requests an answer, unless an earlier request is not answered yet: requests to a dead server
// must not pile up. The returned channel is closed at the answer, or when the connection ends. ping
// may start a goroutine in tasks, which ends at the same time.
func (b *heartbeat) ping(tasks *sync.WaitGroup) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == nil || isDone(b.pending) {
		done := make(chan struct{})
		b.pending = done
		tasks.Go(func() { // ends with the answer, or with the connection
			defer close(done)
			sent := time.Now()
			if err := b.request(); err == nil && b.answered != nil {
				b.answered(time.Since(sent))
			}
		})
	}
	return b.pending
}

// localIP returns the address that the connection leaves the machine by. It is nil if the
// connection is not TCP or does not leave the machine.
func (b *heartbeat) localIP() net.IP {
	local, ok := b.conn.LocalAddr().(*net.TCPAddr)
	if !ok || local.IP.IsLoopback() {
		return nil
	}
	return local.IP
}

// alive says how a hop is watched. After each silent interval it is asked for a sign of life, and
// after count silent intervals it is given up. These are ServerAliveInterval and
// ServerAliveCountMax of ssh_config(5). An interval of 0 turns this off.
type alive struct {
	interval time.Duration
	count    int
}

// aliveOf returns how each hop of a chain is watched. A request to an inner hop passes all hops
// before it, so if the user sets nothing, only the last hop is asked, each interval unset.
func aliveOf(chain []*sshconfig.Host, unset time.Duration) []alive {
	all := make([]alive, len(chain))
	watched := false // this hop or a later one is asked
	for i := len(chain) - 1; i >= 0; i-- {
		switch h := chain[i]; {
		case h.ServerAliveSet && h.ServerAliveInterval > 0:
			all[i] = alive{h.ServerAliveInterval, max(1, h.ServerAliveCountMax)}
		case !h.ServerAliveSet && !watched:
			all[i] = alive{unset, defaultAliveCount}
		}
		watched = watched || all[i].interval > 0
	}
	return all
}

// keepalive ends the link when nothing has arrived from a hop for interval x count. It returns when
// the link ends.
func (l *link) keepalive(where place, b *heartbeat, a alive) {
	limit, interval := a.interval*time.Duration(a.count), a.interval
	if a.count == 1 {
		interval /= 2 // ask once before giving up
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for received, since := b.conn.received.Load(), time.Now(); ; {
		select {
		case <-timer.C:
		case <-l.life.Done():
			return
		}
		if now := b.conn.received.Load(); now != received {
			received, since = now, b.conn.last()
		}
		silent := time.Since(since)
		if silent >= limit {
			l.fail(where.error(StageLink, fmt.Errorf("no sign of life for %v", silent.Round(time.Millisecond))))
			return
		}
		timer.Reset(interval - silent%interval) // look again when one more interval of silence is over
		if silent >= interval {
			b.ping(&l.tasks)
		}
	}
}

// watch probes the link at once when the machine has slept, or has lost the address that the
// outermost connection leaves by. It returns when the link ends.
func (l *link) watch(m machine) {
	local := l.localIP()
	if local != nil && !m.has(local) {
		local = nil // the system does not list it, so its absence means nothing
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for clocks := m.clocks(); ; {
		select {
		case <-ticker.C:
		case <-l.life.Done():
			return
		}
		switch slept := clocks.slept(); {
		case slept >= sleepJump:
			l.probe(fmt.Sprintf("after a sleep of %v", slept.Round(time.Second)))
		case local != nil && !m.has(local):
			l.probe(fmt.Sprintf("after the local address %v was lost", local))
		}
	}
}

// probe ends the link unless something arrives from its last hop within probeLimit.
func (l *link) probe(why string) {
	b := l.last().heartbeat()
	received := b.conn.received.Load()
	timer := time.NewTimer(probeLimit)
	defer timer.Stop()
	select {
	case <-b.ping(&l.tasks):
	case <-timer.C:
		if b.conn.received.Load() == received {
			l.fail(l.last().place().error(StageLink, fmt.Errorf("no sign of life within %v %s", probeLimit, why)))
		}
	case <-l.life.Done():
	}
}

// countedConn counts what arrives, because any byte is a sign of life.
type countedConn struct {
	net.Conn
	// received counts bytes.
	received atomic.Int64
	// at is when the last bytes came, in nanoseconds since start.
	at atomic.Int64
	// failed is set when a Read or Write has failed.
	failed atomic.Bool
}

// start is the base of monotonic times.
var start = time.Now()

// last returns when bytes last arrived.
func (c *countedConn) last() time.Time { return start.Add(time.Duration(c.at.Load())) }

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.at.Store(int64(time.Since(start)))
	c.received.Add(int64(n))
	if err != nil {
		c.failed.Store(true)
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.failed.Store(true)
	}
	return n, err
}
