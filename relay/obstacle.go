package relay

import (
	"context"
	"errors"
	"time"
)

// Obstacle is what stands in the way of the upstream.
type Obstacle struct {
	Kind   string   // stable word: unreachable, sign_in, host_key, ssh_auth, config, tls, timeout, status ...
	Text   string   // one line: what and where
	URL    string   // a link for the person; "" none
	Hints  []string // what to do next
	Final  error    // waiting cannot mend it: requests are answered, then Run returns it
	NotRun bool     // of Explain: the upstream refused the request that met the error, so it has not run
}

// KindSignIn is the Obstacle.Kind of a person signing in: requests wait for it as long as Config.Timeout.
const KindSignIn = "sign_in"

// watch looks after the calls that wait for an obstacle to pass.
func (s *session) watch() {
	for {
		o, changed := s.cfg.Obstacle()
		var again <-chan time.Time
		switch {
		case o == nil:
		case o.Final != nil:
			s.setFinal(o)
		case o.Kind != KindSignIn:
			again = time.After(s.expire(o))
		}
		select {
		case <-changed:
		case <-again:
		case <-s.ctx.Done():
			return
		}
	}
}

// expire ends the calls that have waited for o long enough and returns when to look again.
func (s *session) expire(o *Obstacle) time.Duration {
	now := time.Now()
	// A call that arrives from now on has at least this long.
	next := min(s.cfg.Patience, s.cfg.InitPatience)
	var late []*call
	s.mu.Lock()
	for _, c := range s.calls {
		if c.phase.Load() == written {
			continue
		}
		patience := s.cfg.Patience
		if c.init {
			patience = s.cfg.InitPatience
		}
		if left := c.arrived.Add(patience).Sub(now); left <= 0 {
			late = append(late, c)
		} else {
			next = min(next, left)
		}
	}
	s.mu.Unlock()
	for _, c := range late {
		c.cancel(obstacleFault(o))
	}
	return next
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
	o := s.cfg.Explain(err)
	if o.Kind == "" {
		o.Kind = "unreachable"
	}
	if o.Text == "" {
		o.Text = err.Error()
	}
	if o.Final != nil {
		s.setFinal(&o)
	}
	return obstacleFault(&o)
}
