package oauth

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"sallyport/oauth/asclient"
)

// SignIn signs in now, unless a valid token is there, and waits until ctx ends. An upstream that
// asks for no token and has no resource metadata needs none; SignIn then returns nil, unless the
// Config names a grant. Its errors are those of the package comment.
func (t *Transport) SignIn(ctx context.Context) error {
	if t.cfg.Grant == GrantNone {
		return nil
	}
	if access, err := t.bearer(ctx, false); access != "" || err != nil && !errors.Is(err, ErrHeldBack) {
		return err
	}
	ch, _, err := t.as.AskUpstream(ctx)
	if err != nil {
		return err
	}
	if ch == nil {
		if t.cfg.Grant == GrantAuto && !t.cfg.Endpoints.NoDiscovery {
			if f, err := t.as.FindResource(ctx, ""); err != nil || f.Resource.ID == "" {
				return err
			}
		}
		ch = new(asclient.Challenge)
	}
	return t.renew(ctx, need{byPerson: true, challenge: *ch})
}

// SignOut revokes the tokens (RFC 7009) if the server can do that, and forgets the tokens and the
// registration. It forgets them even if the revocation fails; the error then says why it failed.
func (t *Transport) SignOut(ctx context.Context) error {
	for {
		// The outcome of another flight is not ours, and nothing satisfies a sign-out beforehand.
		final, err := t.flights.join(ctx, need{signOut: true}, func() bool { return false }, t.signOut)
		if final {
			return err
		}
	}
}

// signOut is the flight of SignOut.
func (t *Transport) signOut(ctx context.Context, _ *flight) error {
	rec, unlock, err := t.account.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = t.as.Revoke(ctx, rec.Server, t.clients.of(rec).Credentials, rec.Token)
	t.account.set(record{}, fromStore)
	return errors.Join(err, t.cfg.Store.Forget(t.account.key))
}

// Deliver hands in a callback URL that did not arrive at the listener, for example one that a
// person pasted. It waits for the outcome of the login, until ctx ends, and returns that outcome.
// It returns ErrNoSignIn if the URL does not belong to the last login.
func (t *Transport) Deliver(ctx context.Context, callback *url.URL) error {
	cb := t.callback.Load()
	if cb == nil || !cb.deliver(callback.Query()) {
		return ErrNoSignIn
	}
	select {
	case <-cb.finished:
		return cb.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// renew gets a token that satisfies n, or joins the flight that may, until ctx ends.
func (t *Transport) renew(ctx context.Context, n need) error {
	for {
		final, err := t.flights.join(ctx, n, func() bool { return t.account.satisfies(n) }, t.signIn)
		if final || err != nil && err != errNeedsPerson {
			return err
		}
	}
}

// signIn is the flight of renew. It tries what needs no person, then a login.
func (t *Transport) signIn(ctx context.Context, f *flight) error {
	s := &signIn{cfg: &t.cfg, as: t.as, clients: t.clients, account: t.account, flight: f}
	if t.cfg.unattended() {
		return s.unattended(ctx)
	}
	if done, err := s.refresh(ctx); done || err != nil {
		return err
	}
	if f.need.ahead {
		return errNeedsPerson // nobody is asked to log in while the token still works
	}
	done, refusal, err := s.useGiven(ctx)
	if done || err != nil {
		return err
	}
	if f.need.background {
		return errNeedsPerson
	}
	if t.cfg.NonInteractive {
		return &LoginRequiredError{Upstream: asclient.WithoutQuery(t.cfg.Upstream), Err: refusal}
	}
	t.flights.askPerson(f)
	return t.peers.signIn(ctx, f.need, func(ctx context.Context, lead *leadership) error {
		l := &login{signIn: s, lead: lead, status: t.status, life: t.life, pending: &t.callback}
		return l.run(ctx)
	})
}

// signIn is one sign-in under way. It lives as long as its flight. Its own methods get a token
// without a person; a login adds the part that needs one.
type signIn struct {
	cfg     *Config
	as      *asclient.Client
	clients clients
	account *accountRecord
	flight  *flight
}

// discover is the discovery of this sign-in. authorize says that the authorization endpoint is
// needed.
func (s *signIn) discover(ctx context.Context, authorize bool) (asclient.Finding, error) {
	return s.cfg.discover(ctx, s.as, s.flight.need.challenge.Metadata, authorize)
}

// wanted says what to ask f's server for. The scopes are those of the Config, or else those of the
// challenge, or else all of the resource metadata. A step-up adds those that it needs. offline says
// that the token is to outlive the login: then offline_access is added where the server lists it.
func (s *signIn) wanted(f asclient.Finding, offline bool) asclient.Wanted {
	list := strings.Fields(s.cfg.Scope)
	if len(list) == 0 {
		list = strings.Fields(s.flight.need.challenge.Scope)
	}
	if len(list) == 0 {
		list = f.Resource.Scopes
	}
	list = union(s.flight.need.stepUp, list)
	// Without offline_access many servers grant no refresh token; with it others refuse the
	// request.
	if offline && s.cfg.Scope == "" && slices.Contains(f.Server.Scopes, "offline_access") {
		list = union(list, []string{"offline_access"})
	}
	return asclient.Wanted{Scopes: list, Resource: s.cfg.resourceOf(f), Audience: s.cfg.Audience}
}

// subset reports whether all of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// union returns the distinct strings of lists, in order.
func union(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		for _, s := range l {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}
