package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// call is one request of the host.
type call struct {
	rawjson.Message
	// key is the IDKey of the id.
	key string
	// progress is the progressKey of the token that the request gave, or "". The params may be
	// long, so they are searched once.
	progress string
	arrived  time.Time
	// after is a gate that the call waits for. Nil is open. Behind it, line keeps the order.
	after <-chan struct{}
	line  place
	// ctx ends with the call. Its cause says what became of it.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// timer ends ctx Config.Timeout after the last sign of progress.
	timer *time.Timer
	phase phase
	// batch collects the answer. Nil means that the answer is a line.
	batch *batchAnswers
	// gate is closed when the call is released. It is nil for all but initialize.
	gate chan struct{}
	// signIn says that the call is of the sign-in tool.
	signIn bool
	// own takes the line that answers a request of our own. The line is valid until own returns. It
	// is nil for a call of the host.
	own func(line []byte)

	state callState
}

// place is a place in the line of calls that wait for the same gate. When the gate opens, each call
// lets the next one go. The zero value is for a call that has not had to wait.
type place struct {
	// before is closed when the call before may go, and taken when this one may.
	before <-chan struct{}
	taken  chan struct{}
}

// behind returns the place after p in the line.
func (p place) behind() place { return place{before: p.taken, taken: make(chan struct{})} }

// pass waits for the gate, and then until the call before has gone. However it ends, the next call
// may go.
func (p place) pass(ctx context.Context, gate <-chan struct{}) error {
	if p.taken != nil {
		defer close(p.taken)
	}
	if err := wait(ctx, gate); err != nil {
		return err
	}
	return wait(ctx, p.before)
}

// callState is what changes while a call is in flight.
type callState struct {
	mu sync.Mutex
	// claimed says that the call is answered, or cancelled by the host. Nothing more is written for
	// it.
	claimed bool
	// patientSince is when Config.Patience has begun: when the call arrived, or at the last sign of
	// progress.
	patientSince time.Time

	// released says that the end of the session does not wait for the call any more. It is guarded
	// by callTable.mu.
	released bool
	// progressSent is when the host was last told that the call waits. Only the watcher uses it.
	progressSent time.Time
}

func (c *call) isInit() bool { return c.Method == "initialize" }

// claim takes the right to answer c. It reports false if somebody has it already.
func (c *call) claim() bool {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	first := !c.state.claimed
	c.state.claimed = true
	return first
}

func (c *call) isClaimed() bool {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.claimed
}

// patience returns when Config.Patience has begun for c.
func (c *call) patience() time.Time {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if c.state.patientSince.IsZero() {
		return c.arrived
	}
	return c.state.patientSince
}

// keepAlive gives c its full time again.
func (c *call) keepAlive(timeout time.Duration) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if !c.state.claimed && c.timer.Stop() {
		c.timer.Reset(timeout)
		c.phase.setEnd(time.Now().Add(timeout))
		c.state.patientSince = time.Now()
	}
}

// linger ends an answered call soon. Its stream should end by itself, and if we read it to its end,
// the connection can be used again.
func (c *call) linger() { c.timer.Reset(lingerTime) }

// progressKey is the IDKey of the progressToken in the raw params, or in the member of params at
// path. It is "" if there is none.
func progressKey(params []byte, path ...string) string {
	if t := rawjson.Member(params, append(path, "progressToken")...); t != nil && rawjson.ValidID(t) {
		return rawjson.IDKey(t)
	}
	return ""
}

// cancelled is the cause of a call's end by the host.
type cancelled struct{ notification rawjson.Message }

func (*cancelled) Error() string { return "cancelled by the host" }

// carry runs f, which returns when nothing more can come of c, and ends c. enter has counted it in
// s.work.
func (s *session) carry(c *call, f func() error) {
	defer s.work.Done()
	s.finish(c, f())
}

// finish ends a call of which nothing more can come. err says why there was no answer, if there was
// none.
func (s *session) finish(c *call, err error) {
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	c.timer.Stop()
	f, cancellation := s.outcome(c, err)
	// The session must not end before the cancellation is sent.
	holding := cancellation != nil && s.calls.hold(c)
	_, byHost := errors.AsType[*cancelled](err)
	if !byHost && (f != nil || !c.isInit()) { // the opening has told its result
		f = s.tellOfCall(f)
	}
	if f != nil {
		s.answerOf(c, f.line(c.ID, s.cfg.Mask), f)
	}
	if holding {
		s.upstream.giveUp(*cancellation)
		s.calls.dealtWith()
	}
	if f == nil && !byHost {
		err = nil // answered
	}
	s.logCall(c, err)
	s.calls.release(c)
	c.cancel(nil)
	s.carried(len(c.Raw))
}

// outcome says what remains to be done for c: the fault to answer it with, and the cancellation
// that tells the upstream so. There is a cancellation only for a request that may be running.
func (s *session) outcome(c *call, err error) (*fault, *rawjson.Message) {
	running := c.phase.Load() == written
	if byHost, ok := errors.AsType[*cancelled](err); ok {
		if running {
			return nil, &byHost.notification
		}
		return nil, nil
	}
	switch {
	case c.isClaimed():
		return nil, nil // its stream was only read to the end
	case err == errTimeout && c.phase.Load() == asking:
		return timeoutFault(s.cfg.Timeout), nil
	case err == errTimeout && !running:
		if o, _ := s.cfg.Obstacle(); o != nil {
			return o.fault(), nil
		}
		return timeoutFault(s.cfg.Timeout), nil
	case err == errTimeout && c.isInit():
		return timeoutFault(s.cfg.Timeout), nil // initialize must not be cancelled
	case err == errTimeout:
		cancellation := cancelNotification(c.ID, "timeout")
		return timeoutFault(s.cfg.Timeout), &cancellation
	}
	if f, ok := errors.AsType[*fault](err); ok {
		own := *f // calls may share a fault, and tell puts each into words
		return &own, nil
	}
	if s.ctx.Err() != nil {
		return closingFault(), nil
	}
	return noAnswer("the upstream gave no answer"), nil
}

func (s *session) logCall(c *call, err error) {
	if !s.cfg.Log.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	attrs := []any{"method", excerpt(c.Method, 64), "id", logID(c.ID), "dur", time.Since(c.arrived)}
	if err != nil {
		attrs = append(attrs, "err", s.cfg.Mask(err.Error()))
	}
	s.cfg.Log.Debug("call", attrs...)
}

// maxCalls is how many requests of the host may be in flight. Further ones are answered busy.
const maxCalls = 1024

// callTable has the requests of the host that are in flight, and counts all else that the end of
// the session waits for.
type callTable struct {
	run *run

	mu sync.Mutex
	// inFlight has the calls by their key.
	inFlight map[string]*call
	// replies is how many answers of the host are on their way.
	replies int
	// pending is how many messages of the host, of whatever kind, are not yet dealt with.
	pending int
	// closed says that nothing new is taken.
	closed bool
	// drained is closed when the table is closed and nothing is pending.
	drained chan struct{}
	// final is the first final obstacle.
	final *Obstacle
}

func newCallTable(r *run) *callTable {
	return &callTable{run: r, inFlight: map[string]*call{}, drained: make(chan struct{})}
}

// enter starts the time of c and puts it into the table. It counts one goroutine in the work of the
// session, for which the caller calls Done. The fault says why c is not taken.
func (t *callTable) enter(c *call) *fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.final != nil:
		return t.final.fault()
	case t.closed:
		return closingFault()
	case t.inFlight[c.key] != nil:
		return invalidRequest("the id is that of a request in flight")
	case len(t.inFlight) >= t.run.cfg.maxCalls:
		return newFault(codeTransport, "busy", fmt.Sprintf("%d requests are in flight already", t.run.cfg.maxCalls),
			"ask again when some of them have been answered")
	}
	c.ctx, c.cancel = context.WithCancelCause(t.run.ctx)
	c.timer = time.AfterFunc(t.run.cfg.Timeout, func() { c.cancel(errTimeout) })
	c.phase.setEnd(time.Now().Add(t.run.cfg.Timeout))
	c.phase.unheard = c.progress == "" && !c.isInit()
	t.inFlight[c.key] = c
	t.countLocked()
	t.pending++
	t.run.work.Add(1) // under the lock, so that the session cannot have stopped waiting
	return nil
}

// find returns the call with the given key, or nil.
func (t *callTable) find(key string) *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inFlight[key]
}

// remove takes c, which the caller has claimed, out of the table.
func (t *callTable) remove(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inFlight[c.key] == c {
		delete(t.inFlight, c.key)
		t.countLocked()
	}
}

// countLocked tells how many calls are in flight.
func (t *callTable) countLocked() {
	if n := t.run.cfg.InFlight; n != nil {
		n.Store(int64(len(t.inFlight)))
	}
}

func (t *callTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.inFlight)
}

// selected returns the calls in flight for which is returns true. While is runs, no call comes or
// goes.
func (t *callTable) selected(is func(*call) bool) (list []*call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.inFlight {
		if is(c) {
			list = append(list, c)
		}
	}
	return list
}

// keepAlive gives the calls with the given progressKey their full time again.
func (t *callTable) keepAlive(progress string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.inFlight {
		if progress != "" && c.progress == progress {
			c.keepAlive(t.run.cfg.Timeout)
		}
	}
}

// release lets go what waits for the end of c. It may be called repeatedly.
func (t *callTable) release(c *call) {
	t.mu.Lock()
	first := !c.state.released
	c.state.released = true
	t.mu.Unlock()
	if !first {
		return
	}
	if c.gate != nil {
		close(c.gate)
	}
	t.dealtWith()
}

// hold makes the end of the session wait beyond the release of c, until dealtWith. It reports false
// if c is released already.
func (t *callTable) hold(c *call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.state.released {
		return false
	}
	t.pending++
	return true
}

// addPending counts one more message that the end of the session waits for, until dealtWith. It
// reports false if nothing new is taken, or if so many are pending already.
func (t *callTable) addPending(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.pending >= limit {
		return false
	}
	t.pending++
	return true
}

// dealtWith counts one message less that the end of the session waits for.
func (t *callTable) dealtWith() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending--; t.closed && t.pending == 0 {
		close(t.drained)
	}
}

// startReply runs f in a goroutine of the session, to carry an answer of the host. It reports false
// if nothing new is taken, or if too many answers are on their way already.
func (t *callTable) startReply(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.replies >= maxNotifications {
		return false
	}
	t.replies++
	t.pending++
	t.run.work.Go(func() { // ends with f
		f()
		t.mu.Lock()
		t.replies--
		t.mu.Unlock()
		t.dealtWith()
	})
	return true
}

// start runs f in a goroutine of the session, unless nothing new is taken. f ends with the session.
func (t *callTable) start(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.run.work.Go(f)
	}
}

// refuseAll makes o the answer to all requests from now on, and returns the calls in flight. It
// reports false if there is a final obstacle already.
func (t *callTable) refuseAll(o *Obstacle) (inFlight []*call, first bool) {
	t.mu.Lock()
	first = t.final == nil
	if first {
		t.final = o
	}
	t.mu.Unlock()
	return t.selected(func(*call) bool { return true }), first
}

// finalObstacle returns what was given to refuseAll, or nil.
func (t *callTable) finalObstacle() *Obstacle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final
}

// takes reports whether new requests are taken.
func (t *callTable) takes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final == nil && !t.closed
}

// close takes nothing new from now on. It reports whether nothing is pending.
func (t *callTable) close() (idle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return t.pending == 0
}

// drain closes the table and waits until all that was taken is dealt with, but no longer than
// grace.
func (t *callTable) drain(grace time.Duration) {
	if t.close() {
		return
	}
	select {
	case <-t.drained:
	case <-time.After(grace):
	case <-t.run.ctx.Done():
	}
}
