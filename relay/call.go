package relay

import (
	"context"
	"errors"
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
	// progress is the progressKey of the token that the request gave, or "". The params may be long, so they are searched once.
	progress string
	arrived  time.Time
	// after is a gate that the call waits for. Nil is open.
	after <-chan struct{}
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
	// opens is what the call is an attempt at. Such a call is ours, and not in the table. It is nil for a call of the host.
	opens *opening
	// signIn says that the call is of the sign-in tool.
	signIn bool

	state callState
}

// callState is what changes while a call is in flight.
type callState struct {
	mu sync.Mutex
	// claimed says that the call is answered, or cancelled by the host. Nothing more is written for it.
	claimed bool

	// released says that the end of the session does not wait for the call any more. It is guarded by callTable.mu.
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

// keepAlive gives c its full time again.
func (c *call) keepAlive(timeout time.Duration) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if !c.state.claimed && c.timer.Stop() {
		c.timer.Reset(timeout)
	}
}

// linger ends an answered call soon. Its stream should end by itself; to read it to its end lets the connection be used
// again.
func (c *call) linger() { c.timer.Reset(lingerTime) }

// progressKey is the IDKey of the progressToken in the raw params, or in the member of params at path. It is "" if there is
// none.
func progressKey(params []byte, path ...string) string {
	if t := rawjson.Member(params, append(path, "progressToken")...); t != nil && rawjson.ValidID(t) {
		return rawjson.IDKey(t)
	}
	return ""
}

// cancelled is the cause of a call's end by the host.
type cancelled struct{ notice rawjson.Message }

func (*cancelled) Error() string { return "cancelled by the host" }

// finish ends a call that its wire has done with. err says why there was no answer, if there was none.
func (s *session) finish(c *call, err error) {
	if c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
	}
	c.timer.Stop()
	f, notice := s.outcome(c, err)
	// The session must not end before the notice is sent.
	held := notice != nil && s.calls.hold(c)
	if f != nil {
		s.answer(c, f.line(c.ID, s.cfg.Mask))
	}
	if held {
		s.up.giveUp(*notice)
		s.calls.dealtWith()
	}
	if _, byHost := errors.AsType[*cancelled](err); f == nil && !byHost {
		err = nil // answered
	}
	s.logCall(c, err)
	s.calls.release(c)
	c.cancel(nil)
	s.carried(len(c.Raw))
}

// outcome says what remains to be done for c: the fault to answer it with, and the notice that tells the upstream that nobody
// waits for it any more. There is a notice only for a request that may be running there.
func (s *session) outcome(c *call, err error) (*fault, *rawjson.Message) {
	running := c.phase.Load() == written
	if byHost, ok := errors.AsType[*cancelled](err); ok {
		if running {
			return nil, &byHost.notice
		}
		return nil, nil
	}
	switch {
	case c.isClaimed():
		return nil, nil // its stream was only read to the end
	case err == errTimeout && !running:
		if o, _ := s.cfg.Obstacle(); o != nil {
			return o.fault(), nil
		}
		return timeoutFault(s.cfg.Timeout), nil
	case err == errTimeout && c.isInit():
		return timeoutFault(s.cfg.Timeout), nil // initialize must not be cancelled
	case err == errTimeout:
		notice := cancelNotice(c.ID, "timeout")
		return timeoutFault(s.cfg.Timeout), &notice
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f, nil
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
