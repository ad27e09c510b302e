package sshtunnel

import "time"

const (
	// busyBytes is from how many bytes of the last second or two on a connection is measured. Bulk
	// is what fills the network, so the rate of bulk is unknown.
	busyBytes = 64 << 10
	// measurePause is the time between two measurements, and answerPatience is how long one takes
	// at most.
	measurePause, answerPatience = 500 * time.Millisecond, 2 * time.Second
	// slowAnswers is after how many slow answers in a row a connection counts as slow.
	slowAnswers = 2
	// slowBy is by how much an answer must come later than the fastest one to be slow, and it must
	// take twice as long. Bulk makes answers come 200 ms later at 20 Mbit/s, 50 ms at 100 Mbit/s,
	// and 15 ms at 1 Gbit/s, where a second connection is no faster.
	slowBy = 40 * time.Millisecond
)

// lane is one connection of a pool.
type lane struct {
	// own is the link of a further connection. It is nil if the lane is that of the first Tunnel.
	own *link
	// link is own, or the link of the first Tunnel that was used last. It is nil before.
	link *link
	// streams counts the streams that are open or being opened.
	streams int
	// full is set when the server has refused a stream because it has too many. It is over when a
	// stream ends.
	full bool
	// slow is set while bulk makes answers come late.
	slow bool
	// measuring is set while a goroutine does so.
	measuring bool
	// idle closes a further connection. It is nil while there is a stream.
	idle *time.Timer
}

// The ranks of lanes, the best first.
const (
	laneGood = iota
	laneSlow
	laneFull
	laneSilent
)

// rank is lower for a lane that is better for a new stream.
func (ln *lane) rank() int {
	switch {
	case ln.link != nil && isSilent(ln.link):
		return laneSilent
	case ln.full || ln.streams >= laneStreams:
		return laneFull
	case ln.slow:
		return laneSlow
	}
	return laneGood
}

// silentAfter is for how long a server owes a sign of life until its connection is silent. A
// connection that may not be silent for so long is given up before.
const silentAfter = silenceLimit + watchInterval

// lookupLimit is how long a lookup takes at most if the name server answers others at the same
// time: resolvers repeat a question that was lost after 5 s (resolv.conf(5)), and another one may
// be lost.
const lookupLimit = 11 * time.Second

// isSilent reports whether a link is left alone only because its server may be looking up a name.
// The server must have been asked: see pool.askLocked.
func isSilent(l *link) bool {
	b := l.last().heartbeat()
	return b != nil && b.answersAtAll() && b.held() != "" && b.unanswered() >= echoLimit &&
		b.owes() >= max(silentAfter, 4*time.Duration(b.best.Load()))
}

// askLocked asks the server of a link that owes an answer whether it lives. Where the user has set
// ServerAliveInterval, nobody else does so.
func (p *pool) askLocked(l *link) {
	if b := l.last().heartbeat(); b != nil && b.owes() >= doubtAfter && b.unanswered() == 0 {
		p.pingLocked(l)
	}
}

// before reports whether ln is better for a new stream than another lane that was opened earlier.
func (ln *lane) before(other *lane) bool {
	if r := other.rank(); r != ln.rank() {
		return ln.rank() < r
	} else if r == laneGood {
		return false // so that a further connection that is not needed becomes idle
	}
	return ln.streams < other.streams
}

// watchLocked begins to measure a lane that much moves on, and asks one that owes an answer.
func (p *pool) watchLocked(ln *lane) {
	l := ln.link
	if l != nil {
		p.askLocked(l)
	}
	if l == nil || ln.measuring || p.closed || l.last().heartbeat() == nil || !busy(l) {
		return
	}
	ln.measuring = true
	p.tasks.Go(func() { // ends when little moves, with the link, or with the pool
		p.measure(l, func(slow bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if ln.slow = slow && ln.link == l; ln.slow {
				p.widenLocked(maxBulkLanes) // only a stream that has come since makes us measure
			}
		})
		p.mu.Lock()
		defer p.mu.Unlock()
		ln.measuring, ln.slow = false, false
	})
}

func busy(l *link) bool { return l.last().heartbeat().conn.Flow.Recent() >= busyBytes }

// measure asks a link for answers as long as much moves on it, and reports whether they come late.
func (p *pool) measure(l *link, report func(slow bool)) {
	b := l.last().heartbeat()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for late := 0; busy(l); {
		select {
		case <-pause.C:
			pause.Reset(measurePause)
		case <-l.life.Done():
			return
		case <-p.ctx.Done():
			return
		}
		best := time.Duration(b.best.Load())
		if best == 0 {
			continue // it has never answered
		}
		if p.answerTime(l, b) > max(2*best, best+slowBy) {
			late++
		} else {
			late = 0
		}
		report(late >= slowAnswers)
	}
}

// answerTime returns how long an answer takes, and answerPatience if it takes longer.
func (p *pool) answerTime(l *link, b *heartbeat) time.Duration {
	began := time.Now()
	timer := time.NewTimer(answerPatience)
	defer timer.Stop()
	select {
	case <-b.ping(&p.tasks):
	case <-timer.C:
	case <-l.life.Done():
	case <-p.ctx.Done():
	}
	return time.Since(began)
}
