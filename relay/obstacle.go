package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"sallyport/relay/rawjson"
)

// Obstacle is what stands in the way of the upstream.
type Obstacle struct {
	Kind  string   // stable word: unreachable, sign_in, host_key, ssh_auth, config, tls, timeout, status ...
	Text  string   // one line: what and where
	URL   string   // a link for the person; "" none
	Code  string   // that the page behind the link asks for, or shows; "" none
	Hints []string // what to do next
	Final error    // waiting cannot mend it: requests are answered, then Run returns it
}

// Explanation is an error of one request, in words for people.
type Explanation struct {
	// Kind is a stable word, as that of an Obstacle. The default is "unreachable".
	Kind string
	// Text is one line that says what happened and where. The default is the error's own text.
	Text string
	// Hints say what to do next, one line each.
	Hints []string
	// Final says that waiting cannot mend it: the request is answered, then Run returns this error.
	Final error
	// NotRun says that the upstream refused the request, so that it may be sent again.
	NotRun bool
}

// KindSignIn is the Obstacle.Kind of a sign-in that a person is wanted for.
const KindSignIn = "sign_in"

// progressEvery is how often a request that waits and asked for progress is told why.
const progressEvery = 5 * time.Second

// watch looks after the calls that wait and the link that the person waits for.
func (s *session) watch() {
	for {
		o, changed := s.cfg.Obstacle()
		var again <-chan time.Time
		if o != nil && o.Final != nil {
			s.setFinal(o)
		} else if d := s.attend(o); d > 0 {
			again = time.After(d)
		}
		select {
		case <-changed:
		case <-again:
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

// wakeUp makes watch look again.
func (s *session) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// attend tells the host what o, if not nil, and a server that has not answered initialize yet keep waiting. It returns when
// to look again; 0: at the next change.
func (s *session) attend(o *Obstacle) time.Duration {
	next := s.show(o)
	s.mu.Lock()
	h := s.opening
	pending := h.pendingLocked()
	if pending && o != nil && o.Kind == KindSignIn {
		h.person = true
	}
	s.mu.Unlock()
	if pending {
		s.offer(h)
		if o == nil {
			o = s.silent()
		}
	}
	if o == nil {
		return next
	}
	if left := s.expire(o); next == 0 || left < next {
		next = left
	}
	return next
}

// silent is the obstacle of a server that has not answered yet, where nothing else is in the way.
func (s *session) silent() *Obstacle {
	return &Obstacle{Kind: "timeout", Text: where(s.cfg.URL) + ": no answer yet"}
}

// expire ends the calls that have waited for o long enough, tells the others' progress, and returns when to look again.
func (s *session) expire(o *Obstacle) time.Duration {
	now := time.Now()
	// A call that arrives from now on has at least this long.
	next := min(s.cfg.Patience, s.cfg.InitPatience)
	var late, telling []*call
	s.mu.Lock()
	for _, c := range s.calls {
		if c.init || c.phase.Load() == written {
			continue
		}
		left := c.arrived.Add(s.cfg.Patience).Sub(now)
		if left <= 0 {
			late = append(late, c)
			continue
		}
		next = min(next, left)
		if c.progress == "" {
			continue
		}
		due := c.arrived.Add(s.cfg.InitPatience)
		if !c.told.IsZero() {
			due = c.told.Add(progressEvery)
		}
		if !due.After(now) {
			c.told, due = now, now.Add(progressEvery)
			telling = append(telling, c)
		}
		next = min(next, due.Sub(now))
	}
	s.mu.Unlock()
	for _, c := range telling {
		s.write(s.waitingProgress(c, now, o))
	}
	for _, c := range late {
		if c.local && o.URL != "" {
			s.answer(c, resultLine(c.ID, s.inVain(o)))
		}
		c.cancel(obstacleFault(o))
	}
	return next
}

// waitingProgress tells that c waits for o. Its numbers stay below any that the server may count from 1 later, for progress
// must not go back (basic/utilities/progress).
func (s *session) waitingProgress(c *call, now time.Time, o *Obstacle) []byte {
	text := clean(o.Text, s.cfg.Mask, maxText)
	if o.URL != "" {
		text += ": " + o.URL
	}
	return ownMessage("", "notifications/progress", map[string]any{
		"progressToken": json.RawMessage(rawjson.Member(c.Params, "_meta", "progressToken")),
		"progress":      now.Sub(c.arrived).Round(time.Millisecond).Seconds() / 1000, "message": text})
}

// blocked returns the channel of the next change while something that may pass is in the way, else nil.
func (s *session) blocked() <-chan struct{} {
	if o, changed := s.cfg.Obstacle(); o != nil && o.Final == nil {
		return changed
	}
	return nil
}

// setFinal answers all that is in flight with o. Run ends once a request has been answered with it, or after finalGrace.
func (s *session) setFinal(o *Obstacle) {
	s.mu.Lock()
	if s.final != nil {
		s.mu.Unlock()
		return
	}
	s.final = o
	var open []*call
	for _, c := range s.calls {
		open = append(open, c)
	}
	s.mu.Unlock()
	// Run's caller tells the person: the same words twice would be one too many.
	s.cfg.Log.Info("giving up", "err", s.cfg.Mask(o.Text))
	for _, c := range open {
		c.cancel(obstacleFault(o))
	}
	timer := time.AfterFunc(finalGrace, func() { s.end(o.Final) })
	context.AfterFunc(s.ctx, func() { timer.Stop() })
}

// checkFinal ends the session if a final obstacle stands and the last call in flight has been told.
func (s *session) checkFinal() {
	s.mu.Lock()
	final, open := s.final, len(s.calls)
	s.mu.Unlock()
	if final != nil && open == 0 {
		s.end(final.Final)
	}
}

// explain puts an error of the RoundTripper into words. A final one ends the session.
func (s *session) explain(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	e := s.cfg.Explain(err)
	e.Kind = cmp.Or(e.Kind, "unreachable")
	e.Text = cmp.Or(e.Text, err.Error())
	if e.Final != nil {
		s.setFinal(&Obstacle{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Final: e.Final})
	}
	return &fault{code: codeTransport, kind: e.Kind, text: e.Text, hints: e.Hints, notRun: e.NotRun, passes: true}
}
