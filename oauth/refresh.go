package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"sallyport/oauth/asclient"
)

// refresh uses the refresh token, or takes the token that another process stored meanwhile. It
// reports false without an error if the sign-in must go on in another way.
func (r *renewal) refresh(ctx context.Context) (done bool, err error) {
	rec, unlock, err := r.account.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	n := r.flight.need
	done = r.account.satisfies(n)
	if done || n.noRefresh || rec.Token.Refresh == "" {
		return done, nil
	}
	who := r.clients.of(rec)
	k, err := r.as.Refresh(ctx, rec.Server, who.Credentials, rec.Token, rec.Resource)
	if err == nil {
		rec.Token = k
		r.account.save(rec) // before the token is used: the server may have replaced the refresh token
		r.account.set(rec, fromRefresh)
		r.cfg.Log.Info("token refreshed", "host", rec.Server.Host())
		return true, nil
	}
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok || !e.Refused && e.Status != http.StatusNotFound && e.Status != http.StatusGone {
		return false, err
	}
	switch {
	case e.Code == "invalid_client" && who.Registered:
		rec.Client = client{} // the server has forgotten it: register again
	case e.Code == "invalid_client":
		return false, err // the configured client is wrong, and a login would end the same way
	}
	r.cfg.Log.Warn("refresh token is not accepted any more, a new sign-in is needed", "err", err)
	rec.Token.Refresh = ""
	if rec.Token.Access == n.instead && !n.ahead {
		rec.Token = asclient.Token{}
	}
	r.account.save(rec)
	r.account.set(rec, fromStore)
	return false, nil
}

// useGiven uses the one-shot inputs of the Config, once. done says that they brought a token.
// refusal says why they never will; it is nil if there are none or if they were used before. err is
// an error of the moment.
func (r *renewal) useGiven(ctx context.Context) (done bool, refusal, err error) {
	if !r.account.inputsUnused() || r.flight.need.noRefresh {
		return false, nil, nil
	}
	f, err := r.discover(ctx, false)
	if err != nil {
		return false, nil, err
	}
	who, ok := r.clients.configured(f.Server)
	if !ok {
		return false, nil, &asclient.SignInError{Stage: asclient.StageToken, Server: f.Server.Name(),
			Code: asclient.CodeNoClient, Refused: true,
			Description: "a given code or refresh token needs the client ID it was made for"}
	}
	given, resource := r.cfg.Given, r.cfg.resourceOf(f)
	var k asclient.Token
	if given.RefreshToken != "" {
		old := asclient.Token{Refresh: string(given.RefreshToken)}
		k, err = r.as.Refresh(ctx, f.Server, who.Credentials, old, resource)
	} else {
		k, err = r.as.RedeemCode(ctx, f.Server, who.Credentials, asclient.Code{Code: string(given.AuthorizationCode),
			RedirectURI: r.cfg.Callback.RedirectURI, Verifier: string(given.CodeVerifier), Resource: resource})
	}
	if isRefused(err) {
		r.cfg.Log.Warn("the given code or refresh token is not accepted", "err", err)
		return false, err, r.account.update(ctx, f, fromStore, func(*record) {}) // which notes that they are used up
	}
	if err != nil {
		return false, nil, err
	}
	return true, nil, r.account.update(ctx, f, fromSignIn, func(rec *record) {
		rec.Token, rec.Asked = k, strings.Fields(r.cfg.Scope)
	})
}
