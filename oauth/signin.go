package oauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// SignIn signs in now unless a valid token is there, and waits for it. An upstream
// that asks for no token and has no resource metadata needs none, unless the grant is
// configured.
func (t *Transport) SignIn(ctx context.Context) error {
	if t.cfg.Grant == GrantNone {
		return nil
	}
	if access, err := t.bearer(ctx, false); access != "" || err != nil && !errors.Is(err, ErrHeldBack) {
		return err
	}
	n, err := t.probe(ctx)
	if err != nil {
		return err
	}
	if n == nil {
		var f finding
		if t.cfg.Grant == GrantAuto && !t.cfg.Endpoints.NoDiscovery {
			if err := t.findResource(ctx, "", &f); err != nil {
				return err
			}
			if f.resource.Resource == "" {
				return nil
			}
		}
		n = &need{}
	}
	n.byPerson = true
	return t.renew(ctx, *n)
}

// probe asks the upstream for its challenge: by GET, then by a ping, for some ask only
// then. nil: it asks for no token.
func (t *Transport) probe(ctx context.Context) (*need, error) {
	const ping = `{"jsonrpc":"2.0","id":"sallyport-probe","method":"ping"}`
	for _, body := range []string{"", ping} {
		ctx, cancel := context.WithTimeout(ctx, replyTimeout)
		defer cancel()
		req := &http.Request{Method: http.MethodGet, URL: t.cfg.Upstream, Host: t.cfg.Upstream.Host, Header: make(http.Header)}
		req.Header.Set("Accept", "application/json, text/event-stream")
		if body != "" {
			req.Method = http.MethodPost
			req.Header.Set("Content-Type", "application/json")
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		resp, err := t.cfg.Base.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		resp.Body.Close() // a stream that opened is not ours to read
		if resp.StatusCode == http.StatusUnauthorized {
			return t.remedy(resp, "")
		}
	}
	return nil, nil
}

// SignOut revokes (RFC 7009) where the server can and forgets tokens and registration.
// They are forgotten even if the revocation fails, which the error then says.
func (t *Transport) SignOut(ctx context.Context) error {
	for {
		// The outcome of a flight under way is not ours, and nothing satisfies a sign-out beforehand.
		final, err := t.flights.join(ctx, need{signOut: true}, func() bool { return false }, t.signOut)
		if final {
			return err
		}
	}
}

func (t *Transport) signOut(ctx context.Context, _ *flight) error {
	rec, unlock, err := t.creds.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = t.revoke(ctx, rec)
	t.creds.set(record{}, fromStore)
	return errors.Join(err, t.cfg.Store.Forget(t.creds.key))
}

// revoke is RFC 7009 section 2.1; revoking the refresh token ends its access tokens too.
func (t *Transport) revoke(ctx context.Context, rec record) error {
	value, hint := rec.Token.Refresh, "refresh_token"
	if value == "" {
		value, hint = rec.Token.Access, "access_token"
	}
	if value == "" || rec.Server.RevocationEndpoint == "" {
		return nil
	}
	c := t.clientOf(rec)
	form := url.Values{"token": {value}, "token_type_hint": {hint}}
	a, err := t.postForm(ctx, rec.Server.RevocationEndpoint, rec.Server, c, form, "")
	if err != nil {
		return &SignInError{Stage: StageRevoke, Server: rec.Server.name(), Err: err}
	}
	if a.status/100 != 2 {
		return replyError(StageRevoke, rec.Server.RevocationEndpoint, a.status, a.body, secretsOf(form, c))
	}
	return nil
}

// renew gets a token that satisfies n, or joins the flight that may, until ctx ends.
func (t *Transport) renew(ctx context.Context, n need) error {
	for {
		final, err := t.flights.join(ctx, n,
			func() bool { return t.creds.satisfies(n) },
			func(ctx context.Context, f *flight) error { return t.obtain(ctx, f) })
		if final || err != nil && err != errNeedsPerson {
			return err
		}
	}
}

// obtain is the flight of renew.
func (t *Transport) obtain(ctx context.Context, f *flight) error {
	n := f.need
	if t.cfg.unattended() {
		return t.unattendedLogin(ctx, f)
	}
	if done, err := t.refresh(ctx, n); done || err != nil {
		return err
	}
	if n.ahead {
		return errNeedsPerson // nobody is asked to log in while the token still works
	}
	done, refusal, err := t.useGiven(ctx, n)
	if done || err != nil {
		return err
	}
	if n.background {
		return errNeedsPerson
	}
	if t.cfg.NonInteractive {
		return &LoginRequiredError{Upstream: withoutQuery(t.cfg.Upstream), Err: refusal}
	}
	t.flights.turnToPerson(f)
	return t.peers.signIn(ctx, n, func(ctx context.Context, l *leadership) error { return t.login(ctx, f, l) })
}
