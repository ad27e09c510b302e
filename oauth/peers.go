package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"sallyport/oauth/asclient"
)

const (
	// lookEvery is how often a process looks at the locks and the store during a login.
	lookEvery = 250 * time.Millisecond
	// vainPages is the number of login pages in a row without an accepted token after which no more
	// are shown. anyPages is the number after which no more are shown, whatever the login pages led
	// to.
	vainPages = 3
	anyPages  = 6
	// quickPages is the number of login pages that may come without a pause between them. Each
	// pause is left out only if the page before led to a token.
	quickPages = 3
	// stormIntervals is how long no more are shown, in times of the page interval: an hour.
	stormIntervals = 120
	// settledIntervals is how long an accepted token must do until its login page no longer counts,
	// in times of the page interval: two minutes.
	settledIntervals = 4
)

var (
	errSignedInElsewhere = errors.New("another process has signed in")
	errClaimed           = errors.New("a sign-in in a terminal takes over")
)

// notice is what the leader writes for its followers. It is true as long as the leader's lock is
// taken. A notice without a failure under a free lock was written by a leader that died or let
// another lead.
type notice struct {
	// ID identifies this login.
	ID string `json:"id"`
	// StepUp lists the scopes of the leader's need.
	StepUp []string `json:"scopes,omitempty"`
	// Prompt is what the leader shows. It is zero until then, and again at the end.
	Prompt Prompt   `json:"prompt,omitzero"`
	Failed *failure `json:"failed,omitempty"`
}

// failure is how a login ended, if that concerns all who waited for it.
type failure struct {
	// One of SignIn and Discovery is set. Their Err does not travel.
	SignIn    *asclient.SignInError    `json:"sign_in,omitempty"`
	Discovery *asclient.DiscoveryError `json:"discovery,omitempty"`
	// Cause is the text of that Err. It is empty without one.
	Cause string `json:"beneath,omitempty"`
	// NotCompleted says that ErrNotCompleted was beneath.
	NotCompleted bool `json:"late,omitempty"`
}

// pageCount counts the login pages that all processes of an account have shown.
type pageCount struct {
	// Count is the number of login pages since the last one that settled.
	Count int `json:"count"`
	// InVain is the number of login pages since the upstream last accepted a new token.
	InVain int `json:"in_vain"`
	// Last is when the last login page was shown. It is zero if none was.
	Last time.Time `json:"last"`
	// Completed says that the last login page led to a token, so there is a person.
	Completed bool `json:"done"`
}

// next returns the count as it stands before a login page at the time now. It is zero if the last
// login page has settled: the upstream accepted its token, and no other page was wanted for some
// time. So a server with short tokens may have a page for each token. A server that drops a good
// token again and again may not. After a storm the last page takes longer to settle: no page is
// shown then, so nobody knows whether one was wanted.
func (c pageCount) next(now time.Time, interval time.Duration) pageCount {
	quiet := time.Duration(settledIntervals)
	if c.Count >= anyPages {
		quiet = stormIntervals
	}
	if c.Completed && c.InVain == 0 && now.Sub(c.Last) >= quiet*interval {
		return pageCount{}
	}
	return c
}

// peers is the agreement between the processes that share our account. One of them, the leader,
// runs the login. The others follow it: they show its prompt, take its token, and fail as it fails.
// The agreement also limits how often a login page may be shown.
type peers struct {
	cfg     *Config
	account *accountRecord
	status  *status
	// pages is held while the count of login pages is changed.
	pages sync.Mutex
}

// logIn runs login as the leader, or follows the process that leads. It returns nil once the
// account satisfies n. If the leader dies, one of the followers is the next leader.
func (p *peers) logIn(ctx context.Context, n need, login func(context.Context, *leadership) error) error {
	fl := &follower{status: p.status}
	defer fl.show(ctx, Prompt{})
	leader := p.cfg.Store.Lock(p.account.key + leaderName)
	claim := p.cfg.Store.Lock(p.account.key + claimName)
	claimed := false
	for {
		if p.cfg.AtTerminal && !claimed && claim.Try() {
			claimed = true
			defer claim.Unlock()
		}
		leads := leader.Try()
		if leads && !claimed && p.claimedByAnother() {
			leader.Unlock()
			leads = false
		}
		var note notice
		p.account.notes.load(noticeName, &note)
		if p.account.adopt(n, fl.leader != "") {
			if leads {
				leader.Unlock()
			}
			return nil
		}
		if leads {
			fl.show(ctx, Prompt{})
			err, shared := note.failureFor(fl.leader, n)
			if !shared {
				takeover := note.orphaned() || fl.leader != "" && fl.leader == note.ID && note.Failed == nil
				l := &leadership{peers: p, need: n, claimed: claimed, takeover: takeover, followed: fl.leader != ""}
				err = l.run(ctx, login)
			}
			leader.Unlock()
			if err != errClaimed {
				return err
			}
		} else {
			fl.leader = note.ID
			fl.show(ctx, note.Prompt)
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// claimedByAnother reports whether another process claims to lead. Only the leader may ask: asking
// takes the lock for a moment.
func (p *peers) claimedByAnother() bool {
	claim := p.cfg.Store.Lock(p.account.key + claimName)
	defer claim.Unlock()
	return !claim.Try()
}

// countPages changes the count of login pages.
func (p *peers) countPages(change func(*pageCount)) {
	p.pages.Lock()
	defer p.pages.Unlock()
	var c pageCount
	p.account.notes.load(pagesName, &c)
	old := c
	if change(&c); c != old {
		p.account.notes.save(pagesName, c)
	}
}

// noteAccepted notes that the upstream accepted a token that a login brought.
func (p *peers) noteAccepted() { p.countPages(func(c *pageCount) { c.InVain = 0 }) }

// follower is what a process knows while another one leads.
type follower struct {
	status *status
	// leader is the ID of the leader's login. It is empty if nobody was followed yet.
	leader string
	// shown is the leader's prompt as we show it.
	shown Prompt
}

// show shows the leader's prompt as ours. A zero p withdraws it.
func (fl *follower) show(ctx context.Context, p Prompt) {
	samePage := p.AuthorizeURL == fl.shown.AuthorizeURL
	if samePage && p.UserCode == fl.shown.UserCode {
		return
	}
	fl.shown = p
	if samePage && p.RedirectURI != "" {
		fl.status.amend(p)
		return
	}
	p.Elsewhere = p.AuthorizeURL != ""
	fl.status.show(ctx, p)
}

// leadership is one login that this process runs for all processes of the account.
type leadership struct {
	peers *peers
	need  need
	// claimed says that this process holds the claim lock. It stops for no other claim.
	claimed bool
	// takeover says that the leader before this one ended without a failure, most likely because it
	// died. Its login page does not work any more, so ours need not wait.
	takeover bool
	// followed says that this process followed another leader first, whose login page was good.
	followed bool
	notice   notice
	// before says how the login before this one failed, in this or in another process. It is nil if
	// it did not fail, or if that is not known.
	before error
}

// run runs login and keeps the notice up to date for the followers. It returns errClaimed if
// another process is to lead instead.
func (l *leadership) run(ctx context.Context, login func(context.Context, *leadership) error) error {
	account := l.peers.account
	account.notes.load(noticeName, &l.notice)
	previous := l.notice
	l.before = l.notice.Failed.asError()
	l.notice = notice{ID: rand.Text(), StepUp: l.need.stepUp}
	account.notes.save(noticeName, l.notice)
	inner, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() { // ends with inner
		defer close(watched)
		l.watch(inner, cancel)
	}()
	err := login(inner, l)
	cause := context.Cause(inner)
	cancel(nil)
	<-watched
	l.notice.Prompt = Prompt{} // its URL must not lie in the store for longer than needed
	switch {
	case err == nil:
		l.peers.countPages(func(c *pageCount) { c.Completed = true })
	case ctx.Err() != nil: // this process ends, and another may lead
	case errors.Is(cause, errSignedInElsewhere):
		err = nil
	case errors.Is(cause, errClaimed):
		err = errClaimed
	case errors.Is(err, ErrHeldBack): // no page was shown, so the failure before is still the last one
		l.notice = previous
		l.notice.Prompt = Prompt{}
	default:
		l.notice.Failed = failureOf(err)
	}
	account.notes.save(noticeName, l.notice)
	return err
}

// watch ends a login that waits for the person once another process has stored a token that does,
// or claims to lead. A login that the person has answered is left alone.
func (l *leadership) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return
		}
		s, _ := l.peers.status.get()
		switch waits := !s.NextPage.IsZero() || s.Prompt.AuthorizeURL != ""; {
		case !waits:
		case l.peers.account.adopt(l.need, false):
			cancel(errSignedInElsewhere)
		case !l.claimed && l.peers.claimedByAnother():
			cancel(errClaimed)
		}
	}
}

// distrustsClient says that a person starts a login, and that the login page before may have shown
// that the server has forgotten our client. Some servers say it nowhere else, and the person stops
// the process when they see it.
func (l *leadership) distrustsClient() bool {
	asked := l.need.byPerson || l.peers.cfg.AtTerminal
	return asked && !l.followed && l.lastPageUnused()
}

// distrustsDevice says that the last two login pages led to no token. A server that lets a client
// for the device grant use no other grant would say so nowhere else.
func (l *leadership) distrustsDevice() bool {
	var c pageCount
	l.peers.account.notes.load(pagesName, &c)
	return c.InVain > 1 && l.lastPageUnused() && !l.takeover
}

// lastPageUnused reports whether the login page before led to no token, and nobody came back from
// it with another answer than that the client is not known.
func (l *leadership) lastPageUnused() bool {
	var c pageCount
	l.peers.account.notes.load(pagesName, &c)
	if c.InVain == 0 || c.Completed {
		return false
	}
	e, ok := errors.AsType[*asclient.SignInError](l.before)
	return !ok || errors.Is(e, ErrNotCompleted) || e.UnknownClient()
}

// announce counts the login page that p is about to show, and tells the followers of p.
func (l *leadership) announce(p Prompt) {
	now := l.peers.cfg.now()
	l.peers.countPages(func(c *pageCount) {
		old := c.next(now, l.peers.cfg.pageInterval)
		*c = pageCount{Count: old.Count + 1, InVain: old.InVain + 1, Last: now}
	})
	l.note(p)
}

// note tells the followers of p.
func (l *leadership) note(p Prompt) {
	l.notice.Prompt = p
	l.peers.account.notes.save(noticeName, l.notice)
}

// awaitPage waits until another login page may be shown. If none may be shown for a long time, the
// error is a SignInError about server with ErrHeldBack beneath.
func (l *leadership) awaitPage(ctx context.Context, server string) error {
	cfg := l.peers.cfg
	var c pageCount
	l.peers.account.notes.load(pagesName, &c)
	c = c.next(cfg.now(), cfg.pageInterval)
	since := cfg.now().Sub(c.Last)
	clockSetBack := since < 0 // then the time of the last login page says nothing
	failure := l.before
	if c.Completed {
		failure = nil
	}
	many := c.InVain >= vainPages || c.Count >= anyPages
	storm := many && since < stormIntervals*cfg.pageInterval && !clockSetBack
	if storm && !l.need.byPerson && !cfg.AtTerminal {
		return &asclient.SignInError{Stage: asclient.StageAuthorize, Server: server,
			Err: &HeldBackError{Until: c.Last.Add(stormIntervals * cfg.pageInterval), Last: failure}}
	}
	wait := cfg.pageInterval - since
	personThere := c.Completed && c.Count < quickPages
	if l.takeover || cfg.AtTerminal || clockSetBack || c.Count == 0 || personThere || wait <= 0 {
		return nil
	}
	cfg.Log.Info("next login page waits", "dur", wait)
	next := cfg.now().Add(wait)
	l.peers.status.update(func(s *State) { s.NextPage, s.LastFailure = next, failure })
	defer l.peers.status.update(func(s *State) { s.NextPage, s.LastFailure = time.Time{}, nil })
	return sleep(ctx, wait)
}

// failureOf returns what the followers need to know of err. It is nil if err concerns this process
// alone, so that each follower may try for itself.
func failureOf(err error) *failure {
	f := &failure{NotCompleted: errors.Is(err, ErrNotCompleted)}
	if e, ok := errors.AsType[*asclient.SignInError](err); ok && !errors.Is(err, ErrHeldBack) {
		f.SignIn = new(*e)
		err, f.SignIn.Err = e.Err, nil
	} else if e, ok := errors.AsType[*asclient.DiscoveryError](err); ok {
		f.Discovery = new(*e)
		err, f.Discovery.Err = e.Err, nil
	} else {
		return nil
	}
	if err != nil {
		f.Cause = asclient.PeerText(err.Error(), nil)
	}
	return f
}

// orphaned reports whether the leader of this notice died while its prompt was shown: every other
// end of a login takes the prompt out. The caller has the lead lock.
func (t notice) orphaned() bool { return t.Prompt.AuthorizeURL != "" }

// failureFor returns how the login of this notice failed. shared says that it failed for the caller
// as well: the caller followed that login (followed is its ID) and needed the same scopes (n).
func (t notice) failureFor(followed string, n need) (err error, shared bool) {
	f := t.Failed
	if f == nil || t.ID != followed || !slices.Equal(t.StepUp, n.stepUp) {
		return nil, false
	}
	err = f.asError()
	return err, err != nil
}

// asError returns the error that f tells of. It is nil for a nil f.
func (f *failure) asError() error {
	if f == nil {
		return nil
	}
	var cause error
	switch {
	case f.NotCompleted:
		cause = ErrNotCompleted
	case f.Cause != "":
		cause = errors.New(f.Cause)
	}
	switch {
	case f.SignIn != nil:
		e := *f.SignIn
		e.Err = cause
		return &e
	case f.Discovery != nil:
		e := *f.Discovery
		e.Err = cause
		return &e
	}
	return nil
}
