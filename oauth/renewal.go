package oauth

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/oauth/asclient"
)

const (
	// earlyPause is the pause after a refresh ahead of expiry that failed.
	earlyPause = 10 * time.Second
	// maxUndecided is how many undecided answers end a refresh token, provided that they came over
	// undecidedTime at least.
	maxUndecided  = 3
	undecidedTime = 30 * time.Second
	// nowhereTime is undecidedTime for answers of a gateway that has no server behind it.
	nowhereTime = 3 * time.Minute
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
	if f.need.background || f.need.noLogin {
		return errNeedsPerson
	}
	if !f.need.asked && (f.need.byPerson || f.need.challenge == (asclient.Challenge{})) {
		// A refresh token that died leads here without a challenge, which a login needs.
		wanted, err := t.askUpstream(ctx, &f.need)
		if f.need.byPerson && (!wanted || err != nil) {
			return err
		}
	}
	if t.cfg.NonInteractive {
		return &LoginRequiredError{Upstream: asclient.WithoutQuery(t.cfg.Upstream), Err: cmp.Or(refusal, r.refusal, t.account.ended())}
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
	// refusal says why a refresh token was not taken that may be taken later. It is nil if nothing
	// of that kind happened.
	refusal error
}

// byPerson reports whether a person waits for the login, having asked for it.
func (r *renewal) byPerson() bool { return r.flight.need.byPerson || r.cfg.AtTerminal }

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
	if !done && rec.Ended != "" && !n.ahead && !n.background && !n.noLogin && rec.Token.Access == n.instead {
		rec.Token = asclient.Token{} // its refresh token was refused before it turned out to be dead
		r.account.save(rec)
		r.account.set(rec, fromStore)
	}
	if done || n.noRefresh || !rec.refreshable(r.cfg.now()) {
		return done, nil
	}
	if err := r.checkIssuer(rec.Server); err != nil {
		// A process without the secret has signed in there. If the upstream still names that
		// server, the login is refused in the same way.
		r.cfg.Log.Warn("refresh token is not used with the configured client", "err", err)
		return false, nil
	}
	k, err := r.spendRefreshToken(ctx, &rec)
	if err != nil {
		if err = r.keepOrDrop(rec, err); err != nil && r.hasMoved(ctx, rec) {
			r.cfg.Log.Warn("refresh failed, and the upstream names another login server by now", "err", err)
			err = nil
		}
		return false, err
	}
	r.account.doubts.refreshed(rec.Token.Access, k.Access)
	rec.Token, rec.RefusedEarly, rec.Undecided, rec.Ended, rec.RefreshedAt = k, false, 0, "", r.cfg.now()
	r.account.save(rec) // before the token is used: the server may have replaced the refresh token
	r.account.set(rec, fromRefresh)
	r.cfg.Log.Info("token refreshed", "host", rec.Server.Host())
	return true, nil
}

// hasMoved reports whether the upstream names other authorization servers by now, and not the one
// of rec. It is asked only if the request in hand cannot go on without another token.
func (r *renewal) hasMoved(ctx context.Context, rec record) bool {
	n, c := r.flight.need, r.cfg
	if n.ahead || n.background || c.NonInteractive || c.vouchesFor(rec.Server) || c.Endpoints.NoDiscovery || c.atProvider {
		return false
	}
	f, err := r.as.FindResource(ctx, n.challenge.Metadata)
	names := func(issuer string) bool { return (asclient.Server{Issuer: issuer}).ID() == rec.Server.ID() }
	if err != nil || len(f.Resource.Servers) == 0 || slices.ContainsFunc(f.Resource.Servers, names) {
		return false
	}
	f, err = r.as.FindServer(ctx, f) // a server may be named in another way, and be the same
	return err == nil && f.Server.ID() != rec.Server.ID()
}

// spendRefreshToken asks rec's server for a new token. If the refusal may be about the resource
// parameter, it asks once more without it, and notes in rec that this helped.
func (r *renewal) spendRefreshToken(ctx context.Context, rec *record) (asclient.Token, error) {
	who, resource := r.clients.of(*rec).Credentials, rec.Resource
	if rec.RefreshesWithoutResource {
		resource = ""
	}
	k, err := r.as.Refresh(ctx, rec.Server, who, rec.Token, resource)
	if r.findMovedEndpoint(ctx, rec, err) {
		k, err = r.as.Refresh(ctx, rec.Server, who, rec.Token, resource)
	}
	if err == nil || resource == "" || !mayObjectToResource(err) {
		return k, err
	}
	r.cfg.Log.Info("refresh is tried without the resource parameter", "host", rec.Server.Host(), "err", err)
	k, err = r.as.Refresh(ctx, rec.Server, who, rec.Token, "")
	rec.RefreshesWithoutResource = err == nil
	return k, err
}

// findMovedEndpoint looks for the token endpoint of rec's server again, if err says that there is
// none at the old place, and puts it into rec. It reports whether the same server names another
// one at the same origin.
func (r *renewal) findMovedEndpoint(ctx context.Context, rec *record, err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	s := rec.Server
	if !ok || !e.Nowhere() || s.Source != asclient.FromMetadata || r.cfg.Endpoints.NoDiscovery || r.cfg.Endpoints.TokenURL != "" {
		return false
	}
	f, err := r.as.FindServer(ctx, asclient.Finding{Resource: asclient.Resource{Servers: []string{cmp.Or(s.FoundAt, s.Issuer)}}})
	if err != nil || !f.Server.SameAs(s) || f.Server.TokenEndpoint == s.TokenEndpoint {
		return false
	}
	r.cfg.Log.Info("the token endpoint has moved", "host", f.Server.Host())
	rec.Server = f.Server
	return true
}

// keepOrDrop decides what becomes of the refresh token of rec after the error err. It returns nil
// if the sign-in can go on in another way, and otherwise err.
func (r *renewal) keepOrDrop(rec record, err error) error {
	n, now := r.flight.need, r.cfg.now()
	e, _ := errors.AsType[*asclient.SignInError](err)
	lives := rec.Token.Access != "" && !rec.Token.Expiry.IsZero() && !rec.Token.Expired(now)
	unknownClient := e != nil && e.UnknownClient()
	switch {
	case !endsGrant(err) && !r.noteUndecided(&rec, e):
		if n.ahead {
			r.account.doubts.pauseEarly(now)
		}
		if r.byPerson() {
			r.cfg.Log.Warn("refresh failed, and a login goes on in its place", "err", err)
			return nil
		}
		return err
	case lives && (n.ahead || n.background || e.TooEarly() || e.Code != "invalid_grant" && !unknownClient):
		// Some servers refuse as long as the access token lives, and the upstream's refusal need
		// not be about the token. So both tokens stay until that one expires.
		r.cfg.Log.Info("refresh is refused while the token lives, and is not tried again before it expires", "err", err)
		_, standing := r.account.current()
		rec.RefusedEarly = true
		r.account.save(rec)
		r.account.set(rec, standing)
		return nil
	case unknownClient && !r.clients.of(rec).Registered:
		// The refresh token may be good once the configured client is set right.
		r.cfg.Log.Warn("refresh is refused because of the configured client", "err", err)
		r.refusal = err
		return nil
	case unknownClient:
		rec.Client = client{} // the server has forgotten it: register again
	}
	r.cfg.Log.Warn("refresh token is not accepted any more, a new sign-in is needed", "err", err)
	rec.Token.Refresh, rec.RefusedEarly, rec.Undecided, rec.Ended = "", false, 0, err.Error()
	_, standing := r.account.current()
	if rec.Token.Access == n.instead && !n.ahead && !n.noLogin {
		rec.Token, standing = asclient.Token{}, fromStore
	}
	r.account.save(rec)
	r.account.set(rec, standing)
	return nil
}

// noteUndecided notes in rec that the answer e to a refresh is undecided, if it is. It reports
// whether the server has answered so often enough, and for long enough, to end the refresh token.
func (r *renewal) noteUndecided(rec *record, e *asclient.SignInError) (ends bool) {
	if e == nil || !e.Undecided() {
		return false
	}
	now := r.cfg.now()
	if rec.Undecided == 0 || now.Before(rec.UndecidedSince) {
		rec.Undecided, rec.UndecidedSince = 0, now
	}
	rec.Undecided++
	_, standing := r.account.current()
	r.account.save(*rec)
	r.account.set(*rec, standing)
	enough := undecidedTime
	if e.Nowhere() {
		enough = nowhereTime // a deployment takes longer
	}
	return rec.Undecided >= maxUndecided && now.Sub(rec.UndecidedSince) >= enough
}

// endsGrant reports whether err says that a refresh token, or a code, is of no more use.
func endsGrant(err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	return ok && (e.EndsRefreshToken() || e.Refused)
}

// mayObjectToResource reports whether err may be a refusal of the resource parameter: it says so,
// or it does not say what is wrong with the request.
func mayObjectToResource(err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok || !e.EndsRefreshToken() || e.TooEarly() {
		return false
	}
	unclear := e.Status == http.StatusBadRequest || e.Status == http.StatusUnprocessableEntity
	return e.ObjectsTo("resource") || unclear && e.Code == asclient.CodeBadReply
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
	if endsGrant(err) {
		r.cfg.Log.Warn("the given code or refresh token is not accepted", "err", err)
		return false, err, r.account.update(ctx, f, fromStore, func(*record) {}) // which notes that they are used up
	}
	if err != nil && r.byPerson() {
		r.cfg.Log.Warn("the given code or refresh token was not tried to the end", "err", err)
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	return true, nil, r.account.update(ctx, f, fromSignIn, func(rec *record) {
		rec.Token, rec.Asked, rec.Ended = k, strings.Fields(r.cfg.Scope), ""
	})
}

// discover finds the authorization server, and checks that our credentials are for it. authorize
// says that the authorization endpoint is needed.
func (r *renewal) discover(ctx context.Context, authorize bool) (asclient.Finding, error) {
	f, err := r.cfg.discover(ctx, r.as, r.flight.need.challenge.Metadata, authorize)
	if err == nil {
		err = r.checkIssuer(f.Server)
	}
	return f, err
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
