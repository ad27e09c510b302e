package oauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

func TestLoginThenSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.ResourceScopes = []string{"tools", "files"} })
	tr := w.transport(nil)
	w.mustPost(tr)
	w.mustPost(tr)
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
	q := w.as.Authorized()
	for k, want := range map[string]string{"resource": w.upstream.String(), "scope": "tools files", "code_challenge_method": "S256", "response_type": "code"} {
		if got := q.Get(k); got != want {
			t.Errorf("authorize request: %s is %q, want %q", k, got, want)
		}
	}
	reg := w.as.Registered()
	if reg["application_type"] != "native" || reg["token_endpoint_auth_method"] != "none" {
		t.Errorf("registered %v", reg)
	}
	tr.Close()
	if p := w.pages[0]; p.Status != http.StatusOK || !strings.Contains(p.Body, w.upstream.String()) || !strings.Contains(p.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("last page: %d %s", p.Status, p.Body)
	}
	w.mustPost(w.transport(func(c *Config) { c.NonInteractive = true })) // the second start
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
	w.noSecrets()
}

func TestFiftyCallsOneLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	fifty := func() {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if status, err := w.post(tr, "x"); err != nil || status != http.StatusOK {
					t.Errorf("got status %d, error %v", status, err)
				}
			})
		}
		wg.Wait()
	}
	fifty()
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
	w.as.RevokeAccess()
	fifty()
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}

func TestNewPortRegistersAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPost(w.transport(nil))
	w.as.RevokeAll()
	w.mustPost(w.transport(nil)) // port 0: another port
	w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2, Refreshes: 1})
}

func TestOldServers(t *testing.T) {
	t.Parallel()
	for _, noMetadata := range []bool{false, true} {
		w := newWorld(t)
		w.old()
		w.as.Set(func(k *oauthtest.Knobs) { k.NoMetadata = noMetadata })
		w.mustPost(w.transport(nil))
		if w.as.Authorized().Has("resource") {
			t.Error("resource sent to a server that named none")
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		knobs   func(*oauthtest.Knobs)
		change  func(*Config)
		stage   string
		code    string
		refused bool
	}{
		{"denied", func(k *oauthtest.Knobs) { k.Deny = "access_denied" }, nil, asclient.StageAuthorize, "access_denied", true},
		{"later", func(k *oauthtest.Knobs) { k.Deny = "temporarily_unavailable" }, nil, asclient.StageAuthorize, "temporarily_unavailable", false},
		{"no PKCE", func(k *oauthtest.Knobs) { k.NoPKCE = true }, nil, asclient.StageDiscovery, asclient.CodePKCE, true},
		{"metadata of another issuer", func(k *oauthtest.Knobs) { k.WrongIssuer = "https://evil.example" }, nil, asclient.StageDiscovery, asclient.CodeIssuerMismatch, true},
		{"redirect of another issuer", func(k *oauthtest.Knobs) { k.WrongIss = "https://evil.example" }, nil, asclient.StageAuthorize, asclient.CodeIssuerMismatch, true},
		{"another issuer's error", func(k *oauthtest.Knobs) { k.WrongIss = "https://evil.example"; k.Deny = "hide_me" }, nil, asclient.StageAuthorize, asclient.CodeIssuerMismatch, true},
		{"another resource", func(k *oauthtest.Knobs) { k.ResourceName = "https://evil.example/mcp" }, nil, asclient.StageDiscovery, asclient.CodeResourceMismatch, true},
		{"no way to register", func(k *oauthtest.Knobs) { k.NoRegistration = true }, nil, asclient.StageRegister, asclient.CodeNoClient, true},
		{"token endpoint broken", func(k *oauthtest.Knobs) { k.TokenStatus = 502 }, nil, asclient.StageToken, asclient.CodeBadReply, false},
		{"token endpoint says no", func(k *oauthtest.Knobs) { k.TokenError = "invalid_scope" }, nil, asclient.StageToken, "invalid_scope", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.Set(tt.knobs)
			tr := w.transport(tt.change)
			_, err := w.post(tr, "x")
			e, ok := errors.AsType[*asclient.SignInError](err)
			if !ok || e.Stage != tt.stage || e.Code != tt.code || e.Refused != tt.refused {
				t.Fatalf("got %#v (%v)", e, err)
			}
			if strings.Contains(err.Error(), "hide_me") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error shows %q", err)
			}
			if s, _ := tr.State(); !errors.Is(s.Err, err) {
				t.Errorf("State says %v, the request %v", s.Err, err)
			}
			tr.Close()
			texts := []string{err.Error()}
			for _, p := range w.pages {
				texts = append(texts, p.Body)
				if p.Status == http.StatusOK {
					t.Errorf("page tells of success: %s", p.Body)
				}
			}
			if tt.stage != asclient.StageDiscovery && tt.stage != asclient.StageRegister {
				w.noSecrets(texts...)
			}
		})
	}
}

func TestAssumePKCEGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoPKCE = true })
	w.mustPost(w.transport(func(c *Config) { c.Endpoints.AssumePKCE = true }))
}

func TestMissingMetadataNamesWhatWasTried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoMetadata = true })
	_, err := w.post(w.transport(nil), "x")
	e, ok := errors.AsType[*asclient.DiscoveryError](err)
	if !ok || len(e.Tried) != 3 || e.Tried[2].Status != 404 || !strings.Contains(err.Error(), "/.well-known/openid-configuration (404)") {
		t.Errorf("got %v", err)
	}
}

func TestNetworkErrorStaysVisible(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tunnel := errors.New("hop bastion is down")
	tr := w.transport(func(c *Config) {
		c.AuthBase = roundTripper(func(*http.Request) (*http.Response, error) { return nil, tunnel })
	})
	if _, err := w.post(tr, "x"); !errors.Is(err, tunnel) {
		t.Errorf("got %v", err)
	}
	tr.cfg.AuthBase = http.DefaultTransport
	tr.as.Other = http.DefaultTransport
	w.mustPost(tr) // a later request tries again
}

func TestNobodyCompletes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	late := make(chan struct{})
	tr := w.transport(func(c *Config) {
		c.Callback.Timeout = time.Millisecond
		c.Offer = func(ctx context.Context, _ Prompt) { <-ctx.Done(); close(late) }
	})
	_, err := w.post(tr, "x")
	if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Refused || !errors.Is(err, ErrNotCompleted) {
		t.Fatalf("got %v", err)
	}
	<-late
	tr.cfg.Callback.Timeout, tr.cfg.Offer = time.Minute, w.open
	w.mustPost(tr)
}

func TestSignInAndOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	if err := tr.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tr.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
	rt := tr.account.rec.Token.Refresh
	if !slices.Contains(tr.Secrets(), rt) || !w.as.Refreshable(rt) {
		t.Error("the refresh token is not there")
	}
	if err := w.store.Save(tr.account.key+"/session", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := tr.SignOut(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if w.as.Refreshable(rt) {
		t.Error("refresh token lives on")
	}
	for _, name := range []string{tr.account.key, tr.account.key + "/session"} {
		if b, _ := w.store.Load(name); b != nil {
			t.Errorf("store still holds %q", name)
		}
	}
	w.mustPost(tr)
	if got := w.as.Stats().Registrations; got != 2 {
		t.Errorf("got %d registrations, want a second one", got)
	}
}

func TestOpenUpstreamNeedsNoSignIn(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.NotFoundHandler())
	defer up.Close()
	u, _ := url.Parse(up.URL)
	tr, err := New(Config{Upstream: u})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.SignIn(t.Context()); err != nil {
		t.Error(err)
	}
}

// Not parallel: another test could take the port that this one needs again.
func TestCloseEndsAPendingLogin(t *testing.T) {
	w := newWorld(t)
	offered := make(chan Prompt, 1)
	tr := w.transport(func(c *Config) { c.Offer = func(ctx context.Context, p Prompt) { offered <- p; <-ctx.Done() } })
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(t.Context()) }()
	p := <-offered
	tr.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	u, _ := url.Parse(p.RedirectURI)
	ln, err := net.Listen("tcp", u.Host)
	if err != nil {
		t.Fatalf("the port is still held: %v", err)
	}
	ln.Close()
	if err := tr.SignIn(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestMetadataDocumentAndExtraParams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.MetadataDocument = true; k.Scopes = []string{"offline_access"} })
	w.mustPost(w.transport(func(c *Config) {
		c.Client.MetadataURL = "https://client.example/sallyport.json"
		c.ExtraParams = map[string]string{"state": "mine", "redirect_uri": "https://evil.example", "tenant": "7"}
	}))
	q := w.as.Authorized()
	if q.Get("client_id") != "https://client.example/sallyport.json" || q.Get("tenant") != "7" || q.Get("state") == "mine" ||
		q.Get("scope") != "offline_access" || q.Has("prompt") {
		t.Errorf("authorize request %v", q)
	}
	w.wantStats(oauthtest.Stats{Authorizations: 1, Codes: 1})
}

func TestRegisteredSecretIsFormEncoded(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		w := newWorld(t)
		w.as.Set(func(k *oauthtest.Knobs) { k.AuthMethods = []string{method}; k.OneRedirect = true })
		busy, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		tr := w.transport(func(c *Config) { c.Callback.Addrs = []string{busy.Addr().String(), "127.0.0.1:0"} })
		w.mustPost(tr)
		w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 1, Codes: 1})
		w.noSecrets()
	}
}

func TestLoginInMidSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.RevokeAll()
	if status, err := w.post(tr, `{"id":7}`); err != nil || status != http.StatusOK {
		t.Fatalf("got status %d, error %v", status, err)
	}
	if got := w.seen[len(w.seen)-1]; got != `POST /mcp {"id":7}` {
		t.Errorf("the upstream saw %q", got)
	}
	w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2, Refreshes: 1}) // the port is another one
}
