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
func (s *signIn) refresh(ctx context.Context) (done bool, err error) {
	rec, unlock, err := s.account.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	n := s.flight.need
	done = s.account.satisfies(n)
	if done || n.noRefresh || rec.Token.Refresh == "" {
		return done, nil
	}
	who := s.clients.of(rec)
	k, err := s.as.Refresh(ctx, rec.Server, who.Credentials, rec.Token, rec.Resource)
	if err == nil {
		rec.Token = k
		s.account.save(rec) // before the token is used: the server may have replaced the refresh token
		s.account.set(rec, fromRefresh)
		s.cfg.Log.Info("token refreshed", "host", rec.Server.Host())
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
	s.cfg.Log.Warn("refresh token is not accepted any more, a new sign-in is needed", "err", err)
	rec.Token.Refresh = ""
	if rec.Token.Access == n.instead && !n.ahead {
		rec.Token = asclient.Token{}
	}
	s.account.save(rec)
	s.account.set(rec, fromStore)
	return false, nil
}

// useGiven uses the one-shot inputs of the Config, once. done says that they brought a token.
// refusal says why they never will; it is nil if there are none or if they were used before. err is
// an error of the moment.
func (s *signIn) useGiven(ctx context.Context) (done bool, refusal, err error) {
	if !s.account.inputsUnused() || s.flight.need.noRefresh {
		return false, nil, nil
	}
	f, err := s.discover(ctx, false)
	if err != nil {
		return false, nil, err
	}
	who, ok := s.clients.configured(f.Server)
	if !ok {
		return false, nil, &asclient.SignInError{Stage: asclient.StageToken, Server: f.Server.Name(),
			Code: asclient.CodeNoClient, Refused: true,
			Description: "a given code or refresh token needs the client ID it was made for"}
	}
	given, resource := s.cfg.Given, s.cfg.resourceOf(f)
	var k asclient.Token
	if given.RefreshToken != "" {
		old := asclient.Token{Refresh: string(given.RefreshToken)}
		k, err = s.as.Refresh(ctx, f.Server, who.Credentials, old, resource)
	} else {
		k, err = s.as.RedeemCode(ctx, f.Server, who.Credentials, asclient.Code{Code: string(given.AuthorizationCode),
			RedirectURI: s.cfg.Callback.RedirectURI, Verifier: string(given.CodeVerifier), Resource: resource})
	}
	if isRefused(err) {
		s.cfg.Log.Warn("the given code or refresh token is not accepted", "err", err)
		return false, err, s.account.update(ctx, f, fromStore, func(*record) {}) // which notes that they are used up
	}
	if err != nil {
		return false, nil, err
	}
	return true, nil, s.account.update(ctx, f, fromSignIn, func(r *record) {
		r.Token, r.Asked = k, strings.Fields(s.cfg.Scope)
	})
}
