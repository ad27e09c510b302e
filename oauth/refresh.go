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
func (t *Transport) refresh(ctx context.Context, n need) (done bool, err error) {
	rec, unlock, err := t.creds.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	done = t.creds.satisfies(n)
	if done || n.noRefresh || rec.Token.Refresh == "" {
		return done, nil
	}
	c := t.clientOf(rec)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {rec.Token.Refresh}}
	setIf(form, "resource", rec.Resource)
	k, err := t.grant(ctx, StageRefresh, rec.Server, c, form)
	if err == nil {
		rec.Token = inherit(k, rec.Token)
		t.creds.save(rec)
		t.creds.set(rec, fromRefresh)
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
	if rec.Token.Access == n.instead && !n.ahead {
		rec.Token = token{}
	}
	t.creds.save(rec)
	t.creds.set(rec, fromStore)
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

// useGiven uses the one-shot inputs once. done: they brought a token. given is why they
// never will, nil if there are none; err is of the moment.
func (t *Transport) useGiven(ctx context.Context, n need) (done bool, given, err error) {
	if !t.creds.inputsUnused() || n.noRefresh {
		return false, nil, nil
	}
	f, err := t.discover(ctx, n.challenge.metadata, false)
	if err != nil {
		return false, nil, err
	}
	c, ok := t.fixedClient(f.server)
	if !ok {
		return false, nil, &SignInError{Stage: StageToken, Server: f.server.name(), Code: CodeNoClient, Refused: true,
			Description: "a given code or refresh token needs the client ID it was made for"}
	}
	stage, form := StageToken, url.Values{"grant_type": {"authorization_code"}, "code": {string(t.cfg.Given.AuthorizationCode)}}
	setIf(form, "redirect_uri", t.cfg.Callback.RedirectURI)
	setIf(form, "code_verifier", string(t.cfg.Given.CodeVerifier))
	if t.cfg.Given.RefreshToken != "" {
		stage, form = StageRefresh, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(t.cfg.Given.RefreshToken)}}
	}
	setIf(form, "resource", t.cfg.resourceOf(f))
	k, err := t.grant(ctx, stage, f.server, c, form)
	if se := (*SignInError)(nil); errors.As(err, &se) && se.Refused {
		t.cfg.Log.Warn("the given code or refresh token is not accepted", "err", err)
		return false, err, t.creds.update(ctx, f, fromStore, func(*record) {})
	}
	if err != nil {
		return false, nil, err
	}
	if t.cfg.Given.RefreshToken != "" {
		k = inherit(k, token{Refresh: string(t.cfg.Given.RefreshToken)})
	}
	return true, nil, t.creds.update(ctx, f, fromSignIn, func(r *record) {
		r.Token, r.Asked = k, strings.Fields(t.cfg.Scope)
	})
}
