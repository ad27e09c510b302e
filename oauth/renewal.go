package oauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"sallyport/oauth/asclient"
)

// renew gets a token that satisfies n, or joins the flight that may, until ctx ends.
func (t *Transport) renew(ctx context.Context, n need) error {
	for {
		final, err := t.flights.join(ctx, n, func() bool { return t.account.satisfies(n) }, t.getToken)
		if final || err != nil && err != errNeedsPerson {
			return err
		}
	}
}

// getToken is the flight of renew. It tries what needs no person, then a login.
func (t *Transport) getToken(ctx context.Context, f *flight) error {
	r := &renewal{cfg: &t.cfg, as: t.as, clients: t.clients, account: t.account, provider: t.provider, flight: f}
	if t.cfg.unattended() {
		return r.unattended(ctx)
	}
	if done, err := r.refresh(ctx); done || err != nil {
		return err
	}
	if f.need.ahead {
		return errNeedsPerson // nobody is asked to log in while the token still works
	}
	done, refusal, err := r.useGiven(ctx)
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
	return t.peers.logIn(ctx, f.need, func(ctx context.Context, lead *leadership) error {
		l := &login{renewal: r, lead: lead, status: t.status, life: t.life, pending: &t.callback}
		return l.run(ctx)
	})
}

// renewal is a flight that gets a token. It lives as long as the flight. Its own methods get the
// token without a person. A login adds what a person is needed for.
type renewal struct {
	cfg     *Config
	as      *asclient.Client
	clients clients
	account *accountRecord
	// provider is that of the Transport.
	provider *provider
	flight   *flight
}

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

// discover finds the authorization server. authorize says that the authorization endpoint is
// needed.
func (r *renewal) discover(ctx context.Context, authorize bool) (asclient.Finding, error) {
	return r.cfg.discover(ctx, r.as, r.flight.need.challenge.Metadata, authorize)
}

// wanted says what to ask f's server for. The scopes are those of the Config, or else those of the
// challenge, or else all of the resource metadata. A step-up adds those that it needs. offline says
// that the token is to outlive the login: then offline_access is added where the server lists it.
func (r *renewal) wanted(f asclient.Finding, offline bool) asclient.Wanted {
	list := strings.Fields(r.cfg.Scope)
	if len(list) == 0 {
		list = strings.Fields(r.flight.need.challenge.Scope)
	}
	if len(list) == 0 {
		list = f.Resource.Scopes
	}
	list = union(r.flight.need.stepUp, list)
	// Without offline_access many servers grant no refresh token; with it others refuse the
	// request.
	if offline && r.cfg.Scope == "" && slices.Contains(f.Server.Scopes, "offline_access") {
		list = union(list, []string{"offline_access"})
	}
	return asclient.Wanted{Scopes: list, Resource: r.cfg.resourceOf(f), Audience: r.cfg.Audience}
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
