package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// refresh adopts what another process stored meanwhile, or spends the refresh token.
// It does not do, without an error, if a sign-in is needed.
func (t *Transport) refresh(ctx context.Context, j job) (done bool, err error) {
	rec, unlock, err := t.hold(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	t.mu.Lock()
	done = t.satisfiedLocked(j)
	t.mu.Unlock()
	if done || j.full || rec.Token.Refresh == "" {
		return done, nil
	}
	c := t.clientOf(rec)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {rec.Token.Refresh}}
	setIf(form, "resource", rec.Resource)
	k, err := t.grant(ctx, StageRefresh, rec.Server, c, form)
	if err == nil {
		rec.Token = inherit(k, rec.Token)
		t.save(rec)
		t.take(rec, refreshed)
		t.cfg.Log.Info("token refreshed", "host", hostOf(rec.Server.TokenEndpoint))
		return true, nil
	}
	se := (*SignInError)(nil)
	moved := func(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }
	if !errors.As(err, &se) || !se.Refused && !moved(se.Status) {
		return false, err
	}
	switch {
	case se.Code == "invalid_client" && c.Dynamic:
		rec.Client = client{} // forgotten by the server: register again
	case se.Code == "invalid_client":
		return false, err // the configured client is wrong, a login would end the same way
	}
	t.cfg.Log.Warn("refresh token is not accepted any more, a new sign-in is needed", "err", err)
	rec.Token.Refresh = ""
	if rec.Token.Access == j.stale && !j.early {
		rec.Token = token{}
	}
	t.save(rec)
	t.take(rec, stored)
	return false, nil
}

// inherit completes a refreshed token by what an answer may leave out (RFC 6749 section 6).
func inherit(k, old token) token {
	if k.Refresh == "" {
		k.Refresh = old.Refresh
	}
	if k.Scope == "" {
		k.Scope = old.Scope
	}
	if k.Account == "" {
		k.Account = old.Account
	}
	return k
}

// spend uses the one-shot inputs once. done: they brought a token. given is why they
// never will, nil if there are none; err is of the moment.
func (t *Transport) spend(ctx context.Context, j job) (done bool, given, err error) {
	t.mu.Lock()
	unspent := t.unspentLocked()
	t.mu.Unlock()
	if !unspent || j.full {
		return false, nil, nil
	}
	f, err := t.discover(ctx, j.metadata, false)
	if err != nil {
		return false, nil, err
	}
	c, ok := t.fixedClient(f.server)
	if !ok {
		return false, nil, &SignInError{Stage: StageToken, Server: f.server.name(), Code: CodeNoClient, Refused: true,
			Description: "a given code or refresh token needs the client ID it was made for"}
	}
	stage, form := StageToken, url.Values{"grant_type": {"authorization_code"}, "code": {string(t.cfg.AuthorizationCode)}}
	setIf(form, "redirect_uri", t.cfg.RedirectURI)
	setIf(form, "code_verifier", string(t.cfg.CodeVerifier))
	if t.cfg.RefreshToken != "" {
		stage, form = StageRefresh, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(t.cfg.RefreshToken)}}
	}
	setIf(form, "resource", t.resourceOf(f))
	k, err := t.grant(ctx, stage, f.server, c, form)
	if se := (*SignInError)(nil); errors.As(err, &se) && se.Refused {
		t.cfg.Log.Warn("the given code or refresh token is not accepted", "err", err)
		return false, err, t.commit(ctx, f, stored, func(*record) {})
	}
	if err != nil {
		return false, nil, err
	}
	if t.cfg.RefreshToken != "" {
		k = inherit(k, token{Refresh: string(t.cfg.RefreshToken)})
	}
	return true, nil, t.commit(ctx, f, signedIn, func(r *record) {
		r.Token, r.Asked = k, strings.Fields(t.cfg.Scope)
	})
}
