package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
)

// call is one request of the host.
type call struct {
	rawjson.Message
	key      string
	progress string // progressKey of the token it gave; "" none. The params may be long, so they are searched once
	init     bool
	arrived  time.Time
	after    <-chan struct{} // wait for it before sending; nil: go
	ctx      context.Context // the cause says what became of the call
	cancel   context.CancelCauseFunc
	timer    *time.Timer // Config.Timeout since the last sign of progress
	phase    atomic.Int32
	batch    *batchAnswers // collects the answer; nil: the answer is a line
	gate     chan struct{} // closed by release; nil for most
	opens    *opening      // an attempt at its initialize, and not in the table
	local    bool          // of the sign-in tool

	// guarded by session.mu
	done     bool // answered, or cancelled by the host: nothing more is written for it
	released bool
	refusal  *fault    // of opens: the server's error, which the host was not told
	told     time.Time // when it was last told of by progress that the call waits
}

// How far a call has come upstream.
const (
	unsent  = iota // nothing of it was written, or what was written was refused: it has not run
	written        // it may have run
	replied        // bytes of an answer came, but the RoundTripper still keeps it: it is dealing with a refusal
)

// cancelled is the cause of a call's end by the host.
type cancelled struct{ notice rawjson.Message }

func (*cancelled) Error() string { return "cancelled by the host" }

func (s *session) request(m rawjson.Message, b *batchAnswers) {
	c := &call{Message: m, key: rawjson.IDKey(m.ID), progress: progressKey(m.Params, "_meta"), init: m.Method == "initialize",
		arrived: time.Now(), after: s.ready, batch: b}
	if c.init && b != nil {
		s.refuse(m.ID, invalidRequest("initialize in a batch"), b)
		return
	}
	f := s.hide.refuse(m)
	early := s.early.Load()
	if early != nil && !c.init && f == nil {
		if s.inPlace(early, m, b) {
			return
		}
		c.local = m.Method == "tools/call" && rawjson.MemberText(m.Params, "name") == signInTool
	}
	s.mu.Lock()
	switch {
	case f != nil:
	case s.final != nil:
		f = obstacleFault(s.final)
	case s.closed:
		f = closingFault()
	case s.calls[c.key] != nil:
		f = invalidRequest("the id is that of a request in flight")
	case len(s.calls) >= maxCalls:
		f = &fault{code: codeTransport, kind: "busy", text: fmt.Sprintf("%d requests are in flight already", maxCalls),
			hints: []string{"ask again when some of them have been answered"}}
	default:
		c.ctx, c.cancel = context.WithCancelCause(s.ctx)
		c.timer = time.AfterFunc(s.cfg.Timeout, func() { c.cancel(errTimeout) })
		s.calls[c.key] = c
		s.pending++
		// Each ends with the call's context at the latest. Under the lock, so that leave cannot stop waiting before it.
		switch {
		case c.init:
			s.beginLocked(c)
		case c.local:
			s.work.Go(func() { s.finish(c, s.signIn(c, early)) })
		case b != nil:
			s.work.Go(func() { s.finish(c, s.up.call(c)) })
		default:
			s.work.Add(1)
			s.next = func() { defer s.work.Done(); s.finish(c, s.up.call(c)) } // by the reader's goroutine
		}
		if early != nil && !c.local {
			early.wake()
		}
		if c.Method == "server/discover" && s.opening == nil {
			s.discovered = c.arrived
			s.work.Go(func() { s.discoverEarly(c) }) // ends with the call
		}
	}
	s.mu.Unlock()
	if f != nil {
		s.refuse(m.ID, f, b)
	}
}

// cancelCall ends the call that a notifications/cancelled names. The call's own goroutine sends the notice on, so that it
// cannot overtake the request.
func (s *session) cancelCall(m rawjson.Message) {
	id := rawjson.Member(m.Params, "requestId")
	if id == nil || !rawjson.ValidID(id) {
		return
	}
	s.mu.Lock()
	c := s.calls[rawjson.IDKey(id)]
	if c == nil || c.init { // answered meanwhile; or initialize, which must not be cancelled
		s.mu.Unlock()
		return
	}
	c.done = true
	delete(s.calls, c.key)
	s.mu.Unlock()
	c.cancel(&cancelled{m})
	if c.batch != nil {
		s.batched(c.batch, nil)
	}
}

// batchAnswers collects what answers a batch, which is one array again (2025-03-26, basic, "Batching"). Upstream the
// elements travel one by one.
type batchAnswers struct {
	// guarded by session.mu
	open int // answers still to come, and one while the batch is being read
	line []byte
}

func (s *session) batch(m rawjson.Message, outer *batchAnswers) {
	if outer != nil || len(m.Elems) == 0 {
		s.refuse(nil, invalidRequest("an empty or nested batch"), outer)
		return
	}
	b := &batchAnswers{open: 1}
	for _, e := range m.Elems {
		em, err := rawjson.Parse(e)
		if err != nil {
			em = rawjson.Message{}
		}
		if em.Kind == rawjson.Request || em.Kind == rawjson.Batch || em.Kind == rawjson.Invalid {
			s.mu.Lock()
			b.open++
			s.mu.Unlock()
		}
		s.dispatch(em, b)
	}
	s.batched(b, nil)
}

// batched adds an answer to its batch; nil: there will be none.
func (s *session) batched(b *batchAnswers, line []byte) {
	s.mu.Lock()
	if line != nil {
		sep := byte(',')
		if len(b.line) == 0 {
			sep = '['
		}
		b.line = append(append(b.line, sep), line...)
	}
	b.open--
	last := b.open == 0 && len(b.line) > 0
	s.mu.Unlock()
	if last {
		s.write(append(b.line, ']'))
	}
}

// refuse answers a request that was never entered in the table; a nil id becomes null.
func (s *session) refuse(id []byte, f *fault, b *batchAnswers) {
	line := f.line(id, s.cfg.Mask)
	if b != nil {
		s.batched(b, line)
	} else {
		s.write(line)
	}
	s.checkFinal()
}

// answer writes the answer to c unless c has been answered or cancelled, and reports whether it did.
func (s *session) answer(c *call, line []byte) bool {
	if c.opens != nil {
		s.greeted(c, line)
		return true
	}
	s.mu.Lock()
	if c.done {
		s.mu.Unlock()
		return false
	}
	c.done = true
	delete(s.calls, c.key)
	others := len(s.calls) >= gatherCrowd
	s.mu.Unlock()
	if c.Method == "tools/list" {
		line = s.hide.list(line)
	}
	if c.batch != nil {
		s.batched(c.batch, line)
	} else {
		s.writeWith(line, others)
	}
	s.release(c)
	s.checkFinal()
	switch c.Method {
	case "tools/list":
		s.rememberTools(c, line)
	case "server/discover":
		s.remember(memoryDiscover, rawjson.Member(line, "result"))
	}
	return true
}

// touch gives c its full time again.
func (s *session) touch(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.done && c.timer.Stop() {
		c.timer.Reset(s.cfg.Timeout)
	}
}

// endless takes c, a stream that is meant to last, out of the limits: it has no time limit, and the session's end does not wait for it.
func (s *session) endless(c *call) {
	c.timer.Stop()
	s.release(c)
}

// finish ends a call that its wire has done with; err says why there was no answer, if there was none.
func (s *session) finish(c *call, err error) {
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	c.timer.Stop()
	f, notice := s.outcome(c, err)
	held := notice != nil && s.hold(c)
	if f != nil {
		s.answer(c, f.line(c.ID, s.cfg.Mask))
	}
	if held {
		s.up.giveUp(*notice)
		s.settle()
	}
	if f == nil && !errors.As(err, new(*cancelled)) {
		err = nil // answered
	}
	s.logCall(c, err)
	s.release(c)
	c.cancel(nil)
	s.carried(len(c.Raw))
}

// outcome says what remains to be done for c: the fault to answer it with, and the notice to tell the upstream that nobody
// waits for it any more. The notice is only for a request that may be running there.
func (s *session) outcome(c *call, err error) (*fault, *rawjson.Message) {
	running := c.phase.Load() == written
	var byHost *cancelled
	var f *fault
	switch {
	case errors.As(err, &byHost):
		if running {
			return nil, &byHost.notice
		}
		return nil, nil
	case s.answered(c):
		return nil, nil // its stream was only read to the end
	case err == errTimeout && !running:
		if o, _ := s.cfg.Obstacle(); o != nil {
			return obstacleFault(o), nil
		}
		return timeoutFault(s.cfg.Timeout), nil
	case err == errTimeout && c.init:
		return timeoutFault(s.cfg.Timeout), nil // initialize is never cancelled
	case err == errTimeout:
		notice := cancelNotice(c.ID, "timeout")
		return timeoutFault(s.cfg.Timeout), &notice
	case errors.As(err, &f):
		return f, nil
	case s.ctx.Err() != nil:
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

// release lets go what waited for the end of c. It may be called again.
func (s *session) release(c *call) {
	s.mu.Lock()
	first := !c.released
	c.released = true
	s.mu.Unlock()
	if !first {
		return
	}
	if c.gate != nil {
		close(c.gate)
	}
	s.settle()
}

func (s *session) answered(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.done
}

// hold keeps drain waiting beyond the release of c, until settle, unless c is released already.
func (s *session) hold(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.released {
		return false
	}
	s.pending++
	return true
}

// progressKey is the IDKey of the progressToken in params, or in the member of params at path. It is "" if there is none.
func progressKey(params []byte, path ...string) string {
	if t := rawjson.Member(params, append(path, "progressToken")...); t != nil && rawjson.ValidID(t) {
		return rawjson.IDKey(t)
	}
	return ""
}
