package oauth

import (
	"context"
	"errors"
	"slices"
	"sync"

	"sallyport/oauth/asclient"
)

// need says which token a caller needs, and how far we may go to get it.
type need struct {
	// instead is the access token that will not do. It is empty if there is none.
	instead string
	// noRefresh says that a refreshed token would not do either.
	noRefresh bool
	// ahead says that instead is still valid for a while: this is a refresh ahead of expiry.
	ahead bool
	// background says that nobody waits, so no person may be asked.
	background bool
	// noLogin says that somebody waits, and that a login is not to follow: it is not sure yet that
	// instead is dead.
	noLogin bool
	// byPerson says that the person asked for the login. An old refresh token that fails is then no
	// reason to fail.
	byPerson bool
	// signOut marks a sign-out. All other fields are zero then.
	signOut bool
	// stepUp lists the scopes that the token must have been asked for. Nil: any token will do.
	stepUp []string
	// challenge is the upstream's challenge that caused the need. It is zero without one.
	challenge asclient.Challenge
	// asked says that the upstream was asked without a token, and that challenge is its answer to
	// that.
	asked bool
}

// flight is one action that changes the account: a sign-in, a refresh or a sign-out. All who need
// its outcome wait for it.
type flight struct {
	need need
	// within is the flight that this one is a step of. It is nil for a flight of its own.
	within *flight
	// personNeeded is closed when the flight needs the person. From then on it may take minutes.
	personNeeded chan struct{}
	// done is closed when err is set.
	done chan struct{}
	err  error

	mu sync.Mutex
	// waiting counts the callers that wait for the flight.
	waiting int
	// secrets are those that the flight has seen so far: codes, verifiers, assertions.
	secrets []string
}

// step returns a flight for another need that runs within f. Whoever waits for f waits for that
// flight, too.
func (f *flight) step(n need) *flight {
	return &flight{need: n, within: f, personNeeded: f.personNeeded}
}

// addSecrets notes secrets that must be masked while the flight lasts.
func (f *flight) addSecrets(secrets ...string) {
	if f.within != nil {
		f.within.addSecrets(secrets...)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets = append(f.secrets, secrets...)
}

// awaited reports whether somebody still waits for the flight.
func (f *flight) awaited() bool {
	if f.within != nil {
		return f.within.awaited()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting > 0
}

// wait counts a caller in (1) or out (-1).
func (f *flight) wait(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting += n
}

// action is what a flight does. Its context ends with the lifetime of the Transport.
type action func(context.Context, *flight) error

// flights lets one flight run at a time. Its methods may be called concurrently.
type flights struct {
	life   *lifespan
	status *status

	mu sync.Mutex
	// current is nil while no flight is under way.
	current *flight
}

// errNeedsPerson ends a flight that could only go on with a login, which its need forbids.
var errNeedsPerson = errors.New("no token can be had without a login")

// idle runs f unless a flight is under way, and reports whether one is. No flight starts before f
// returns. A nil f only asks.
func (g *flights) idle(f func()) (busy bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current == nil && f != nil {
		f()
	}
	return g.current != nil
}

// secrets returns the secrets of the flight under way.
func (g *flights) secrets() []string {
	g.mu.Lock()
	f := g.current
	g.mu.Unlock()
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.secrets)
}

// join runs do as the flight for n, or waits for the flight under way, until ctx ends. It first
// asks satisfied: true means that nothing is left to do. A background need does not wait for a
// person.
//
// final says that err is the caller's own outcome. Otherwise err is that of another caller's
// flight, or nil if that flight's error does not concern this caller, who then looks again.
func (g *flights) join(ctx context.Context, n need, satisfied func() bool, do action) (final bool, err error) {
	g.mu.Lock()
	if satisfied() {
		g.mu.Unlock()
		return true, nil
	}
	f := g.current
	if f == nil {
		f, final = g.startLocked(n, do), true
	}
	f.wait(1)
	g.mu.Unlock()
	defer f.wait(-1)
	var personNeeded chan struct{} // nil: it never tells, and the caller waits
	if n.background {
		personNeeded = f.personNeeded
	}
	select {
	case <-f.done:
		if !final && f.concernsOnlyItself(n) {
			return false, nil
		}
		return final, f.err
	case <-personNeeded:
		return true, errNeedsPerson
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// concernsOnlyItself reports whether the error of the finished flight f says nothing to a caller
// with the need n: f was a sign-out, or asked for more scope than n wants, or ended without the
// login that the person now asks for.
func (f *flight) concernsOnlyItself(n need) bool {
	e, _ := errors.AsType[*asclient.SignInError](f.err)
	noLogin := errors.Is(f.err, ErrHeldBack) || e != nil && e.Stage == asclient.StageRefresh
	return f.need.signOut || f.need.stepUp != nil && n.stepUp == nil || n.byPerson && !f.need.byPerson && noLogin
}

// startLocked runs do as the flight for n. The flight ends with do, whose context ends with the
// lifespan.
func (g *flights) startLocked(n need, do action) *flight {
	f := &flight{need: n, personNeeded: make(chan struct{}), done: make(chan struct{})}
	ctx := g.life.ctx
	started := g.life.start(func() {
		err := do(ctx, f)
		if err != nil && ctx.Err() != nil {
			err = ErrClosed
		}
		g.end(f, err)
	})
	if !started {
		f.err = ErrClosed
		close(f.done)
		return f
	}
	g.current = f
	return f
}

// end publishes the outcome of f.
func (g *flights) end(f *flight, err error) {
	g.mu.Lock() // over the update too, so that State shows the end of this flight before the next one
	f.err, g.current = err, nil
	// Otherwise the token is as good as it was, or nobody was to be asked.
	n := f.need
	tell := err == nil || err != errNeedsPerson && n.stepUp == nil && !n.ahead && !n.background && !n.signOut
	g.status.update(func(s *State) {
		s.Busy = false
		if tell {
			s.Err = err
		}
	})
	g.mu.Unlock()
	close(f.done)
}

// personAsked reports whether f has gone on with a login.
func (f *flight) personAsked() bool {
	select {
	case <-f.personNeeded:
		return true
	default:
		return false
	}
}

// askPerson says that f goes on with a login.
func (g *flights) askPerson(f *flight) {
	if !f.personAsked() {
		close(f.personNeeded)
	}
	g.status.update(func(s *State) { s.Busy = true })
}

// lifespan is the time from New to Close. Flights, listeners and prompts run in it, so that none of
// them depends on the request that happened to cause it.
type lifespan struct {
	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex // orders start and end
	wg sync.WaitGroup
}

func newLifespan() *lifespan {
	l := new(lifespan)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// start runs f in a goroutine that end waits for. It reports false, and does not run f, if the
// lifespan is over.
func (l *lifespan) start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.wg.Go(f)
	return true
}

// startWithin is start for a caller that start itself has started. f always runs, because it may be
// what cleans up after the caller, for which end waits anyway.
func (l *lifespan) startWithin(f func()) { l.wg.Go(f) }

// end cancels ctx and waits for every goroutine.
func (l *lifespan) end() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.wg.Wait()
}
