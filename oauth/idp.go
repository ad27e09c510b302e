package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/tokenstore"
)

// provider is the person's account at the identity provider of GrantEnterpriseManaged. It is a
// Transport that no request passes through: its token is the ID token, and its record, its logins
// and its peers are those of any other account. Its key in the store names the identity provider,
// so the upstreams of all processes share one sign-in there.
//
// Whatever it does is a step of a flight of the upstream's Transport.
type provider struct {
	*Transport
	// upstream is the Config of the upstream's Transport.
	upstream *Config
}

// providerUse is what a record of an account at an identity provider holds beside the rest.
type providerUse struct {
	// UsedBy lists the upstreams that got a token by the account.
	UsedBy []string `json:"used_by,omitempty"`
	// PublicClient is the ID of our client at the identity provider if that client has no secret.
	// RevokeProviders needs it. It is empty otherwise.
	PublicClient string `json:"public_client,omitempty"`
}

// of returns a copy of u for a client. A nil u has no upstreams.
func (u *providerUse) of(client ClientConfig) *providerUse {
	next := &providerUse{UsedBy: u.upstreams()}
	if client.Secret == "" {
		next.PublicClient = client.ID
	}
	return next
}

// upstreams returns the upstreams that use the account. A nil u has none.
func (u *providerUse) upstreams() []string {
	if u == nil {
		return nil
	}
	return u.UsedBy
}

// newProvider makes the account that belongs to t. It shares t's life, State and flights.
func newProvider(t *Transport) (*provider, error) {
	cfg, err := t.cfg.providerConfig()
	if err != nil {
		return nil, err
	}
	p := &provider{&Transport{cfg: cfg, life: t.life, status: t.status, flights: t.flights}, &t.cfg}
	return p, p.openAccount()
}

// providerConfig is the Config of the account at the identity provider. The provider takes the
// place of the upstream. The person vouches for it, and it belongs to OpenID Connect and not to
// MCP, so a provider whose metadata does not mention PKCE is not refused.
func (c *Config) providerConfig() (Config, error) {
	p, idp := *c, c.IDP
	place := idp.Issuer
	if place == "" {
		place = idp.TokenURL
	}
	var err error
	if p.Upstream, err = url.Parse(place); err != nil {
		return Config{}, err
	}
	p.atProvider, p.now = true, func() time.Time { return c.now() }
	if idp.Realm != "" {
		p.Realm = idp.Realm
	}
	p.Base, p.AuthBase = upstreamRoute{c}, upstreamRoute{c}
	p.Grant, p.Bearer = GrantAuto, BearerID
	p.Client = ClientConfig{ID: idp.ClientID, Secret: idp.ClientSecret, Name: c.Client.Name, Certificate: c.Client.Certificate}
	p.Endpoints = Endpoints{Issuer: idp.Issuer, TokenURL: idp.TokenURL, AssumePKCE: true}
	// These belong to the authorization server of the upstream.
	p.Scope, p.Resource, p.Audience, p.ExtraParams = "", "", "", nil
	p.Given, p.Assertion, p.IDP = Given{}, nil, IdentityProvider{}
	return p, nil
}

// upstreamRoute sends requests as the Transport of a Config does, because the identity provider may
// be at the upstream's origin.
type upstreamRoute struct{ cfg *Config }

func (r upstreamRoute) RoundTrip(req *http.Request) (*http.Response, error) {
	if asclient.SameOrigin(req.URL, r.cfg.Upstream) {
		return r.cfg.Base.RoundTrip(req)
	}
	return r.cfg.AuthBase.RoundTrip(req)
}

// maxExchanges is how many ID tokens one flight exchanges: the stored one, a refreshed one, and
// that of a sign-in, which another process may have overtaken.
const maxExchanges = 4

// assertion returns the assertion for the authorization server that want.Audience names. The person
// signs in if there is no ID token otherwise, or if the provider takes none of those that there
// are. f is the flight of the upstream's Transport.
func (p *provider) assertion(ctx context.Context, f *flight, want asclient.Wanted) (string, error) {
	if err := p.cfg.Store.Await(ctx, p.account.key); err != nil {
		return "", err
	}
	p.account.reload() // another process may have refreshed the ID token, or signed out
	n := need{byPerson: f.need.byPerson, asked: true, challenge: asclient.Challenge{Scope: "openid"},
		background: f.need.background || f.need.ahead} // nobody is asked while the old token works
	var refusal error
	for try := 1; ; try++ {
		if err := p.renewIDToken(ctx, f, n); err != nil {
			return "", p.named(err, refusal)
		}
		rec, from := p.account.current()
		assertion, err := p.as.ExchangeIDToken(ctx, rec.Server, p.clients.of(rec).Credentials, rec.Token.Access, want)
		if err == nil {
			f.addSecrets(assertion)
			p.accepted(rec.Token.Access)
			p.noteUse(ctx)
			return assertion, nil
		}
		if from == fromSignIn && (f.personAsked() || !n.byPerson) || !refusesIDToken(err, n.byPerson) || try == maxExchanges {
			return "", p.named(err, nil)
		}
		p.cfg.Log.Info("ID token is refused by the identity provider", "err", err)
		refusal = err
		n.instead, n.noRefresh = rec.Token.Access, from == fromRefresh || from == fromSignIn
	}
}

// renewIDToken makes sure that there is an ID token that satisfies n, by a refresh or a login if
// need be. One that expires soon is refreshed, but used all the same if that fails.
func (p *provider) renewIDToken(ctx context.Context, f *flight, n need) error {
	if !p.account.satisfies(n) {
		return p.getToken(ctx, f.step(n))
	}
	rec, _ := p.account.current()
	if !p.account.renewable() || !rec.Token.Due(p.cfg.now(), p.cfg.RefreshSkew) {
		return nil
	}
	n.instead, n.ahead = rec.Token.Access, true
	if err := p.getToken(ctx, f.step(n)); err != nil {
		p.cfg.Log.Info("early refresh failed, the ID token is still valid", "err", err)
	}
	return ctx.Err()
}

// named returns err as the caller of the upstream's Transport is to see it. If a person has to log
// in, it names the upstream, and refusal, which says why the stored ID token would not do and may
// be nil.
func (p *provider) named(err, refusal error) error {
	_, required := errors.AsType[*LoginRequiredError](err)
	_, signIn := errors.AsType[*asclient.SignInError](err)
	_, discovery := errors.AsType[*asclient.DiscoveryError](err)
	switch {
	case required:
		return &LoginRequiredError{Upstream: asclient.WithoutQuery(p.upstream.Upstream), Err: refusal}
	case signIn || discovery:
		return &ProviderError{err}
	}
	return err
}

// ProviderError reports that the sign-in at the identity provider of GrantEnterpriseManaged failed,
// or that the provider gave no assertion for the ID token.
type ProviderError struct {
	// Err is the error beneath: a SignInError or a DiscoveryError of package asclient.
	Err error
}

func (e *ProviderError) Error() string { return "identity provider: " + e.Err.Error() }

// Unwrap returns the error beneath.
func (e *ProviderError) Unwrap() error { return e.Err }

// refusesIDToken reports whether err may mean that the identity provider refuses the ID token
// itself: it has expired, or its session has ended. RFC 8693 section 2.2.2 wants invalid_request
// for that, and providers have words of their own. So every refusal counts unless its code names
// another cause. A person who asks for a sign-in may want to sign in as somebody else.
func refusesIDToken(err error, byPerson bool) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok {
		return false
	}
	asRefresh := *e // the rule is that of a refresh token
	asRefresh.Stage = asclient.StageRefresh
	if !asRefresh.EndsRefreshToken() {
		return false
	}
	switch strings.ToLower(e.Code) {
	case "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_target", "invalid_scope":
		return false
	case "access_denied":
		return byPerson
	}
	return true
}

// noteUse notes in the record that our upstream uses the sign-in.
func (p *provider) noteUse(ctx context.Context) {
	u := p.upstream.Upstream
	name := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String() // no query, no user
	if rec, _ := p.account.current(); slices.Contains(rec.Provider.upstreams(), name) {
		return
	}
	rec, unlock, err := p.account.lock(ctx)
	if err != nil {
		return // the note is only shown to people
	}
	defer unlock()
	if rec.Provider == nil || slices.Contains(rec.Provider.UsedBy, name) {
		return
	}
	use := *rec.Provider
	use.UsedBy = append(slices.Clone(use.UsedBy), name)
	rec.Provider = &use
	p.account.save(rec)
	_, from := p.account.current()
	p.account.set(rec, from)
}

// exchange has the identity provider exchange an ID token that Config.Assertion returned.
func (p *provider) exchange(ctx context.Context, f *flight, idToken string, want asclient.Wanted) (string, error) {
	found, err := p.cfg.discover(ctx, p.as, "", false)
	if err == nil && found.Server.TokenEndpoint == "" {
		err = found.Missing("token endpoint")
	}
	if err != nil {
		return "", p.named(err, nil)
	}
	who, _ := p.clients.configured(found.Server)
	assertion, err := p.as.ExchangeIDToken(ctx, found.Server, who.Credentials, idToken, want)
	if err != nil {
		return "", p.named(err, nil)
	}
	f.addSecrets(assertion)
	return assertion, nil
}

// ProviderAccount returns the person's account at the identity provider of GrantEnterpriseManaged,
// as Accounts lists it. It reports false if there is none. Its UsedBy names the upstreams that a
// SignOut concerns. The error is the cause of ctx's end.
func (t *Transport) ProviderAccount(ctx context.Context) (a Account, ok bool, err error) {
	if t.provider == nil || t.cfg.Assertion != nil {
		return Account{}, false, nil
	}
	p := t.provider
	if err := p.cfg.Store.Await(ctx, p.account.key); err != nil {
		return Account{}, false, err
	}
	p.account.reload()
	rec, _ := p.account.current()
	return rec.account(), rec.Upstream != "", nil
}

// revokeTimeout bounds how long RevokeProviders waits for one identity provider.
const revokeTimeout = 10 * time.Second

// RevokeProviders revokes all sign-ins at identity providers that store keeps, as far as that takes
// no secret of a client. It sends requests through send, and forgets nothing. The error tells of
// each sign-in that was not revoked.
func RevokeProviders(ctx context.Context, store *tokenstore.Store, send http.RoundTripper) error {
	values, err := store.Values()
	errs := []error{err}
	for _, b := range values {
		var rec record
		if json.Unmarshal(b, &rec) != nil || rec.Provider == nil || rec.Token.Refresh == "" {
			continue
		}
		errs = append(errs, rec.revokeAtProvider(ctx, send))
	}
	return errors.Join(errs...)
}

// revokeAtProvider revokes the sign-in at the identity provider that r is of.
func (r record) revokeAtProvider(ctx context.Context, send http.RoundTripper) error {
	u, err := url.Parse(r.Upstream)
	if err != nil {
		return err
	}
	name := asclient.WithoutQuery(u)
	switch {
	case r.Provider.PublicClient == "":
		return fmt.Errorf("the sign-in at %s is not revoked: that takes the client's secret", name)
	case r.Server.RevocationEndpoint == "":
		return fmt.Errorf("the sign-in at %s is not revoked: the provider cannot do that", name)
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	as := &asclient.Client{Upstream: u, Base: send, Other: send}
	return as.Revoke(ctx, r.Server, asclient.Credentials{ID: r.Provider.PublicClient}, asclient.Token{Refresh: r.Token.Refresh})
}
