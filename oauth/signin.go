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
	j, err := t.probe(ctx)
	if err != nil {
		return err
	}
	if j == nil {
		var f finding
		if t.cfg.Grant == GrantAuto && !t.cfg.NoDiscovery {
			if err := t.findResource(ctx, "", &f); err != nil {
				return err
			}
			if f.resource.Resource == "" {
				return nil
			}
		}
		j = &job{}
	}
	j.asked = true
	return t.renew(ctx, *j)
}

// probe asks the upstream for its challenge: by GET, then by a ping, for some ask only
// then. nil: it asks for no token.
func (t *Transport) probe(ctx context.Context) (*job, error) {
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
		if last, err := t.join(ctx, job{out: true}, func() bool { return false }, t.signOut); last {
			return err
		}
	}
}

func (t *Transport) signOut(ctx context.Context) error {
	rec, unlock, err := t.hold(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = t.revoke(ctx, rec)
	t.take(record{}, stored)
	return errors.Join(err, t.cfg.Store.Forget(t.key))
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
