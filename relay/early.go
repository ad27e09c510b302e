package relay

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
)

// early opens the session upstream, and answers in the server's place as long as that is not
// reached ("Before the server is reached" in the package comment).
type early struct {
	session *session
	signIn  *signIn
	// answered is the opening whose initialize was answered in the server's place. It is nil for
	// all others, which then take no detour.
	answered atomic.Pointer[opening]

	mu sync.Mutex
	// current is the last opening. It is nil before initialize came.
	current *opening
	// discoverAskedAt is when the host asked for server/discover before any initialize. It is zero
	// if it did not.
	discoverAskedAt time.Time
}

// opening is one initialize of the host: attempts to carry it upstream, one after the other, until
// one brings a result. After Config.InitPatience the host is answered in the server's place, and
// the attempts go on.
type opening struct {
	// call is the host's initialize.
	call *call
	// retry holds one token when the host asks for something, so that the next attempt is made at
	// once.
	retry chan struct{}
	// reached is closed when result is set.
	reached chan struct{}

	// inVain is closed when a sign-in has failed, so that the server is not reached by itself.
	inVain *latch
	// relisting is how far the host is in reading the server's own tools.
	relisting relisting

	// lists is held while a list of ours is written, so that the notification of its change cannot
	// overtake it.
	lists sync.Mutex

	// What follows is guarded by early.mu.

	// earlyResult is the result that the host was told in the server's place. It is nil if it was
	// told none.
	earlyResult []byte
	// tools are those of the last session, a raw array. It is nil if there are none.
	tools []byte
	// result is the server's own. It is nil before the server is reached.
	result []byte
	// refusal is the server's error in the attempt under way, if the host was not told it.
	refusal *fault
	// failed is the fault of the last attempt that was not made in the background. It is nil before
	// one failed.
	failed *fault
	// person says that a sign-in has been in the way.
	person bool
	// toolNotListed says that the host has a list of tools without the sign-in tool.
	toolNotListed bool
}

func newEarly(s *session) *early {
	e := &early{session: s}
	e.signIn = newSignIn(s)
	return e
}

// retryNow asks for an attempt at once.
func (h *opening) retryNow() {
	select {
	case h.retry <- struct{}{}:
	default:
	}
}

// pendingLocked reports whether the host was answered early, and the server is not yet reached.
func (h *opening) pendingLocked() bool { return h != nil && h.earlyResult != nil && h.result == nil }

// opening returns the last opening. It is nil before initialize came.
func (e *early) opening() *opening {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}

// begin takes c, an initialize of the host, for the session's opening, in place of any other. What
// it starts ends with c.ctx. The caller holds a count of the session's work.
func (e *early) begin(c *call) {
	c.timer.Stop() // each attempt has a time of its own
	h := &opening{call: c, retry: make(chan struct{}, 1), reached: make(chan struct{}), inVain: newLatch(), relisting: newRelisting()}
	e.mu.Lock()
	if e.current != nil {
		e.current.call.cancel(errAnew)
	}
	e.current = h
	e.answered.Store(nil)
	e.mu.Unlock()
	e.signIn.begin(rawjson.Member(c.Params, "capabilities", "elicitation", "url") != nil)
	e.session.work.Go(func() { e.open(h) })
	e.session.work.Go(func() { e.answerInit(h) })
}

// open makes attempts until the host has the server's answer, or a fault that another attempt would
// not change. After an early answer it makes attempts until the server has given a result.
func (e *early) open(h *opening) {
	s := e.session
	background, status := false, 0
	var f *fault
	pace := retry{news: h.retry, delay: func(failures int) time.Duration { return max(f.after, backoff(failures)) }}
	pace.run(h.call.ctx, func(asked bool) verdict {
		if asked {
			background = false
		}
		begun := time.Now()
		f = e.try(h, background)
		if f == nil || h.call.ctx.Err() != nil {
			return stop
		}
		if !background {
			f = s.tell(f)
		}
		if !background && !f.passes && s.answer(h.call, f.line(h.call.ID, s.cfg.Mask)) {
			return stop
		}
		s.logFailure("initialize", f)
		if !background {
			if f.status != 0 && f.status != status { // Config.Explain hears of errors, and not of a status
				s.cfg.Log.Warn("no session yet", "upstream", where(s.cfg.URL), "status", f.status)
			}
			status = f.status
			e.attemptFailed(h, f, begun)
		}
		// After a sign-in that nobody completed, no other one is begun until the host asks for
		// something, because it would open a page. An attempt in the background asks nobody, and
		// notices a sign-in that was made elsewhere.
		background = background || aboutSignIn(f.kind)
		if asked {
			return progressed // the back-off begins anew when the host asks for something
		}
		return failed
	})
	s.finish(h.call, nil)
}

// try makes one attempt. It returns nil if the server has answered, or the session ends.
func (e *early) try(h *opening, background bool) *fault {
	e.mu.Lock()
	h.refusal = nil
	e.mu.Unlock()
	a := e.attempt(h, background)
	err := e.session.upstream.call(a)
	if a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	a.timer.Stop()
	a.cancel(nil)
	if a.isClaimed() {
		e.mu.Lock()
		defer e.mu.Unlock()
		return h.refusal
	}
	f, _ := e.session.outcome(a, err)
	return f
}

// attempt makes the call of one attempt. No person is asked to sign in for one in the background.
func (e *early) attempt(h *opening, background bool) *call {
	s := e.session
	a := &call{Message: h.call.Message, key: h.call.key, arrived: time.Now()}
	a.own = func(line []byte) { e.initAnswered(h, a, line) }
	ctx := h.call.ctx
	if background {
		ctx = withoutPerson(ctx)
	}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.phase.setEnd(time.Now().Add(s.cfg.Timeout))
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	a.timer = time.AfterFunc(s.cfg.Timeout, func() {
		o, _ := s.cfg.Obstacle()
		a.state.mu.Lock()
		defer a.state.mu.Unlock()
		if o != nil && o.Final == nil && !a.state.claimed {
			a.timer.Reset(s.cfg.Timeout) // it is not the server that takes so long
			return
		}
		a.cancel(errTimeout)
	})
	return a
}

// lastFailure is the fault of the last attempt, while the opening still has no result. It is nil if
// none has failed.
func (e *early) lastFailure() *fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.current; h != nil && h.result == nil {
		return h.failed
	}
	return nil
}

// initAnswered takes the server's answer to the attempt a at h. An error in it goes to the host.
// After an early answer it goes to those who wait, and is left in opening.refusal.
func (e *early) initAnswered(h *opening, a *call, line []byte) {
	s := e.session
	result := bytes.Clone(rawjson.Member(line, "result"))
	e.mu.Lock()
	a.claim()
	promised := h.earlyResult
	h.result = result
	e.mu.Unlock()
	if result == nil {
		if promised == nil && s.answer(h.call, line) {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		h.refusal = sessionRefused(line)
		return
	}
	s.tell(nil)
	close(h.reached)
	if !s.answer(h.call, line) {
		promisedVersion := rawjson.MemberText(promised, "protocolVersion")
		if v := rawjson.MemberText(result, "protocolVersion"); v != promisedVersion {
			// The host goes on in the version that it was told. The headers name the server's.
			s.cfg.Log.Warn("the server speaks another protocol version than the host was told",
				"told", promisedVersion, "version", excerpt(v, 64))
		}
		s.calls.release(h.call)
	}
	s.memory.remember(memoryInitialize, result)
}

// attemptFailed answers those who waited for the attempt that began at the given time, because
// every call is tried once. All calls have waited for a sign-in that failed: another attempt might
// open another login page.
func (e *early) attemptFailed(h *opening, f *fault, begun time.Time) {
	e.mu.Lock()
	h.person, h.failed = h.person || aboutSignIn(f.kind), f
	pending := h.pendingLocked()
	e.mu.Unlock()
	signIn := aboutSignIn(f.kind)
	if signIn {
		select {
		case <-h.retry:
		default:
		}
	}
	if pending || signIn {
		for _, c := range e.session.calls.selected(func(c *call) bool {
			asksPerson := c.signIn && f.kind == KindSignIn
			return !c.isInit() && !asksPerson && (signIn || !c.arrived.After(begun))
		}) {
			c.cancel(f)
		}
	}
	if signIn {
		h.inVain.close()
	}
	e.session.watcher.lookAgain()
}

// answerInit answers h in the server's place when it is time for that. It ends with the session, or
// with the server's answer.
func (e *early) answerInit(h *opening) {
	s := e.session
	e.mu.Lock()
	since := h.call.arrived
	if asked := e.discoverAskedAt; !asked.IsZero() && since.Sub(asked) < 2*s.cfg.InitPatience {
		since = asked // the host has waited since then
	}
	e.mu.Unlock()
	if e.holdOut(h.call.ctx, since, h) != nil {
		return
	}
	remembered := s.memory.recall(memoryInitialize)
	result := minimalResult(h.call.Params, s.cfg.Version)
	var tools []byte
	if remembered != nil {
		result, tools = rememberedResult(remembered, h.call.Params), s.memory.recall(memoryTools)
	}
	e.mu.Lock()
	if h.result != nil || e.current != h || !h.call.claim() {
		e.mu.Unlock()
		return
	}
	h.earlyResult, h.tools = result, tools
	e.answered.Store(h)
	failed := h.failed != nil
	e.mu.Unlock()
	if failed && len(s.calls.selected(func(c *call) bool { return !c.isInit() && c.ctx.Err() == nil })) > 0 {
		h.retryNow() // for calls that came after the failure
	}
	s.calls.remove(h.call)
	s.cfg.Log.Info("initialize is answered before the upstream", "remembered", remembered != nil)
	s.write(resultLine(h.call.ID, result))
	e.answerWaiting(h)
	s.watcher.lookAgain()
}

// holdOut waits while the server may still be reached without a person, but not longer than
// Config.InitPatience after the given time. It ends at once when a person is needed, and when the
// opening h is decided. A nil h is none. The error is the cause of ctx.
func (e *early) holdOut(ctx context.Context, since time.Time, h *opening) error {
	s := e.session
	var reached, inVain <-chan struct{}
	if h != nil {
		reached, inVain = h.reached, h.inVain.c
	}
	late := time.NewTimer(time.Until(since.Add(s.cfg.InitPatience)))
	defer late.Stop()
	for {
		o, changed := s.cfg.Obstacle()
		if o.needsPerson() {
			return nil
		}
		select {
		case <-changed:
			continue
		case <-late.C:
		case <-reached:
		case <-inVain:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return nil
	}
}

// discoverAsked notes the server/discover c of a host that has not sent initialize, and answers it
// in the server's place when it is time for that. The caller holds a count of the session's work.
func (e *early) discoverAsked(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		e.discoverAskedAt = c.arrived
		e.session.work.Go(func() { e.answerDiscover(c) }) // ends with the call
	}
}

// answerDiscover answers c as in the last session. If there is none, the answer is an error of a
// kind that no modern server gives, so that a host that knows both wires goes on to initialize
// (basic/transports/stdio, "Backward Compatibility"). The request itself goes on upstream, and with
// it a sign-in.
func (e *early) answerDiscover(c *call) {
	s := e.session
	if e.holdOut(c.ctx, c.arrived, nil) != nil {
		return
	}
	if result := s.memory.recall(memoryDiscover); result != nil {
		s.answer(c, resultLine(c.ID, result))
		return
	}
	o, _ := s.cfg.Obstacle()
	if o == nil {
		o = s.serverSilent()
	}
	s.answer(c, o.fault().line(c.ID, s.cfg.Mask))
}

// minimalResult is the answer to an initialize with the given raw params when nothing is known of
// the server.
func minimalResult(params []byte, version string) []byte {
	type changes struct {
		ListChanged bool `json:"listChanged"`
	}
	yes := changes{true}
	asked := rawjson.MemberText(params, "protocolVersion")
	if !slices.Contains(legacyVersions, asked) {
		asked = legacyVersion
	}
	return encode(map[string]any{
		"protocolVersion": asked,
		"capabilities":    map[string]changes{"tools": yes, "prompts": yes, "resources": yes},
		"serverInfo":      map[string]string{"name": "sallyport", "version": version},
		"instructions": "The server is not connected yet. If " + signInTool + " is among the tools, " +
			"call it before anything else, and show the person the link that it returns. " +
			"Its last answer says how to call the server's own tools. If these are not in your list of tools then, call them by " + callTool + ".",
	})
}

// rememberedResult is the last session's answer to initialize, for a host that sends the given raw
// params now. The version is not newer than the host asks for, and the tools may change, because at
// least the sign-in tool comes and goes.
func rememberedResult(result, params []byte) []byte {
	asked := rawjson.MemberText(params, "protocolVersion")
	if asked != "" && asked < rawjson.MemberText(result, "protocolVersion") {
		result = rawjson.Set(result, rawjson.Quote(asked), "protocolVersion")
	}
	return rawjson.Set(result, []byte("true"), "capabilities", "tools", "listChanged")
}
