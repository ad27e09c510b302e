package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

// company is an identity provider, and upstreams whose authorization servers take its assertions.
// All share one store and one person.
type company struct {
	t         *testing.T
	idp       *oauthtest.Server
	upstreams []*world
}

func newCompany(t *testing.T, upstreams int) *company {
	t.Helper()
	c := &company{t: t}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.idp.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	c.idp = oauthtest.New(server.URL+"/tenant", "")
	c.idp.AddClient(oauthtest.Client{ID: "us-at-idp", Secret: "idp-s3cret", RedirectURIs: []string{"http://127.0.0.1/callback"}})
	c.idp.Set(func(k *oauthtest.Knobs) { k.Scopes = []string{"openid", "offline_access"} })
	for range upstreams {
		w := newWorld(t)
		w.as.AddClient(oauthtest.Client{ID: "us", Secret: "s3cret-of-us"})
		c.upstreams = append(c.upstreams, w)
		w.store = c.upstreams[0].store
	}
	c.idp.Takes = c.upstreams[0].as
	c.idp.Now = c.upstreams[0].clock
	return c
}

// transport returns a Transport to an upstream. It is a process of its own as far as the store
// goes.
func (c *company) transport(upstream int, change func(*Config)) *Transport {
	c.t.Helper()
	w := c.upstreams[upstream]
	tr := w.transport(func(cfg *Config) {
		cfg.Offer = func(ctx context.Context, p Prompt) {
			if !p.Elsewhere {
				w.open(ctx, p)
			}
		}
		cfg.Grant, cfg.Client.ID, cfg.Client.Secret = GrantEnterpriseManaged, "us", "s3cret-of-us"
		cfg.IDP = IdentityProvider{Issuer: c.idp.Issuer, ClientID: "us-at-idp", ClientSecret: "idp-s3cret", Realm: "default"}
		if change != nil {
			change(cfg)
		}
	})
	tr.cfg.now, tr.provider.cfg.pageInterval = c.upstreams[0].clock, 0
	return tr
}

// mustPost posts to an upstream, whose server takes the provider's next assertion.
func (c *company) mustPost(tr *Transport, upstream int) {
	c.t.Helper()
	c.idp.Takes = c.upstreams[upstream].as
	c.upstreams[upstream].mustPost(tr)
}

// wantStats compares what the provider was asked. Revocations are compared where they matter.
func (c *company) wantStats(want oauthtest.Stats) {
	c.t.Helper()
	if got := c.idp.Stats(); got != want {
		c.t.Errorf("the provider was asked %+v, want %+v", got, want)
	}
}

// wantStage fails unless err is a SignInError of this stage at a server.
func wantStage(t *testing.T, err error, stage, code, server string) {
	t.Helper()
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok || e.Stage != stage || e.Code != code || !strings.HasPrefix(e.Server, server) {
		t.Errorf("got %v, want stage %s, code %s at %s", err, stage, code, server)
	}
}

func TestOneSignInAtTheProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 2)
	first := c.transport(0, func(cfg *Config) { // with settings of which only the last one is for the provider
		cfg.Scope, cfg.Resource, cfg.Audience = "tools", c.upstreams[0].upstream.String(), "an audience"
		cfg.ExtraParams, cfg.AuthorizeParams = map[string]string{"tenant": "7"}, map[string]string{"login_hint": "ada"}
	})
	c.mustPost(first, 0)
	asked := c.idp.Authorized()
	for name, want := range map[string]string{"scope": "openid offline_access", "client_id": "us-at-idp", "resource": "", "audience": "",
		"tenant": "", "login_hint": "ada"} {
		if got := asked.Get(name); got != want {
			t.Errorf("the provider was asked for %s %q, want %q", name, got, want)
		}
	}
	q := c.idp.Exchanged()
	if q.Get("audience") != c.upstreams[0].as.Issuer || q.Get("resource") != c.upstreams[0].upstream.String() {
		t.Errorf("exchanged for %v", q)
	}
	c.mustPost(c.transport(1, func(cfg *Config) { cfg.Realm = "default via bastion:22" }), 1)
	c.mustPost(c.transport(0, nil), 0) // as after a restart
	c.wantStats(oauthtest.Stats{Authorizations: 1, Codes: 1, Exchanges: 3})

	account, ok, err := first.ProviderAccount(t.Context())
	want := []string{c.upstreams[0].upstream.String(), c.upstreams[1].upstream.String()}
	if !ok || err != nil || !slices.Equal(account.UsedBy, want) || account.Name != "ada" || account.Upstream != c.idp.Issuer ||
		!account.IdentityProvider || account.Expiry.IsZero() || !account.Refreshable {
		t.Errorf("got %+v, %t, %v", account, ok, err)
	}
	accounts, err := Accounts(c.upstreams[0].store)
	if err != nil || len(accounts) != 1 || !slices.Equal(accounts[0].UsedBy, want) {
		t.Errorf("the store holds %+v (%v)", accounts, err)
	}
	c.upstreams[0].noSecrets()
	for _, s := range c.idp.Secrets() {
		if s != "" && strings.Contains(c.upstreams[0].log.String(), s) {
			t.Errorf("the log shows the provider's secret %q", s)
		}
	}
}

func TestUpstreamsStartTogether(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1) // the server counts, so one is enough: each Transport is another process
	var wg sync.WaitGroup
	for range 8 {
		tr := c.transport(0, nil)
		wg.Go(func() {
			if status, err := c.upstreams[0].post(tr, "x"); err != nil || status != http.StatusOK {
				t.Errorf("got status %d, error %v", status, err)
			}
		})
	}
	wg.Wait()
	c.wantStats(oauthtest.Stats{Authorizations: 1, Codes: 1, Exchanges: 8})
}

func TestIDTokenIsRefreshed(t *testing.T) {
	t.Parallel()
	const once = 1
	signIn := oauthtest.Stats{Authorizations: once, Codes: once, Exchanges: once}
	for _, tt := range []struct {
		name string
		// meanwhile happens between two access tokens.
		meanwhile func(*company)
		want      oauthtest.Stats
	}{
		{"nothing happens", func(*company) {}, oauthtest.Stats{Authorizations: 1, Codes: 1, Exchanges: 2}},
		{"it expires soon", func(c *company) { c.upstreams[0].advance(time.Hour - 10*time.Second) },
			oauthtest.Stats{Authorizations: 1, Codes: 1, Refreshes: 1, Exchanges: 2}},
		{"it has expired", func(c *company) { c.upstreams[0].advance(2 * time.Hour) },
			oauthtest.Stats{Authorizations: 1, Codes: 1, Refreshes: 1, Exchanges: 2}},
		{"the provider refuses it", func(c *company) { c.idp.RevokeIDTokens() },
			oauthtest.Stats{Authorizations: 1, Codes: 1, Refreshes: 1, Exchanges: 3}},
		{"the refresh token is revoked", func(c *company) { c.idp.RevokeAll() },
			oauthtest.Stats{Authorizations: 2, Codes: 2, Refreshes: 1, Exchanges: 3}},
		{"the refresh token is revoked and it has expired", func(c *company) {
			c.idp.RevokeAll()
			c.upstreams[0].advance(2 * time.Hour)
		}, oauthtest.Stats{Authorizations: 2, Codes: 2, Refreshes: 1, Exchanges: 2}},
		{"no refresh brings an ID token", func(c *company) {
			c.idp.Set(func(k *oauthtest.Knobs) { k.NoIDTokenAtRefresh = true })
			c.upstreams[0].advance(2 * time.Hour)
		}, oauthtest.Stats{Authorizations: 2, Codes: 2, Refreshes: 1, Exchanges: 2}},
		{"another process signed out", func(c *company) {
			if err := c.transport(0, nil).SignOut(t.Context(), false); err != nil {
				t.Error(err)
			}
		}, oauthtest.Stats{Authorizations: 2, Codes: 2, Exchanges: 2, Revocations: 1}},
	} {
		for _, restart := range []bool{false, true} {
			name := tt.name + map[bool]string{false: "", true: ", and a restart"}[restart]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := newCompany(t, 1)
				tr := c.transport(0, nil)
				c.mustPost(tr, 0)
				c.wantStats(signIn)
				tt.meanwhile(c)
				c.upstreams[0].as.RevokeAccess()
				if restart {
					tr = c.transport(0, nil)
				}
				c.mustPost(tr, 0)
				c.wantStats(tt.want)
				c.mustPost(tr, 0)
				c.wantStats(tt.want)
			})
		}
	}
}

func TestNoPageForABackgroundRequest(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1)
	tr := c.transport(0, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.upstreams[0].upstream.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.Background().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if busy := tr.flights.idle(nil); busy || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d, a login goes on: %t", resp.StatusCode, busy)
	}
	c.wantStats(oauthtest.Stats{})
}

func TestNoPageWhileTheOldTokenWorks(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1)
	c.upstreams[0].as.Set(func(k *oauthtest.Knobs) { k.Lifetime = 4 * time.Hour })
	tr := c.transport(0, nil)
	c.mustPost(tr, 0)
	c.idp.RevokeAll()
	c.upstreams[0].advance(4*time.Hour - 10*time.Second)
	c.mustPost(tr, 0) // due, and not to be had without a page
	c.wantStats(oauthtest.Stats{Authorizations: 1, Codes: 1, Refreshes: 1, Exchanges: 1})
	c.upstreams[0].advance(time.Minute)
	c.mustPost(tr, 0)
	c.wantStats(oauthtest.Stats{Authorizations: 2, Codes: 2, Refreshes: 1, Exchanges: 2})
}

func TestExchangeRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code   string
		status int
		// pages is how many login pages a stored ID token that is refused for ever leads to.
		pages int
	}{
		{"invalid_grant", 400, 1}, {"invalid_request", 400, 1}, {"invalid_token", 401, 1}, {"session_gone", 403, 1}, {"x", 404, 1},
		{"unsupported_grant_type", 400, 0}, {"invalid_client", 401, 0}, {"unauthorized_client", 400, 0}, {"invalid_target", 400, 0},
		{"access_denied", 403, 0}, {"invalid_scope", 400, 0}, {"server_error", 500, 0}, {"slow_down", 429, 0},
	} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			c := newCompany(t, 1)
			w := c.upstreams[0]
			c.mustPost(c.transport(0, nil), 0)
			c.idp.Set(func(k *oauthtest.Knobs) { k.ExchangeError, k.ExchangeStatus = tt.code, tt.status })
			tr := c.transport(0, nil)
			for range 3 {
				_, err := w.post(tr, "x")
				wantStage(t, err, asclient.StageExchange, tt.code, c.idp.Issuer)
				for _, s := range c.idp.Secrets() {
					if s != "" && strings.Contains(err.Error(), s) {
						t.Errorf("a secret in %v", err)
					}
				}
			}
			if got := c.idp.Stats().Authorizations; got != 1+tt.pages {
				t.Errorf("%d login pages, want %d", got-1, tt.pages)
			}
			c.idp.Set(func(k *oauthtest.Knobs) { k.ExchangeError, k.ExchangeStatus = "", 0 }) // healed: nobody is locked out
			tr.cfg.now = func() time.Time { return w.clock().Add(minClientPause) }            // a refused client has a pause
			k := c.idp.Stats().Authorizations
			c.mustPost(tr, 0)
			c.mustPost(c.transport(0, nil), 0)
			if got := c.idp.Stats().Authorizations; got != k {
				t.Errorf("%d more login pages once it was healed", got-k)
			}
		})
	}
}

func TestLoginAsSomebodyElse(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1)
	c.mustPost(c.transport(0, nil), 0)
	c.idp.Set(func(k *oauthtest.Knobs) { k.ExchangeError, k.ExchangeStatus = "access_denied", 403 })
	tr := c.transport(0, func(cfg *Config) { cfg.AtTerminal = true })
	wantStage(t, tr.SignIn(t.Context()), asclient.StageExchange, "access_denied", c.idp.Issuer)
	if got := c.idp.Stats().Authorizations; got != 2 {
		t.Errorf("%d login pages, want 2", got)
	}
}

func TestProviderErrors(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1)
	w := c.upstreams[0]
	_, err := w.post(c.transport(0, func(cfg *Config) { cfg.NonInteractive = true }), "x")
	if e, ok := errors.AsType[*LoginRequiredError](err); !ok || e.Upstream != w.upstream.String() {
		t.Errorf("got %v", err)
	}
	c.idp.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
	_, err = w.post(c.transport(0, nil), "x")
	wantStage(t, err, asclient.StageAuthorize, "access_denied", c.idp.Issuer)
	c.idp.Set(func(k *oauthtest.Knobs) { k.Deny, k.TokenError = "", "invalid_grant" })
	_, err = w.post(c.transport(0, nil), "x")
	wantStage(t, err, asclient.StageToken, "invalid_grant", c.idp.Issuer)
	c.idp.Set(func(k *oauthtest.Knobs) { k.TokenError = "" })
	w.as.Set(func(k *oauthtest.Knobs) { k.TokenError = "invalid_grant" })
	tr := c.transport(0, nil)
	_, err = w.post(tr, "x")
	wantStage(t, err, asclient.StageToken, "invalid_grant", w.as.Issuer)
	w.as.Set(func(k *oauthtest.Knobs) { k.TokenError = "" })
	c.mustPost(tr, 0)

	c.idp.RevokeAll()
	w.as.RevokeAccess()
	_, err = w.post(c.transport(0, func(cfg *Config) { cfg.NonInteractive = true }), "x")
	if e, ok := errors.AsType[*LoginRequiredError](err); !ok || e.Err == nil {
		t.Errorf("got %v, want one that says why", err)
	}
	w.noSecrets(err.Error())
}

func TestSignOutAtTheProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 2)
	one, two := c.transport(0, nil), c.transport(1, nil)
	c.mustPost(one, 0)
	c.mustPost(two, 1)
	rec, _ := one.provider.account.current()
	if err := one.SignOut(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if c.idp.Refreshable(rec.Token.Refresh) {
		t.Error("the provider still takes the refresh token")
	}
	if _, ok, err := two.ProviderAccount(t.Context()); ok || err != nil {
		t.Errorf("there is still an account: %v", err)
	}
	if list, err := Accounts(c.upstreams[0].store); len(list) != 0 || err != nil {
		t.Errorf("the store holds %+v, %v", list, err)
	}
	c.upstreams[1].as.RevokeAccess()
	c.mustPost(two, 1)
	if got := c.idp.Stats().Authorizations; got != 2 {
		t.Errorf("%d login pages, want 2", got)
	}
}

func TestProviderStateAndSecrets(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1)
	prompts := make(chan Prompt, 1)
	tr := c.transport(0, func(cfg *Config) { cfg.Offer = nil })
	go func() { // ends with the prompt
		for {
			s, changed := tr.State()
			if s.Prompt.AuthorizeURL != "" {
				prompts <- s.Prompt
				return
			}
			<-changed
		}
	}()
	done := make(chan error, 1)
	go func() { _, err := c.upstreams[0].post(tr, "x"); done <- err }()
	p := <-prompts
	if s, _ := tr.State(); p.Issuer != c.idp.Issuer || !s.Busy {
		t.Errorf("got %+v", s)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.upstreams[0].upstream.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := tr.Background().RoundTrip(req); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a background request waits for the person: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	c.upstreams[0].open(t.Context(), p)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	secrets := tr.Secrets()
	rec, _ := tr.provider.account.current()
	for _, s := range []string{rec.Token.Access, rec.Token.Refresh, "idp-s3cret"} {
		if !slices.Contains(secrets, s) {
			t.Errorf("Secrets lacks %.10q", s)
		}
	}
}

func TestRevokeProviders(t *testing.T) {
	t.Parallel()
	for _, public := range []bool{true, false} {
		c := newCompany(t, 1)
		secret := Secret("idp-s3cret")
		if public {
			c.idp.AddClient(oauthtest.Client{ID: "us-at-idp", RedirectURIs: []string{"http://127.0.0.1/callback"}})
			secret = ""
		}
		tr := c.transport(0, func(cfg *Config) { cfg.IDP.ClientSecret = secret })
		c.mustPost(tr, 0)
		rec, _ := tr.provider.account.current()
		err := RevokeProviders(t.Context(), c.upstreams[0].store, http.DefaultTransport)
		if (err == nil) != public || c.idp.Refreshable(rec.Token.Refresh) == public {
			t.Errorf("public %t: got %v, refreshable %t", public, err, c.idp.Refreshable(rec.Token.Refresh))
		}
	}
}
