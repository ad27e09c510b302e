package oauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sallyport/oauth/asclient"
)

// Names beneath our key in the Store. Of the first two only the lock counts.
const (
	leadName   = "/lead"   // held by the process that signs in
	claimName  = "/claim"  // held by one whose person typed a command: the leader makes way
	noticeName = "/notice" // what the leader tells those that wait
	pagesName  = "/pages"  // the login pages so far
)

const (
	lookEvery  = 250 * time.Millisecond // at the locks and at the store, while a sign-in is pending
	stormPages = 3                      // login pages in a row without an accepted token are a storm
	stormHold  = 120                    // times offerEvery without a page that nobody asked for: an hour
)

var (
	errServed = errors.New("another process has signed in")
	errYield  = errors.New("a sign-in in a terminal takes over")
)

// notice is what a leader tells. It is the truth only while the lock is held; under a
// free lock, one without a failure is that of a leader that died or gave way.
type notice struct {
	ID     string   `json:"id"`               // of this sign-in
	Scopes []string `json:"scopes,omitempty"` // of its step-up
	Prompt Prompt   `json:"prompt,omitzero"`
	Failed *failure `json:"failed,omitempty"`
}

// failure is how a sign-in ended, if that concerns all who waited for it.
type failure struct {
	SignIn    *asclient.SignInError    `json:"sign_in,omitempty"`
	Discovery *asclient.DiscoveryError `json:"discovery,omitempty"`
	Beneath   string                   `json:"beneath,omitempty"` // text of their Err
	Late      bool                     `json:"late,omitempty"`    // which was ErrNotCompleted
}

// pages counts the login pages of all processes.
type pages struct {
	Count int       `json:"count"` // since the upstream last took a new token
	Last  time.Time `json:"last"`
	Done  bool      `json:"done"` // the last brought a token: the person is there
}

// lead signs in for all processes of our key, or waits for the one that does. That one's
// success and its failure count for us too; when it dies, we try to be the next.
func (t *Transport) lead(ctx context.Context, j job) error {
	show := t.follower(ctx)
	defer show(Prompt{})
	lead, claim := t.cfg.Store.Lock(t.key+leadName), t.cfg.Store.Lock(t.key+claimName)
	followed, claimed := "", false
	for {
		if t.cfg.AtTerminal && !claimed && claim.Try() {
			claimed = true
			defer claim.Unlock()
		}
		ours := lead.Try()
		if ours && !claimed && t.claimed() {
			lead.Unlock()
			ours = false
		}
		var n notice
		t.recall(noticeName, &n)
		if t.adopt(j, followed != "") {
			if ours {
				lead.Unlock()
			}
			return nil
		}
		if ours {
			show(Prompt{})
			err, shared := n.failure(followed, j)
			if !shared {
				heir := followed != "" && followed == n.ID && n.Failed == nil
				err = t.leadNow(ctx, j, claimed, heir)
			}
			lead.Unlock()
			if err != errYield {
				return err
			}
		} else {
			followed = n.ID
			show(n.Prompt)
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leadNow is login under the lock, with the others told. heir: the leader that we waited
// for is gone, and its page with it.
func (t *Transport) leadNow(ctx context.Context, j job, claimed, heir bool) error {
	n := notice{ID: rand.Text(), Scopes: j.scopes}
	t.remember(noticeName, n)
	t.mu.Lock()
	t.leading, t.unbraked = n, heir
	t.mu.Unlock()
	inner, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() { // ends with inner
		defer close(watched)
		t.watch(inner, j, claimed, cancel)
	}()
	err := t.login(inner, j)
	cause := context.Cause(inner)
	cancel(nil)
	<-watched
	switch {
	case err == nil:
		t.count(func(p *pages) { p.Done = true })
	case ctx.Err() != nil: // we end, and another may lead
	case errors.Is(cause, errServed):
		err = nil
	case errors.Is(cause, errYield):
		err = errYield
	default:
		n.Failed = failureOf(err)
	}
	t.remember(noticeName, n) // without the link
	return err
}

// watch ends a login that the person has not answered yet when another process has
// stored a token that does, or claims the lead.
func (t *Transport) watch(ctx context.Context, j job, claimed bool, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		idle := !t.braked.IsZero() || t.prompt.AuthorizeURL != ""
		t.mu.Unlock()
		switch {
		case !idle:
		case t.adopt(j, false):
			cancel(errServed)
		case !claimed && t.claimed():
			cancel(errYield)
		}
	}
}

// claimed reports whether another process claims the lead. Only the lock's holder asks.
func (t *Transport) claimed() bool {
	claim := t.cfg.Store.Lock(t.key + claimName)
	defer claim.Unlock()
	return !claim.Try()
}

// adopt takes what the store holds now and reports whether it is what j wants. fresh: it
// comes of the sign-in that we waited for, and a 401 will not be answered by another.
func (t *Transport) adopt(j job, fresh bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.rec.Token.Access
	t.reloadLocked()
	if !t.satisfiedLocked(j) {
		return false
	}
	if fresh && t.rec.Token.Access != before {
		t.proof = signedIn
	}
	return true
}

// follower returns what shows the leader's prompt as ours; the zero one withdraws it.
func (t *Transport) follower(ctx context.Context) (show func(Prompt)) {
	var shown Prompt
	withdraw := context.CancelFunc(func() {})
	return func(p Prompt) {
		if p.AuthorizeURL == shown.AuthorizeURL && p.UserCode == shown.UserCode {
			return
		}
		withdraw()
		shown = p
		p.Elsewhere = p.AuthorizeURL != ""
		t.mu.Lock()
		t.prompt = p
		t.notifyLocked()
		t.mu.Unlock()
		if p.Elsewhere && t.cfg.Offer != nil {
			var offered context.Context
			offered, withdraw = context.WithCancel(ctx)
			// Ends when Offer does, which offered ends.
			t.wg.Go(func() { t.cfg.Offer(offered, p) })
		}
	}
}

// announce counts the page that is about to be shown and tells the others of it.
func (t *Transport) announce(p Prompt) {
	t.count(func(c *pages) { *c = pages{Count: c.Count + 1, Last: t.now()} })
	t.mu.Lock()
	n := t.leading
	t.mu.Unlock()
	n.Prompt = p
	t.remember(noticeName, n)
}

// brake waits until a new login page may be offered, or says that it may not.
func (t *Transport) brake(ctx context.Context, j job, s asclient.Server) error {
	var p pages
	t.recall(pagesName, &p)
	since := t.now().Sub(p.Last)
	t.mu.Lock()
	free := t.unbraked || t.cfg.AtTerminal || since < 0 // a clock that was set back says nothing
	t.mu.Unlock()
	if p.Count >= stormPages && since < stormHold*t.offerEvery && since >= 0 && !j.asked && !t.cfg.AtTerminal {
		return &asclient.SignInError{Stage: asclient.StageAuthorize, Server: s.Name(), Err: ErrHeldBack}
	}
	wait := t.offerEvery - since
	if free || p.Count == 0 || p.Done && p.Count < stormPages || wait <= 0 {
		return nil
	}
	t.cfg.Log.Info("next login page waits", "dur", wait)
	t.brakes(t.now().Add(wait))
	defer t.brakes(time.Time{})
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Transport) brakes(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.braked = until
	t.notifyLocked()
}

// acceptedLocked notes that the upstream took the token.
func (t *Transport) acceptedLocked() {
	if t.proof == signedIn && t.ctx.Err() == nil {
		// Ends with the write of a small file.
		t.wg.Go(func() { t.count(func(p *pages) { *p = pages{} }) })
	}
	t.proof = accepted
}

// count changes the count of login pages.
func (t *Transport) count(change func(*pages)) {
	var p pages
	t.recall(pagesName, &p)
	old := p
	if change(&p); p != old {
		t.remember(pagesName, p)
	}
}

// remember stores v under our key and name.
func (t *Transport) remember(name string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = t.cfg.Store.Save(t.key+name, b)
	}
	if err != nil {
		t.cfg.Log.Warn("state of the sign-in could not be stored", "err", err)
	}
}

// recall reads into v what remember stored; v stays as it is if there is nothing.
func (t *Transport) recall(name string, v any) {
	b, err := t.cfg.Store.Load(t.key + name)
	if err == nil && b != nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.cfg.Log.Debug("state of the sign-in is not used", "err", err)
	}
}

// failureOf is what others need to know of err; nil: each may try for itself.
func failureOf(err error) *failure {
	f := &failure{Late: errors.Is(err, ErrNotCompleted)}
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
		f.Beneath = asclient.PeerText(err.Error(), nil)
	}
	return f
}

// failure returns how the sign-in n ended. shared: it is the one we followed, and wanted
// what j wants.
func (n notice) failure(followed string, j job) (err error, shared bool) {
	f := n.Failed
	if f == nil || n.ID != followed || !slices.Equal(n.Scopes, j.scopes) {
		return nil, false
	}
	var beneath error
	switch {
	case f.Late:
		beneath = ErrNotCompleted
	case f.Beneath != "":
		beneath = errors.New(f.Beneath)
	}
	switch {
	case f.SignIn != nil:
		f.SignIn.Err = beneath
		return f.SignIn, true
	case f.Discovery != nil:
		f.Discovery.Err = beneath
		return f.Discovery, true
	}
	return nil, false
}
