package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"sallyport/oauth/asclient"
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
	k, err := t.as.Refresh(ctx, rec.Server, c.Credentials, rec.Token, rec.Resource)
	if err == nil {
		rec.Token = k
		t.save(rec)
		t.take(rec, refreshed)
		t.cfg.Log.Info("token refreshed", "host", rec.Server.Host())
		return true, nil
	}
	se := (*asclient.SignInError)(nil)
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
		rec.Token = asclient.Token{}
	}
	t.save(rec)
	t.take(rec, stored)
	return false, nil
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
	c, ok := t.fixedClient(f.Server)
	if !ok {
		return false, nil, &asclient.SignInError{Stage: asclient.StageToken, Server: f.Server.Name(), Code: asclient.CodeNoClient, Refused: true,
			Description: "a given code or refresh token needs the client ID it was made for"}
	}
	var k asclient.Token
	if t.cfg.RefreshToken != "" {
		k, err = t.as.Refresh(ctx, f.Server, c.Credentials, asclient.Token{Refresh: string(t.cfg.RefreshToken)}, t.resourceOf(f))
	} else {
		k, err = t.as.RedeemCode(ctx, f.Server, c.Credentials, asclient.Code{Code: string(t.cfg.AuthorizationCode),
			RedirectURI: t.cfg.RedirectURI, Verifier: string(t.cfg.CodeVerifier), Resource: t.resourceOf(f)})
	}
	if se := (*asclient.SignInError)(nil); errors.As(err, &se) && se.Refused {
		t.cfg.Log.Warn("the given code or refresh token is not accepted", "err", err)
		return false, err, t.commit(ctx, f, stored, func(*record) {})
	}
	if err != nil {
		return false, nil, err
	}
	return true, nil, t.commit(ctx, f, signedIn, func(r *record) {
		r.Token, r.Asked = k, strings.Fields(t.cfg.Scope)
	})
}
