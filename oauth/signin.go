package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"sallyport/oauth/asclient"
)

// SignIn signs in now, unless a valid token is there, and waits until ctx ends. A token that the
// upstream has refused since the sign-in is not valid. An upstream that asks for no token and has
// no resource metadata, or answers even the call of a tool, needs none; SignIn then returns nil,
// unless the Config names a grant. No error of an old refresh token ends it: a login follows. Its
// errors are those of the package comment.
func (t *Transport) SignIn(ctx context.Context) error {
	if t.cfg.Grant == GrantNone {
		return nil
	}
	access, err := t.bearer(ctx, person)
	if _, standing := t.account.current(); err != nil || access != "" && standing != refused {
		return err
	}
	n := need{byPerson: true, instead: access}
	if wanted, err := t.askUpstream(ctx, &n); !wanted || err != nil {
		return err
	}
	return t.renew(ctx, n)
}

// askUpstream sets n's challenge by asking the upstream for it. It reports false if the upstream
// wants no token.
func (t *Transport) askUpstream(ctx context.Context, n *need) (wanted bool, err error) {
	ch, _, err := t.as.AskUpstream(ctx)
	if err != nil {
		return false, err
	}
	if ch == nil {
		if t.cfg.Grant == GrantAuto && !t.cfg.Endpoints.NoDiscovery {
			if f, err := t.as.FindResource(ctx, ""); err != nil || f.Resource.ID == "" || t.servesAnybody(ctx) {
				return false, err
			}
		}
		ch = new(asclient.Challenge)
	}
	n.challenge, n.asked = *ch, true
	return true, nil
}

// servesAnybody reports whether the upstream answers a call of a tool without a token as a server
// of MCP does. No server has that tool. Some ask for a token only at a call.
func (t *Transport) servesAnybody(ctx context.Context) bool {
	const call = `{"jsonrpc":"2.0","id":"sallyport-probe","method":"tools/call","params":{"name":"sallyport-probe","arguments":{}}}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.Upstream.String(), strings.NewReader(call))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := t.cfg.Base.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return complaintOf(resp, asclient.ReadChallenge(resp.Header), false) == complaintNone && isMessage(resp)
}

// SignOut revokes the tokens (RFC 7009) if the server can do that, and forgets the tokens and the
// registration. If the revocation fails, they are kept, so that it can be tried again, and the
// error is a [RevocationError]. With force they are forgotten all the same.
//
// With GrantEnterpriseManaged it does so for the sign-in at the identity provider as well, although
// other upstreams may use it too: see [Transport.ProviderAccount].
func (t *Transport) SignOut(ctx context.Context, force bool) error {
	for {
		// The outcome of another flight is not ours, and nothing satisfies a sign-out beforehand.
		final, err := t.flights.join(ctx, need{signOut: true}, func() bool { return false }, func(ctx context.Context, f *flight) error {
			return t.signOut(ctx, f, force)
		})
		if final {
			return err
		}
	}
}

// signOut is the flight of SignOut.
func (t *Transport) signOut(ctx context.Context, f *flight, force bool) error {
	rec, unlock, err := t.account.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if t.cfg.Bearer == BearerID {
		rec.Token.Access = "" // nobody revokes an ID token
	}
	if rec.Token != (asclient.Token{}) {
		r := &renewal{cfg: &t.cfg, clients: t.clients, account: t.account}
		if err = r.checkIssuer(rec.Server); err == nil {
			err = t.as.Revoke(ctx, rec.Server, t.clients.of(rec).Credentials, rec.Token)
		}
	}
	err = errors.Join(err, t.revokeOutdated(ctx))
	if err != nil {
		err = &RevocationError{Kept: !force, Err: err}
	}
	if err == nil || force {
		t.account.set(record{}, fromStore)
		err = errors.Join(err, t.cfg.Store.Forget(t.account.key))
	}
	if t.provider != nil && t.cfg.Assertion == nil && (err == nil || force) {
		err = errors.Join(err, t.provider.signOut(ctx, f, force))
	}
	return err
}

// revokeOutdated revokes the tokens of a server that the Config no longer takes. Configured secrets
// are not for that server, so it is not asked if the client needs one.
func (t *Transport) revokeOutdated(ctx context.Context) error {
	rec := t.account.outdated()
	if t.cfg.Bearer == BearerID {
		rec.Token.Access = "" // nobody revokes an ID token
	}
	if rec.Token.Access == "" && rec.Token.Refresh == "" {
		return nil
	}
	who := rec.Client.Credentials
	if c, configured := t.clients.configured(rec.Server); configured {
		who = c.Credentials
		if who.Secret != "" || who.Key != nil {
			t.cfg.Log.Warn("tokens of another server are not revoked, as that takes the client's secret", "host", rec.Server.Host())
			return nil
		}
	}
	return t.as.Revoke(ctx, rec.Server, who, rec.Token)
}

// Deliver hands in a callback URL that did not arrive at the listener, for example one that a
// person pasted. It waits for the outcome of the login, until ctx ends, and returns that outcome.
// It returns ErrNoSignIn if the URL does not belong to the last login.
//
// A URL of nothing but a query ("?code=...&state=...") is judged by its state. The path tells apart
// servers that do not send iss (RFC 9207), so a caller hands it in if it knows it. If a server does
// send iss, a query without it is refused with ErrIncomplete, and the login goes on.
func (t *Transport) Deliver(ctx context.Context, callback *url.URL) error {
	cb := t.callback.Load()
	if t.provider != nil { // then no other login needs a callback
		cb = t.provider.callback.Load()
	}
	q, queryOnly := callback.Query(), callback.Host == "" && callback.Path == ""
	switch {
	case cb == nil || !queryOnly && pathOf(callback) != pathOf(cb.redirect) || !cb.hasState(q):
		return ErrNoSignIn
	case queryOnly && cb.sendsIss && !q.Has("iss"):
		return ErrIncomplete
	}
	cb.deliver(q)
	select {
	case <-cb.finished:
		return cb.err
	case <-ctx.Done():
	}
	select {
	case <-cb.finished: // at the same time
		return cb.err
	default:
		return context.Cause(ctx)
	}
}
