package relay

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// opening is one initialize of the host: attempts to carry it upstream, until one brings a result. From
// Config.InitPatience on the host is answered in the server's place.
type opening struct {
	c    *call         // the host's initialize
	kick chan struct{} // holds one token: the host waits for a new attempt
	done chan struct{} // closed when result is set

	// lists is held while a list of ours is written, so that the notice of its change cannot overtake it.
	lists sync.Mutex

	// guarded by session.mu
	early     []byte   // the result that was told in the server's place; nil: none was
	tools     [][]byte // the last session's
	result    []byte   // the server's own
	person    bool     // a sign-in has been in the way
	unoffered bool     // the host has a list of tools without the one to sign in
}

// beginLocked makes c the session's opening, in place of any other.
func (s *session) beginLocked(c *call) {
	c.timer.Stop() // its attempts have their own
	c.gate = make(chan struct{})
	c.after, s.opened, s.ready = nil, c.gate, c.gate
	if s.opening != nil {
		s.opening.c.cancel(errAnew)
	}
	h := &opening{c: c, kick: make(chan struct{}, 1), done: make(chan struct{})}
	s.opening, s.initialized = h, false
	s.urlMode = rawjson.Member(c.Params, "capabilities", "elicitation", "url") != nil
	s.early.Store(nil)
	s.work.Go(func() { s.open(h) })        // ends with c.ctx
	s.work.Go(func() { s.answerEarly(h) }) // ends with c.ctx
}

// wake asks for an attempt now: the host waits for one.
func (h *opening) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// pendingLocked reports whether the host was answered early and the server not yet reached.
func (h *opening) pendingLocked() bool { return h != nil && h.early != nil && h.result == nil }

// open makes attempts until the host has the server's answer, or a fault that time does not mend; after an early answer,
// until the server has given a result.
func (s *session) open(h *opening) {
	quiet, told := false, 0
	for n := 1; ; n++ {
		begun := time.Now()
		a := s.attempt(h, quiet)
		f := s.try(a)
		if f == nil || h.c.ctx.Err() != nil || !quiet && !f.passes && s.answer(h.c, f.line(h.c.ID, s.cfg.Mask)) {
			break
		}
		s.cfg.Log.Debug("initialize", "err", s.cfg.Mask(f.text))
		if !quiet {
			if f.status != 0 && f.status != told { // Explain hears of errors, and of no status
				s.cfg.Log.Warn("no session yet", "upstream", where(s.cfg.URL), "status", f.status)
			}
			told = f.status
			s.failed(h, f, begun)
		}
		// After a sign-in that nobody completed no other is begun, for that opens a page, until the host asks for something.
		// An attempt that asks nobody notices one that was made elsewhere.
		quiet = quiet || f.kind == KindSignIn
		woken, err := sleep(h.c.ctx, backoff(n), h.kick)
		if err != nil {
			break
		}
		if woken {
			n, quiet = 0, false
		}
	}
	s.finish(h.c, nil)
}

// attempt makes the call of one attempt. quiet: no person is asked for it.
func (s *session) attempt(h *opening, quiet bool) *call {
	a := &call{Message: h.c.Message, key: h.c.key, init: true, arrived: time.Now(), opens: h}
	ctx := h.c.ctx
	if quiet {
		ctx = context.WithValue(ctx, quietly{}, true)
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	a.timer = time.AfterFunc(s.cfg.Timeout, func() {
		blocked := s.blocked() != nil
		s.mu.Lock()
		defer s.mu.Unlock()
		if blocked && !a.done {
			a.timer.Reset(s.cfg.Timeout) // it is not the server that takes so long
			return
		}
		a.cancel(errTimeout)
	})
	return a
}

// quietly is the key of a context for whose requests no person is asked to sign in.
type quietly struct{}

// sender returns what carries the requests of ctx.
func (s *session) sender(ctx context.Context) http.RoundTripper {
	if ctx.Value(quietly{}) != nil {
		return s.cfg.Background
	}
	return s.cfg.Send
}

// asQuiet returns the session's lifetime for work that was begun under ctx.
func (s *session) asQuiet(ctx context.Context) context.Context {
	return context.WithValue(s.ctx, quietly{}, ctx.Value(quietly{}))
}

// try carries a upstream. nil: the server has answered, or the session ends.
func (s *session) try(a *call) *fault {
	err := s.up.call(a)
	if a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	a.timer.Stop()
	a.cancel(nil)
	if s.answered(a) {
		return a.refusal
	}
	f, _ := s.outcome(a, err)
	return f
}

// greeted takes the server's answer to the attempt a. An error in it goes to the host, or, after an early answer, to those
// who wait.
func (s *session) greeted(a *call, line []byte) {
	h := a.opens
	result := bytes.Clone(rawjson.Member(line, "result"))
	s.mu.Lock()
	a.done = true
	told := rawjson.MemberText(h.early, "protocolVersion")
	early := h.early != nil
	h.result = result
	s.mu.Unlock()
	if result == nil && (early || !s.answer(h.c, line)) {
		a.refusal = &fault{code: codeTransport, kind: "initialize", notRun: true,
			text: "the server refuses the session: " + rawjson.MemberText(line, "error", "message")}
		return
	}
	if result == nil {
		return
	}
	close(h.done)
	if !s.answer(h.c, line) {
		if v := rawjson.MemberText(result, "protocolVersion"); v != told {
			// The host keeps to the version it was told, the headers to this one.
			s.cfg.Log.Warn("the server speaks another protocol version than the host was told", "told", told, "version", excerpt(v, 64))
		}
		s.release(h.c)
	}
	s.remember(memoryInitialize, result)
}

// failed answers those who waited for the attempt that began then, as every call is tried once.
func (s *session) failed(h *opening, f *fault, begun time.Time) {
	s.mu.Lock()
	h.person = h.person || f.kind == KindSignIn
	var open []*call
	if h.pendingLocked() {
		for _, c := range s.calls {
			if asks := c.local && f.kind == KindSignIn; !asks && !c.arrived.After(begun) {
				open = append(open, c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range open {
		c.cancel(f)
	}
	s.wakeUp()
}
