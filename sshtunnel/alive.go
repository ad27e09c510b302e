package sshtunnel

import (
	"fmt"
	"net"
	"sync"
	"time"

	"sallyport/sshtunnel/sshconfig"
)

const (
	// Keepalive where the user sets none: a dead link is found within 45 s.
	defaultAliveInterval = 15 * time.Second
	defaultAliveCount    = 3

	// watchInterval lies between two looks at the clocks and the local address.
	watchInterval = 2 * time.Second
	// sleepJump is how far the wall clock must run ahead of the monotonic one, which stands still in
	// sleep, to tell of a sleep.
	sleepJump = 5 * time.Second
	// probeLimit is how long a link may take to answer when there is reason to doubt it.
	probeLimit = 5 * time.Second
)

// alive is how a hop is watched: asked for a sign of life after each silent interval, given up
// after count of them (ssh_config(5), ServerAliveInterval, ServerAliveCountMax). Any byte is a sign.
type alive struct {
	interval time.Duration // 0: not watched
	count    int
}

// aliveOf returns the settings for each hop of a chain. A request to an inner hop passes all hops
// outside it, so where the user sets nothing the last hop alone is asked.
func aliveOf(chain []*sshconfig.Host) []alive {
	all := make([]alive, len(chain))
	watched := false // by this hop or a later one
	for i := len(chain) - 1; i >= 0; i-- {
		switch h := chain[i]; {
		case h.ServerAliveSet && h.ServerAliveInterval > 0:
			all[i] = alive{h.ServerAliveInterval, max(1, h.ServerAliveCountMax)}
		case !h.ServerAliveSet && !watched:
			all[i] = alive{defaultAliveInterval, defaultAliveCount}
		}
		watched = watched || all[i].interval > 0
	}
	return all
}

func (l *link) startKeepalive() {
	chain := make([]*sshconfig.Host, len(l.hops))
	for i, hp := range l.hops {
		chain[i] = hp.host
	}
	for i, a := range aliveOf(chain) {
		if a.interval > 0 && l.hops[i].master == nil {
			l.wg.Go(func() { l.keepalive(l.hops[i], a) }) // ends with the link
		}
	}
}

// keepalive ends the link when nothing has arrived from a hop for interval x count.
func (l *link) keepalive(hp *hop, a alive) {
	limit, interval := a.interval*time.Duration(a.count), a.interval
	if a.count == 1 {
		interval /= 2 // ask before giving up
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for received, since := hp.conn.received.Load(), time.Now(); ; {
		select {
		case <-timer.C:
		case <-l.done:
			return
		}
		if now := hp.conn.received.Load(); now != received {
			received, since = now, hp.conn.last()
		}
		silent := time.Since(since)
		if silent >= limit {
			l.fail(hp.error(StageLink, fmt.Errorf("no sign of life for %v", silent.Round(time.Millisecond))))
			return
		}
		// Look again when this silence is another interval old.
		timer.Reset(interval - silent%interval)
		if silent >= interval {
			l.ping(hp)
		}
	}
}

// pinging is the request for a sign of life that is under way, if any: x/crypto's SendRequest waits
// for its answer, and a dead peer is not to collect goroutines.
type pinging struct {
	mu   sync.Mutex
	done chan struct{} // closed at the answer; nil: none was sent
}

// ping asks a hop for a sign of life, unless an earlier request is not answered yet. The channel is
// closed at the answer, or when the link ends.
func (l *link) ping(hp *hop) <-chan struct{} {
	p := &hp.pinging
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil || isDone(p.done) {
		done := make(chan struct{})
		p.done = done
		l.wg.Go(func() { // ends with the answer, or with the link
			defer close(done)
			hp.client.SendRequest("keepalive@openssh.com", true, nil)
		})
	}
	return p.done
}

// machine is what a link looks at besides its peers.
type machine struct {
	wall  func() time.Time // without a monotonic reading
	addrs func() ([]net.Addr, error)
}

var thisMachine = machine{
	wall:  func() time.Time { return time.Now().Round(0) },
	addrs: net.InterfaceAddrs,
}

// clocks tell of a sleep, in which the monotonic one stands still.
type clocks struct {
	m          machine
	mono, wall time.Time // of the last look
}

func (m machine) clocks() clocks { return clocks{m, time.Now(), m.wall()} }

// slept returns how long the machine has slept since the last look; what is below sleepJump means
// nothing.
func (c *clocks) slept() time.Duration {
	before := *c
	*c = c.m.clocks() // read once: nothing may be lost between
	return c.wall.Sub(before.wall) - c.mono.Sub(before.mono)
}

// lookout notices what makes it worth to try again at once: the machine has slept, or has got an
// address, so that the network may be another.
type lookout struct {
	clocks clocks
	addrs  map[string]bool // that the machine had at the last look
}

func (m machine) lookout() *lookout {
	o := &lookout{clocks: m.clocks(), addrs: map[string]bool{}}
	o.newAddress()
	return o
}

// news reports whether something has happened since the last look.
func (o *lookout) news() bool {
	slept, moved := o.clocks.slept() >= sleepJump, o.newAddress()
	return slept || moved
}

func (o *lookout) newAddress() bool {
	addrs, err := o.clocks.m.addrs()
	if err != nil {
		return false
	}
	before, found := o.addrs, false
	o.addrs = map[string]bool{}
	for _, a := range addrs {
		o.addrs[a.String()] = true
		found = found || !before[a.String()]
	}
	return found
}

// watch probes the link at once when the machine has slept, or has lost the address that the
// outermost connection leaves by. It ends with the link.
func (l *link) watch(m machine) {
	local := l.localIP()
	if local != nil && !m.has(local) {
		local = nil // not told by the system: its absence would mean nothing
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for clocks := m.clocks(); ; {
		select {
		case <-ticker.C:
		case <-l.done:
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

// has reports whether an interface has the address; true where the system does not tell.
func (m machine) has(ip net.IP) bool {
	addrs, err := m.addrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// probe ends the link unless something arrives from its last hop within probeLimit.
func (l *link) probe(why string) {
	hp := l.last()
	received := hp.conn.received.Load()
	timer := time.NewTimer(probeLimit)
	defer timer.Stop()
	select {
	case <-l.ping(hp):
	case <-timer.C:
		if hp.conn.received.Load() == received {
			l.fail(hp.error(StageLink, fmt.Errorf("no sign of life within %v %s", probeLimit, why)))
		}
	case <-l.done:
	}
}
