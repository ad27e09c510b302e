package sshtunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/sshtunnel/netwatch"
)

// loop is the state of a Tunnel. One goroutine, run, owns it from New to Close. Other goroutines
// send functions, which run calls one at a time (Tunnel.send). No function may block.
type loop struct {
	t       *Tunnel
	lookout *netwatch.Lookout
	// tasks counts the attempt that is under way and the requests of listeners.
	tasks sync.WaitGroup

	// calls are those that wait for a link.
	calls map[*call]struct{}
	// listeners are those whose forward a new link is asked for.
	listeners map[*listener]struct{}

	// attempt is under way. It is nil if none is.
	attempt *attempt
	// attempts counts the attempts that have ended. Abandoned ones do not count.
	attempts int
	// lastEnd is when the last attempt ended or the last link was lost.
	lastEnd time.Time
	pacing

	// link is up, or has ended and is not cleaned up yet. It is nil if there is none.
	link *link
	// lostInUse is set when a link has been lost that was used. The tunnel is then dialed again
	// although nobody waits: whoever used the link will.
	lostInUse bool
}

// pacing says how long the next attempt waits, and why.
type pacing struct {
	// failures counts the attempts that have failed in a row.
	failures int
	// shortLinks counts the links that have ended soon, in a row. Attempts that fail between them
	// change nothing.
	shortLinks int
	// troubled is when the first attempt failed after the last link. It is zero if none has.
	troubled time.Time
	// pause is the time between lastEnd and the next attempt.
	pause time.Duration
	// retryNow shortens the pause, because a call has come since the last attempt began.
	retryNow bool
	// inVain says that one login after the other was followed by the end of the link at once. No
	// call shortens the pause then, because each login may cost the person a push.
	inVain bool
}

// call is one call that waits for a link.
type call struct {
	// once makes the call return the error of the first attempt that fails, and try even after a
	// refusal.
	once bool
	// waits makes a call with once wait all the same while the tunnel is down for a reason that may
	// pass.
	waits bool
	// seen is loop.attempts when the call came. Attempts that had ended by then do not concern it.
	seen int
	// asked is set when the call has shortened a pause. Each call does so once.
	asked bool
	// insist makes the attempt that the call starts try a login also if it was refused shortly
	// before.
	insist bool
	// joined is the attempt that was under way when the call came. It is nil if none was.
	joined *attempt
	// again reports whether the call should have another attempt because the one that it has joined
	// failed. It is called once, by the loop, and may be nil.
	again func(err error) bool
	// answer gets one value. It has room for it.
	answer chan callAnswer
}

// callAnswer is a link, or why there is none.
type callAnswer struct {
	link *link
	err  error
}

// attempt is one attempt to dial the chain.
type attempt struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	// patient says that a person may be at work on the login.
	patient bool
	// insist says that a login is tried also if it was refused shortly before.
	insist bool
	// waits says that the attempt goes on when a shared connection could not dial for a reason that
	// may pass. It rests then until that dials again.
	waits, rests bool
	// before is the state that stands again if the attempt is abandoned.
	before State
	// clocks tell whether the machine has slept since.
	clocks netwatch.Clocks
	// result gets one value. It has room for it.
	result chan callAnswer
}

// errAbandoned ends an attempt that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for the connection")

// run owns l until Close.
func (l *loop) run() {
	defer close(l.t.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Stop()
		if wait, ok := l.step(); ok {
			timer.Reset(wait)
		}
		var result chan callAnswer
		if l.attempt != nil {
			result = l.attempt.result
		}
		var linkClosed chan struct{}
		if l.link != nil {
			linkClosed = l.link.closed
		}
		select {
		case f := <-l.t.events:
			f(l)
		case r := <-result:
			l.attemptEnded(r)
		case <-linkClosed:
			l.linkLost()
		case <-timer.C:
		case <-l.t.ctx.Done():
			l.shutDown()
			return
		}
	}
}

// step does what is due. It returns how long it may be until something is due again; false if
// nothing will be before the next event.
func (l *loop) step() (time.Duration, bool) {
	for c := range l.calls {
		if answer, ok := l.decide(c); ok {
			c.answer <- answer
			delete(l.calls, c)
		}
	}
	if l.attempt != nil {
		if l.attempt.patient {
			return 0, false
		}
		switch {
		case !l.wanted():
			l.attempt.cancel(errAbandoned)
		case l.attempt.rests && l.retryNow: // a call has come, and another attempt tells that
			l.attempt.cancel(errAbandoned)
		case l.attempt.clocks.Slept() > 0: // its connection may be dead, and another one comes at once
			l.failures, l.shortLinks, l.pause, l.retryNow = 0, 0, 0, true
			l.attempt.cancel(errAbandoned)
		}
		return watchInterval, true
	}
	wait, ok := l.untilAttempt()
	if ok && wait > 0 && l.lookout.News() {
		l.failures, l.shortLinks, l.pause, wait = 0, 0, 0, 0
	}
	if ok && wait <= 0 {
		l.startAttempt()
		return watchInterval, true
	}
	return min(wait, watchInterval), ok
}

// decide returns the answer of a call; false if the call has to wait.
func (l *loop) decide(c *call) (callAnswer, bool) {
	st := l.state()
	failed := l.attempts > c.seen
	switch {
	case l.link != nil:
		// A link that has ended is about to be cleaned up.
		return callAnswer{link: l.link}, l.link.life.Err() == nil
	case st.Phase == Dialing:
	case c.once && failed && !(c.waits && st.Phase == Down):
		return callAnswer{err: st.Err}, true
	case st.Phase == Refused && (!c.once || failed):
		return callAnswer{err: st.Err}, true
	case st.Phase == NeedsPerson && (failed || !c.once && time.Since(l.lastEnd) < personPause):
		return callAnswer{err: st.Err}, true
	case !c.asked:
		c.asked, l.retryNow = true, true
	}
	return callAnswer{}, false
}

// wanted reports whether the tunnel is to be dialed, if it is not up.
func (l *loop) wanted() bool { return len(l.calls) > 0 || len(l.listeners) > 0 || l.lostInUse }

// untilAttempt returns the time until the next attempt; false if none will come without an event.
func (l *loop) untilAttempt() (time.Duration, bool) {
	if l.link != nil {
		return 0, false
	}
	switch l.state().Phase {
	case Refused, NeedsPerson:
		return 0, l.retryNow // decide has looked at the pause
	case Idle:
		return max(0, l.pause-time.Since(l.lastEnd)), l.wanted()
	}
	since := time.Since(l.lastEnd)
	wait := l.pause - since
	if l.retryNow && !l.inVain {
		wait = min(wait, minBackoff-since)
	}
	return wait, l.wanted()
}

func (l *loop) startAttempt() {
	a := &attempt{before: l.state(), clocks: l.t.cfg.machine.Clocks(), result: make(chan callAnswer, 1), insist: l.t.cfg.Insist, waits: true}
	for c := range l.calls {
		a.insist = a.insist || c.insist
		a.waits = a.waits && !c.once
	}
	a.ctx, a.cancel = context.WithCancelCause(l.t.ctx)
	l.attempt, l.retryNow = a, false
	l.setState(State{Phase: Dialing, Err: a.before.Err})
	l.tasks.Go(func() { // ends with the attempt, at the latest when a.ctx does
		link, err := l.t.dial(a, func(p progress) {
			l.t.send(func(l *loop) { l.attemptAdvanced(a, p) })
		})
		a.result <- callAnswer{link, err}
	})
}

// attemptAdvanced notes how far a has come. An attempt that has ended may still report.
func (l *loop) attemptAdvanced(a *attempt, p progress) {
	if l.attempt != a {
		return
	}
	if a.rests = p.failed != nil; a.rests {
		l.attemptRests(p.failed)
		return
	}
	a.patient = a.patient || p.patient
	st := published{State: State{Phase: Dialing, Hop: p.hop, Notice: p.notice, Err: a.before.Err}, patient: a.patient}
	if now := l.t.current.Load(); st.State != now.State || st.patient != now.patient {
		l.publish(st)
	}
}

// attemptRests notes that the process that shares the connection could not dial. It will dial again
// while we wait, and its pauses are the only ones.
func (l *loop) attemptRests(err error) {
	a := l.attempt
	a.patient = false
	a.before = State{Phase: Down, Hop: hopOf(err), Err: err}
	l.attempts++
	l.lastEnd, l.pause = time.Now(), minBackoff
	for c := range l.calls {
		c.asked = true // the attempt has asked for all that were there
	}
	l.setState(a.before)
	l.t.cfg.Log.Info("dial failed", "hop", a.before.Hop, "status", Down, "err", err)
}

// attemptEnded takes the result of the attempt that was under way.
func (l *loop) attemptEnded(r callAnswer) {
	a := l.attempt
	l.attempt = nil
	abandoned := r.err != nil && context.Cause(a.ctx) == errAbandoned
	a.cancel(nil)
	if abandoned {
		l.setState(a.before)
		return
	}
	l.attempts++
	l.lastEnd = time.Now()
	if r.err != nil {
		l.inVain = false
		l.pause = l.pauseAfter(a, r.err)
		l.failures++
		for c := range l.calls {
			if c.joined == a && c.again != nil && c.again(r.err) {
				c.seen, c.asked, c.again = l.attempts, false, nil
			}
		}
		st := State{Phase: phaseOf(r.err), Hop: hopOf(r.err), Err: r.err}
		l.setState(st)
		l.t.cfg.Log.Info("dial failed", "hop", st.Hop, "status", st.Phase, "err", st.Err)
		if l.t.cfg.Shared != nil && (st.Phase == NeedsPerson || st.Phase == Refused) {
			l.awaitShared()
		}
		return
	}
	l.link, l.troubled, l.failures = r.link, time.Time{}, 0
	l.setState(State{Phase: Up, SharedBy: r.link.sharedBy})
	for ln := range l.listeners {
		l.tasks.Go(func() { ln.renew(l.t.ctx, r.link) }) // ends with the grant, the link or the listener
	}
}

// awaitShared ends the state in which a person is needed when somebody else has brought the shared
// connection up, as by a login at a terminal. It asks the process that shares it.
func (l *loop) awaitShared() {
	t, now := l.t, l.t.current.Load()
	l.tasks.Go(func() { // ends with the state, or with the tunnel
		ticker := time.NewTicker(watchInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-now.changed:
				return
			case <-t.ctx.Done():
				return
			}
			if t.cfg.streams.isUp(t.ctx) || t.cfg.SharedElsewhere != nil && t.cfg.SharedElsewhere(t.ctx) {
				t.send(func(l *loop) {
					if l.attempt == nil && l.t.current.Load() == now {
						l.failures, l.shortLinks, l.pause = 0, 0, 0
						l.setState(State{Phase: Idle})
					}
				})
				return
			}
		}
	})
}

// pauseAfter returns the pause after an attempt that has failed. At first, a connection that is
// shared is dialed more often if no server could be asked for a login: it is dialed once for all
// who wait, and each of them may wait for the worst of its pauses only.
func (l *loop) pauseAfter(a *attempt, err error) time.Duration {
	now, pause := time.Now(), backoff(l.failures)
	if l.troubled.IsZero() {
		l.troubled = now
	}
	hop, ok := errors.AsType[*HopError](err)
	early := ok && (hop.Stage == StageConnect || hop.Stage == StageHandshake) && phaseOf(err) == Down && !a.patient
	if early && l.t.cfg.host != nil && now.Sub(l.troubled) < sharedHurry {
		pause = min(pause, sharedPause)
	}
	return pause
}

// linkLost notes that the link has ended and nothing of it is left.
func (l *loop) linkLost() {
	cause := context.Cause(l.link.life)
	if drained := context.Cause(l.link.last().ended()); errors.Is(drained, errDraining) {
		l.linkDrained(drained)
		return
	}
	l.t.cfg.Log.Info("link lost", "err", cause) // whoever looks at State tells the person
	l.lostInUse = l.link.last().used() && l.t.cfg.host == nil
	l.link = nil
	// A server may log us in and end the connection at once, again and again, and each login may
	// cost the person a push. So short links cost a pause, but for the first.
	lasted := time.Since(l.lastEnd)
	if l.shortLinks++; lasted >= stableAfter {
		l.shortLinks = 0
	}
	l.inVain = lasted < vainAfter && l.shortLinks > 1
	l.pause = 0
	if l.shortLinks > 1 {
		l.pause = backoff(l.shortLinks - 2)
	}
	l.lastEnd = time.Now()
	if l.shortLinks <= 1 && !l.wanted() {
		l.setState(State{Phase: Idle}) // nothing is in anybody's way
		return
	}
	l.setState(State{Phase: Down, Hop: hopOf(cause), Err: cause})
}

// linkDrained notes that a shared connection takes no new stream. That is no failure: the next call
// looks for another one.
func (l *loop) linkDrained(why error) {
	l.t.cfg.Log.Debug("link given up", "err", why)
	l.link, l.lostInUse = nil, false
	l.shortLinks, l.pause = 0, 0
	if time.Since(l.lastEnd) < minBackoff {
		l.pause = minBackoff // one that drains at once must not make us busy
	}
	l.lastEnd = time.Now()
	l.setState(State{Phase: Idle})
}

// shutDown ends everything and waits for it.
func (l *loop) shutDown() {
	if l.attempt != nil {
		l.link = (<-l.attempt.result).link // its context is the tunnel's, which has ended
	}
	if l.link != nil {
		l.link.close(ErrClosed)
		l.link = nil
	}
	l.t.cfg.streams.close()
	for ln := range l.listeners {
		ln.arrivals.close()
	}
	l.tasks.Wait()
	if st := l.state(); st.Err == nil || st.Phase != Down {
		l.setState(State{Phase: Down, Err: ErrClosed})
	}
}

func (l *loop) state() State { return l.t.current.Load().State }

// setState publishes a new State. Only run calls it.
func (l *loop) setState(s State) { l.publish(published{State: s}) }

func (l *loop) publish(p published) {
	p.changed, p.since = make(chan struct{}), time.Now()
	before := l.t.current.Load() // nobody else stores one
	if before.Phase == p.Phase {
		p.since = before.since
	}
	l.t.current.Store(&p)
	close(before.changed)
}
