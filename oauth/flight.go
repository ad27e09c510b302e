package oauth

import (
	"context"
	"errors"

	"sallyport/oauth/asclient"
)

// flight is the one sign-in, refresh or sign-out under way.
type flight struct {
	job    job
	person chan struct{} // closed when it turns to the person; then it may take minutes
	done   chan struct{} // closed when err is set
	err    error

	waiting int // calls of join; under the Transport's lock
}

// job says what a flight is to bring about.
type job struct {
	stale      string   // the token that does not do; "" none
	full       bool     // a refresh will not do
	early      bool     // the stale token still works for a while
	background bool     // nobody is to be asked
	asked      bool     // the person asked for a login
	out        bool     // a sign-out, all else is zero
	scopes     []string // that the token must be asked for (step-up); nil any
	scope      string   // of the challenge
	metadata   string   // resource_metadata of the challenge

	bearer, dpop bool // kinds of token that the challenge asks for
}

// heed notes what the upstream asks for.
func (j *job) heed(ch asclient.Challenge) {
	j.scope, j.metadata, j.bearer, j.dpop = ch.Scope, ch.Metadata, ch.Bearer, ch.DPoP
}

// challenge is what the upstream asked for.
func (j job) challenge() asclient.Challenge {
	return asclient.Challenge{Bearer: j.bearer, DPoP: j.dpop}
}

// renew brings about j, or joins the flight that may, and waits as long as ctx.
func (t *Transport) renew(ctx context.Context, j job) error {
	for {
		last, err := t.join(ctx, j,
			func() bool { return t.satisfiedLocked(j) },
			func(ctx context.Context) error { return t.obtain(ctx, j) })
		if last || err != nil && err != errSilent {
			return err
		}
	}
}

// join runs do as the flight of j, or waits for the flight under way, as long as ctx;
// a background one does not wait for the person. enough is asked first, under the lock:
// true, nothing is left to do. last: err is the caller's outcome; otherwise it is that
// of another's flight.
func (t *Transport) join(ctx context.Context, j job, enough func() bool, do func(context.Context) error) (last bool, err error) {
	t.mu.Lock()
	if enough() {
		t.mu.Unlock()
		return true, nil
	}
	f := t.flight
	if f == nil {
		f, last = t.startLocked(j, do), true
	}
	f.waiting++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		f.waiting--
		t.mu.Unlock()
	}()
	var person chan struct{}
	if j.background {
		person = f.person
	}
	select {
	case <-f.done:
		heldBack := j.asked && !f.job.asked && errors.Is(f.err, ErrHeldBack)
		if !last && (f.job.out || f.job.scopes != nil && j.scopes == nil || heldBack) {
			return false, nil // how a sign-out ended, or whether more scope was granted, is not our matter
		}
		return last, f.err
	case <-person:
		return true, errSilent
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// satisfiedLocked reports whether the current token already is what j wants.
func (t *Transport) satisfiedLocked(j job) bool {
	k := t.rec.Token
	return k.Access != "" && k.Access != j.stale && !k.Expired(t.now()) && subset(j.scopes, t.rec.Asked)
}

// startLocked runs do as the flight of j, under the Transport's lifetime.
func (t *Transport) startLocked(j job, do func(context.Context) error) *flight {
	// Otherwise the token at hand is still good for something, or nobody was to be asked.
	tell := j.scopes == nil && !j.early && !j.background && !j.out
	f := &flight{job: j, person: make(chan struct{}), done: make(chan struct{})}
	if t.ctx.Err() != nil {
		f.err = ErrClosed
		close(f.done)
		return f
	}
	t.flight = f
	// Ends with do, which ends with t.ctx.
	t.wg.Go(func() {
		err := do(t.ctx)
		if err != nil && t.ctx.Err() != nil {
			err = ErrClosed
		}
		t.mu.Lock()
		f.err, t.flight, t.passing = err, nil, nil
		if tell || err == nil {
			t.lastErr = err
		}
		t.notifyLocked()
		t.mu.Unlock()
		close(f.done)
	})
	return f
}

func (t *Transport) notifyLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// errSilent ends a flight that only the person could bring further.
var errSilent = errors.New("no token can be had without a login")

// obtain is the flight of renew.
func (t *Transport) obtain(ctx context.Context, j job) error {
	if t.cfg.unattended() {
		return t.unattendedLogin(ctx, j)
	}
	if done, err := t.refresh(ctx, j); done || err != nil {
		return err
	}
	if j.early {
		return errSilent // nobody is asked to log in while the token still works
	}
	done, given, err := t.spend(ctx, j)
	if done || err != nil {
		return err
	}
	if j.background {
		return errSilent
	}
	if t.cfg.NonInteractive {
		return &LoginRequiredError{Upstream: asclient.WithoutQuery(t.cfg.Upstream), Err: given}
	}
	t.mu.Lock()
	close(t.flight.person)
	t.notifyLocked()
	t.mu.Unlock()
	return t.lead(ctx, j)
}
