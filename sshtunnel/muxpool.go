package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/spare"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// maxLanes is how many connections a pool may have, and maxBulkLanes is how many it may have
	// because of bulk. More than two do not help against bulk: they share the network.
	maxLanes, maxBulkLanes = 4, 2
	// maxSilentLanes is how many it may have because of silence. A lookup of a name that makes one
	// silent makes the next one silent, too.
	maxSilentLanes = 2
	// laneStreams is from how many streams on a connection is full.
	laneStreams = 200
	// laneIdle is how long a further connection stays without a stream.
	laneIdle = time.Minute
	// laneDialLimit bounds the dial of a further connection, and laneDialPause is the time to the
	// next one after one that has failed for a reason that may pass. While the first connection is
	// silent, that is silentDialPause.
	laneDialLimit, laneDialPause, silentDialPause = time.Minute, time.Minute, 2 * time.Second

	// spareTrust is how long a connection may have been silent for a spare channel of it to be
	// taken. What is sent into a dead connection is lost, and nobody knows whether the request ran.
	// A channel that is opened on need shows that the connection lives. One that lives is heard
	// every 15 s, unless ssh_config says otherwise.
	spareTrust = defaultAliveInterval + 2*time.Second
)

// pool spreads the streams of one chain over several connections. The first one is a Tunnel. It
// asks people, and remote forwards stay there. The further ones are links that the pool dials in
// the background when the first is full, when bulk on it makes small calls wait, or when it is
// silent and yet not given up, because its server may be looking up a name. They never ask, and if
// a person may be needed for a login, there are none.
//
// A stream stays where it was opened. So only new streams go around bulk, and bulk itself does not
// move. A stream that a silent server should open is opened on another connection as well.
type pool struct {
	first *Tunnel
	// ctx ends at close.
	ctx    context.Context
	cancel context.CancelFunc
	// idleAfter is laneIdle but for tests.
	idleAfter time.Duration
	// tasks counts the goroutines of the pool.
	tasks sync.WaitGroup

	mu sync.Mutex // guards what follows, and the fields of lanes
	// lanes are the connections. That of the first Tunnel is always there, as lanes[0].
	lanes  []*lane
	closed bool
	// dialing is closed when the dial that is under way has ended. It is nil if none is.
	dialing chan struct{}
	// alone is set when a further login would need a person, or was refused.
	alone bool
	// notBefore is when the next dial may begin.
	notBefore time.Time
}

// newPool makes a pool of a Tunnel, which stays the caller's. The caller must close first, and then
// the pool.
func newPool(first *Tunnel) *pool {
	p := &pool{first: first, idleAfter: laneIdle, lanes: []*lane{{}}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// close ends the further connections and waits for everything that the pool has started.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	further := slices.Clone(p.lanes[1:])
	p.mu.Unlock()
	p.cancel()
	for _, ln := range further {
		ln.own.close(ErrClosed)
		<-ln.own.closed
	}
	p.tasks.Wait()
}

// connections returns how many connections there are.
func (p *pool) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.lanes) - 1
	if p.first.current.Load().Phase == Up {
		n++
	}
	return n
}

// carry opens a stream: it runs f on a link of the pool, and again on another one if that has ended
// or has no room. If there is no error, the caller must call release when the stream has ended.
func carry[T any](ctx context.Context, p *pool, f func(*link) (T, error)) (v T, release func(), err error) {
	for range maxLanes + 1 {
		ln := p.choose()
		if ln.own != nil {
			v, err = f(ln.own)
		} else {
			v, err = withLink(ctx, p.first, func(l *link) (T, error) {
				p.uses(ln, l)
				return f(l)
			})
		}
		if err == nil {
			return v, sync.OnceFunc(func() { p.release(ln) }), nil
		}
		p.release(ln)
		if ctx.Err() != nil || !p.elsewhere(ctx, ln, err) {
			break
		}
	}
	return v, nil, err
}

// openFunc opens a stream on a link. ctx bounds the call.
type openFunc func(ctx context.Context, l *link) (opened, error)

// opening is a stream that a pool has opened, or why it has not.
type opening struct {
	far     opened
	release func()
	err     error
}

// open opens a stream as carry does. If the connection that should carry it stays silent, the
// stream is opened on another one as well, if there is one or can be without a person, and what is
// opened first counts. So a stream need not wait for a server that is stopped, and one that looks
// up a name loses nothing.
func (p *pool) open(ctx context.Context, address string, f openFunc) (far opened, release func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beside, leave := context.WithCancel(ctx)
	var on atomic.Pointer[link] // which is asked
	second := make(chan opening, 1)
	timer := time.AfterFunc(doubtAfter, func() { // ends with beside
		o := opening{err: errLost}
		if p.awaitOther(beside, &on) {
			o = p.tryOpen(beside, func(l *link) (opened, error) { return f(beside, l) })
		}
		refused, ok := errors.AsType[*OpenError](o.err)
		if o.err == nil || ok && refused.Reason == ssh.ConnectionFailed {
			p.outwait(on.Load(), address)
		}
		if o.err == nil {
			cancel()
		}
		second <- o
	})
	first := p.tryOpen(ctx, func(l *link) (opened, error) {
		on.Store(l)
		return f(ctx, l)
	})
	leave()
	if timer.Stop() {
		return first.far, first.release, first.err
	}
	other := <-second
	switch {
	case first.err != nil && other.err == nil:
		first = other
	case other.err == nil:
		other.far.stream.Close()
		other.release()
	}
	return first.far, first.release, first.err
}

func (p *pool) tryOpen(ctx context.Context, f func(*link) (opened, error)) (o opening) {
	o.far, o.release, o.err = carry(ctx, p, f)
	return o
}

// awaitOther waits until a link that is asked for a stream is silent, and another connection is
// there. It returns false if ctx ends before.
func (p *pool) awaitOther(ctx context.Context, on *atomic.Pointer[link]) bool {
	ticker := time.NewTicker(doubtInterval)
	defer ticker.Stop()
	for {
		if l := on.Load(); l != nil && p.isPassedBy(l) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

// isPassedBy reports whether a link is silent, and there is another connection that is not. If
// there is none, it begins to dial one.
func (p *pool) isPassedBy(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.askLocked(l); !isSilent(l) {
		return false
	}
	for _, ln := range p.lanes {
		if ln.link != nil && ln.link != l && ln.link.life.Err() == nil && ln.rank() < laneFull {
			return true
		}
	}
	p.widenLocked(maxSilentLanes)
	return false
}

// outwait gives up a link that stays silent for the sake of an address which another connection has
// had an answer for.
func (p *pool) outwait(l *link, address string) {
	b := l.last().heartbeat()
	received := b.conn.Received.Load()
	if !l.doubted || b.held() != address {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.tasks.Go(func() { // ends with the link, with the pool, or in a few seconds
		timer := time.NewTimer(lookupLimit - b.owes())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.life.Done():
		case <-p.ctx.Done():
		}
		if silence := b.owes(); isSilent(l) && b.conn.Received.Load() == received && silence >= lookupLimit {
			l.fail(l.last().place().error(StageLink, &SilentError{After: silence.Round(time.Millisecond)}))
		}
	})
}

// choose returns the lane for a new stream, and counts the stream. It asks for one more connection
// if no lane is good.
func (p *pool) choose() *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	lanes := p.lanes
	if len(lanes) > 1 && p.first.current.Load().Phase != Up {
		lanes = lanes[1:] // a stream need not wait
	}
	best := lanes[0]
	for _, ln := range lanes {
		p.watchLocked(ln)
		if ln.before(best) {
			best = ln
		}
	}
	switch best.rank() {
	case laneSlow:
		p.widenLocked(maxBulkLanes)
	case laneFull:
		p.widenLocked(maxLanes)
	case laneSilent:
		p.widenLocked(maxSilentLanes)
	}
	p.takeLocked(best)
	return best
}

// release notes that a stream has ended.
func (p *pool) release(ln *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ln.streams--
	ln.full = false
	if ln.own != nil && ln.streams == 0 {
		p.idleLocked(ln)
	}
}

// idleLocked closes a further connection in a while, unless a stream comes.
func (p *pool) idleLocked(ln *lane) {
	ln.idle = time.AfterFunc(p.idleAfter, func() {
		p.mu.Lock()
		unused := ln.streams == 0
		if unused {
			p.dropLocked(ln)
		}
		p.mu.Unlock()
		if unused {
			ln.own.fail(errLaneIdle)
		}
	})
}

// errLaneIdle ends a further connection.
var errLaneIdle = errors.New("the connection was not needed any more")

// dropLocked takes a lane out of the pool.
func (p *pool) dropLocked(ln *lane) {
	p.lanes = slices.DeleteFunc(p.lanes, func(other *lane) bool { return other == ln })
	if ln.idle != nil {
		ln.idle.Stop()
	}
}

// openSpare opens a connection that is no stream yet. It never makes the first Tunnel dial.
func (p *pool) openSpare(ctx context.Context, address string) (*spare.Conn, error) {
	ln, l := p.spareLane()
	if l == nil {
		return nil, spare.ErrNotNow
	}
	opener, ok := l.last().(spareOpener)
	if !ok {
		return nil, fmt.Errorf("%w: the connection belongs to another program", spare.ErrNotNow)
	}
	ch, err := opener.openSpare(ctx, "tcp", address)
	if errors.Is(err, errLost) {
		return nil, fmt.Errorf("%w: %w", spare.ErrNotNow, err)
	}
	if err != nil {
		return nil, err
	}
	return &spare.Conn{
		Stream: ch, Ended: ch.ended, Link: l,
		Claim: func() bool {
			if !p.join(ln, l) {
				return false
			}
			if !ch.claim() {
				p.release(ln)
				return false
			}
			return true
		},
		Release: sync.OnceFunc(func() { p.release(ln) }),
	}, nil
}

// spareLane returns a lane that is good for a new stream, and its link. The link is nil if there is
// none.
func (p *pool) spareLane() (*lane, *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range p.lanes {
		if ln.rank() == laneGood && ln.link != nil && ln.link.life.Err() == nil {
			return ln, ln.link
		}
	}
	return nil, nil
}

// join counts a stream on a link of a lane. It returns false if the lane is not good for a new
// stream, or has another link now.
func (p *pool) join(ln *lane, l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := l.last().heartbeat()
	if ln.link != l || l.life.Err() != nil || b == nil || !slices.Contains(p.lanes, ln) {
		return false
	}
	if time.Since(b.conn.Last()) > spareTrust {
		return false
	}
	p.watchLocked(ln)
	if ln.rank() != laneGood {
		return false
	}
	p.takeLocked(ln)
	return true
}

// takeLocked counts a stream.
func (p *pool) takeLocked(ln *lane) {
	ln.streams++
	if ln.idle != nil {
		ln.idle.Stop()
		ln.idle = nil
	}
}

// elsewhere reports whether a stream that a lane could not open may be opened on another one. It
// waits for a further connection only if the server has no room: without one the stream would fail.
func (p *pool) elsewhere(ctx context.Context, ln *lane, err error) bool {
	if ln.own != nil && errors.Is(err, errLost) {
		p.mu.Lock()
		p.dropLocked(ln)
		p.mu.Unlock()
		ln.own.fail(ln.own.last().place().error(StageLink, err))
		return true
	}
	refused, ok := errors.AsType[*OpenError](err)
	if !ok || refused.Reason != ssh.ResourceShortage || refused.unasked { // another connection would not be answered either
		return false
	}
	p.mu.Lock()
	ln.full = true
	p.widenLocked(maxLanes)
	dialing := p.dialing
	p.mu.Unlock()
	if dialing != nil {
		select {
		case <-dialing:
		case <-ctx.Done():
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.lanes, func(other *lane) bool { return other.rank() < laneFull })
}

// uses notes which link of the first Tunnel is used. The answer of a link that nothing has used yet
// tells how fast it is.
func (p *pool) uses(ln *lane, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ln.link == l {
		return
	}
	ln.link, ln.full, ln.slow = l, false, false
	// A login without the program that has made this one may need a person.
	byOthers := slices.ContainsFunc(l.hops, func(h hop) bool { return h.heartbeat() == nil })
	p.alone = p.alone || l.attended || byOthers
	p.pingLocked(l)
}

func (p *pool) pingLocked(l *link) {
	if b := l.last().heartbeat(); b != nil && !p.closed {
		p.tasks.Go(func() { b.ping(&p.tasks) }) // the answer comes at the latest when the link ends
	}
}

// widenLocked begins to dial one more connection unless there are as many as limit, or a person may
// be needed. One is dialed at a time, because sshd refuses some if many log in at once
// (sshd_config(5), MaxStartups).
func (p *pool) widenLocked(limit int) {
	first := p.lanes[0].link
	switch {
	case p.closed || p.alone || p.dialing != nil || len(p.lanes) >= limit || time.Now().Before(p.notBefore):
		return
	case first == nil || first.life.Err() != nil:
		return // it is not known yet whether its login needs a person
	}
	dialing := make(chan struct{})
	p.dialing = dialing
	p.tasks.Go(func() { // ends with the dial
		defer close(dialing)
		ctx, cancel := context.WithTimeout(p.ctx, laneDialLimit)
		defer cancel()
		l, err := p.dialQuietly(ctx)
		if !p.dialed(l, err) && l != nil {
			l.close(ErrClosed)
		}
	})
}

// dialQuietly dials a link that bothers nobody: no question is asked, and no method is tried by
// which a server could.
func (p *pool) dialQuietly(ctx context.Context) (*link, error) {
	cfg := p.first.cfg
	cfg.Ask, cfg.Notice, cfg.Terminal = nil, func(Notice) {}, false
	cfg.ControlMaster = MasterNever
	cfg.Refusals = nil // the first Tunnel must not be refused for what was tried here
	if err := cfg.host.admit(); err != nil {
		return nil, err
	}
	hosts, err := cfg.Chain(ctx)
	if err != nil {
		return nil, err
	}
	quiet := make([]*sshconfig.Host, len(hosts))
	for i, h := range hosts {
		c := *h
		c.BatchMode = true
		quiet[i] = &c
	}
	return dialLink(ctx, &cfg, quiet, func(progress) {})
}

// dialed takes the result of a dial. It returns false if the link is not wanted.
func (p *pool) dialed(l *link, err error) bool {
	log := p.first.cfg.Log
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = nil
	switch {
	case err != nil && phaseOf(err) == Down:
		pause := laneDialPause
		if p.lanes[0].rank() == laneSilent {
			pause = silentDialPause
		}
		p.notBefore = time.Now().Add(pause)
		log.Info("another connection failed", "err", err)
		return false
	case err != nil:
		p.alone = true
		log.Info("one connection must do, because another one would need a person", "err", err)
		return false
	case p.closed:
		return false
	}
	p.alone = p.alone || l.attended
	ln := &lane{own: l, link: l}
	p.lanes = append(p.lanes, ln)
	p.idleLocked(ln)
	p.pingLocked(l)
	context.AfterFunc(l.life, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dropLocked(ln)
	})
	log.Info("another connection is up", "connections", len(p.lanes))
	return true
}
