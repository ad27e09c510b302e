package oauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// world is an upstream behind a token check, its authorization server at another
// origin, and a person who follows every link.
type world struct {
	t        *testing.T
	as       *oauthtest.Server
	upstream *url.URL
	store    *tokenstore.Store
	dir      string // of the store

	mu    sync.Mutex
	now   time.Time
	pages []oauthtest.Page
	links []string
	seen  []string // "METHOD path body" that passed the check
	log   bytes.Buffer
}

func (w *world) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.Write(b)
	return w.t.Output().Write(b)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	as := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.as.ServeHTTP(rw, r) }))
	t.Cleanup(as.Close)
	var guarded http.Handler
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { guarded.ServeHTTP(rw, r) }))
	t.Cleanup(up.Close)
	w.upstream, _ = url.Parse(up.URL + "/mcp")
	w.as = oauthtest.New(as.URL, w.upstream.String())
	w.as.Now = w.clock
	guarded = w.as.Guard(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.seen = append(w.seen, r.Method+" "+r.URL.Path+" "+string(b))
		w.mu.Unlock()
		io.WriteString(rw, "hello")
	}))
	var err error
	if w.store, err = tokenstore.Open(w.dir+"/state", w.dir+"/config", tokenstore.Keyring{}, w.logger()); err != nil {
		t.Fatal(err)
	}
	return w
}

// recordSuffix ends the name of each file of the store whose value was saved under a name without a
// slash: an account's record.
const recordSuffix = "-e3b0c44298fc1c149afbf4c8.sealed"

// recordFile returns the file of the only record in the store.
func (w *world) recordFile() string {
	w.t.Helper()
	list, err := filepath.Glob(filepath.Join(w.dir, "state", "*"+recordSuffix))
	if err != nil || len(list) != 1 {
		w.t.Fatalf("the store holds the records %q (%v), want one", list, err)
	}
	return list[0]
}

// old makes w a 2025-03-26 server: the authorization server at the upstream's origin.
func (w *world) old() {
	guarded := w.as.Guard(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "hello") }))
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			guarded.ServeHTTP(rw, r)
		} else {
			w.as.ServeHTTP(rw, r)
		}
	}))
	w.t.Cleanup(up.Close)
	w.upstream, _ = url.Parse(up.URL + "/mcp")
	w.as.Issuer, w.as.Resource = up.URL, w.upstream.String()
	w.as.Set(func(k *oauthtest.Knobs) { k.NoResourceMetadata = true })
}

// open is the person, whose page stays open when the prompt is withdrawn.
func (w *world) open(ctx context.Context, p Prompt) {
	page, err := oauthtest.Browser{Transport: &http.Transport{DisableKeepAlives: true}}.Open(context.WithoutCancel(ctx), p.AuthorizeURL)
	if err != nil {
		w.t.Errorf("browser: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages, w.links = append(w.pages, page), append(w.links, p.AuthorizeURL)
}

func (w *world) transport(change func(*Config)) *Transport {
	w.t.Helper()
	cfg := Config{Upstream: w.upstream, Realm: "default direct", Store: w.store, Offer: w.open, Log: w.logger()}
	if change != nil {
		change(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	tr.cfg.now, tr.cfg.pageInterval = w.clock, 0
	w.t.Cleanup(func() { tr.Close() })
	return tr
}

func (w *world) post(tr *Transport, body string) (status int, err error) {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

func (w *world) mustPost(tr *Transport) {
	w.t.Helper()
	if status, err := w.post(tr, "ping"); err != nil || status != http.StatusOK {
		w.t.Fatalf("got status %d, error %v", status, err)
	}
}

func (w *world) wantStats(want oauthtest.Stats) {
	w.t.Helper()
	got := w.as.Stats()
	got.Unauthorized = want.Unauthorized
	if got != want {
		w.t.Errorf("server was asked %+v, want %+v", got, want)
	}
}

// noSecrets fails if a secret of the server's stands in the log or in texts.
func (w *world) noSecrets(texts ...string) {
	w.t.Helper()
	w.mu.Lock()
	texts = append(texts, w.log.String())
	secrets := w.as.Secrets()
	for _, l := range w.links {
		u, _ := url.Parse(l)
		secrets = append(secrets, u.Query().Get("state"))
	}
	w.mu.Unlock()
	if len(secrets) == 0 {
		w.t.Error("the server made no secret")
	}
	for _, s := range secrets {
		for _, text := range texts {
			if s != "" && strings.Contains(text, s) {
				w.t.Errorf("secret %q stands in %q", s, text)
			}
		}
	}
}

func TestLoginThenSilence(t *testing.T) {
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

func TestReplaySendsTheWholeBodyAgain(t *testing.T) {
	w := newWorld(t)
	if _, err := w.post(w.transport(nil), `{"id":1}`); err != nil {
		t.Fatal(err)
	}
	if want := []string{`POST /mcp {"id":1}`}; !slices.Equal(w.seen, want) {
		t.Errorf("upstream saw %q, want %q", w.seen, want)
	}
}

func TestFiftyCallsOneLogin(t *testing.T) {
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

func TestTwoProcessesSpendARefreshTokenOnce(t *testing.T) {
	w := newWorld(t)
	w.mustPost(w.transport(nil))
	var all []*Transport
	for range 5 {
		all = append(all, w.transport(nil))
	}
	w.advance(2 * time.Hour)
	var wg sync.WaitGroup
	for _, tr := range all {
		wg.Go(func() {
			if _, err := w.post(tr, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}

func TestRefreshAheadOfExpiry(t *testing.T) {
	for _, tt := range []struct {
		name      string
		expiresIn any
		after     time.Duration
		want      int
	}{
		{"not due", nil, 3600*time.Second - 31*time.Second, 0},
		{"due", nil, 3600*time.Second - 30*time.Second, 1},
		{"string", "3600", 3600*time.Second - 29*time.Second, 1},
		{"absent: until refused", "", 50 * time.Minute, 0},
		{"zero: until refused", 0, 50 * time.Minute, 0},
		{"short life: in its second half", 20, 9 * time.Second, 0},
		{"short life due", 20, 10 * time.Second, 1},
		{"clock set back", nil, -24 * time.Hour, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.ExpiresIn = tt.expiresIn })
			tr := w.transport(nil)
			w.mustPost(tr)
			w.advance(tt.after)
			w.mustPost(tr)
			if got := w.as.Stats().Refreshes; got != tt.want {
				t.Errorf("got %d refreshes, want %d", got, tt.want)
			}
			if got := w.as.Stats().Authorizations; got != 1 {
				t.Errorf("got %d logins, want 1", got)
			}
		})
	}
}

func TestFailedEarlyRefreshUsesTheOldToken(t *testing.T) {
	for _, knobs := range []oauthtest.Knobs{{TokenStatus: 503}, {RefreshError: "invalid_grant"}} {
		w := newWorld(t)
		tr := w.transport(nil)
		w.mustPost(tr)
		w.as.Set(func(k *oauthtest.Knobs) { *k = knobs })
		w.advance(time.Hour - 10*time.Second)
		w.mustPost(tr)
		if s, _ := tr.State(); s.Err != nil {
			t.Errorf("State tells of %v while the token works", s.Err)
		}
		w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
	}
}

func TestNobodyIsLockedOut(t *testing.T) {
	for _, tt := range []struct {
		name   string
		happen func(w *world)
		want   oauthtest.Stats
	}{
		{"all tokens revoked", func(w *world) { w.as.RevokeAll() }, oauthtest.Stats{Registrations: 1, Authorizations: 2, Codes: 2, Refreshes: 1}},
		{"client forgotten", func(w *world) { w.as.RevokeAccess(); w.as.ForgetClients() }, oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2, Refreshes: 1}},
		{"refresh token not taken for another reason", func(w *world) {
			w.as.RevokeAccess()
			w.as.Set(func(k *oauthtest.Knobs) { k.RefreshError = "unauthorized_client" })
		}, oauthtest.Stats{Registrations: 1, Authorizations: 2, Codes: 2, Refreshes: 1}},
		{"store emptied", func(w *world) { w.store.ForgetAll(); w.as.RevokeAccess() }, oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.mustPost(w.transport(nil))
			// The client's redirect URI has the port of a listener that is gone: same port again.
			redirect, _ := url.Parse(w.as.Authorized().Get("redirect_uri"))
			tt.happen(w)
			w.mustPost(w.transport(func(c *Config) { c.CallbackAddrs = []string{redirect.Host} }))
			w.wantStats(tt.want)
			w.noSecrets()
		})
	}
}

func TestNewPortRegistersAgain(t *testing.T) {
	w := newWorld(t)
	w.mustPost(w.transport(nil))
	w.as.RevokeAll()
	w.mustPost(w.transport(nil)) // port 0: another port
	w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2, Refreshes: 1})
}

func TestNewTokenRefused(t *testing.T) {
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true })
	tr := w.transport(nil)
	for range 3 {
		_, err := w.post(tr, "x")
		e, ok := errors.AsType[*TokenRefusedError](err)
		if !ok || e.Code != "invalid_token" {
			t.Fatalf("got %v, want TokenRefusedError", err)
		}
		w.noSecrets(err.Error())
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
}

func TestStepUp(t *testing.T) {
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.ChallengeScope = "read" })
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "write" })
	w.mustPost(tr)
	if got := w.as.Authorized().Get("scope"); got != "read write" {
		t.Errorf("asked for %q", got)
	}
	if got := w.as.Stats().Authorizations; got != 2 {
		t.Errorf("got %d logins", got)
	}
}

func TestStepUpGivesUp(t *testing.T) {
	w := newWorld(t)
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, ok := w.as.Check(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); !ok {
			w.as.Guard(nil).ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="s`+time.Now().Format("150405.000000000")+`"`)
		rw.WriteHeader(http.StatusForbidden)
	}))
	defer up.Close()
	w.upstream, _ = url.Parse(up.URL + "/mcp")
	w.as.Resource = w.upstream.String()
	status, err := w.post(w.transport(nil), "x")
	if status != http.StatusForbidden || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	if got := w.as.Stats().Authorizations; got != maxReplays {
		t.Errorf("got %d logins, want %d", got, maxReplays)
	}
}

func TestOldServers(t *testing.T) {
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

func TestClientCredentials(t *testing.T) {
	for _, tt := range []struct {
		name    string
		methods []string
		change  func(*Config, *world)
	}{
		{"discovered basic", []string{"client_secret_basic"}, func(*Config, *world) {}},
		{"discovered post", []string{"client_secret_post"}, func(*Config, *world) {}},
		{"given token URL", nil, func(c *Config, w *world) { c.TokenURL = w.as.Issuer + "/token" }},
		{"given, no discovery", nil, func(c *Config, w *world) {
			c.TokenURL, c.NoDiscovery, c.Resource = w.as.Issuer+"/token", true, w.upstream.String()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			method := ""
			if tt.methods != nil {
				method = tt.methods[0]
			}
			w.as.AddClient(oauthtest.Client{ID: "robot", Secret: "p:%+ ü", Method: method})
			w.as.Set(func(k *oauthtest.Knobs) { k.AuthMethods = tt.methods; k.NoRefresh = true })
			tr := w.transport(func(c *Config) {
				c.Grant, c.ClientID, c.ClientSecret = GrantClientCredentials, "robot", "p:%+ ü"
				tt.change(c, w)
			})
			w.mustPost(tr)
			w.as.RevokeAccess()
			w.mustPost(tr)
			w.advance(2 * time.Hour)
			w.mustPost(tr)
			w.wantStats(oauthtest.Stats{ClientCredentials: 3})
			w.noSecrets()
		})
	}
}

func TestGivenOnce(t *testing.T) {
	for _, name := range []string{"refresh token", "code"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.as.AddClient(oauthtest.Client{ID: "me", RedirectURIs: []string{"http://127.0.0.1:1/cb"}})
			given := func(c *Config) {
				c.Grant, c.ClientID, c.NonInteractive = GrantAuthorizationCode, "me", true
			}
			code, verifier := "", "a-verifier-of-enough-characters-to-be-one-really"
			u := w.as.Issuer + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"me"}, "state": {"s"},
				"redirect_uri": {"http://127.0.0.1:1/cb"}, "code_challenge_method": {"S256"}, "resource": {w.upstream.String()},
				"code_challenge": {"fo7zNoYBRMOhfoXXEGAMsUoGSJuqbPJXQfN9mGdhzKg"}}.Encode()
			u = strings.Replace(u, "fo7zNoYBRMOhfoXXEGAMsUoGSJuqbPJXQfN9mGdhzKg", s256(verifier), 1)
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			back, _ := resp.Location()
			code = back.Query().Get("code")
			first := func(c *Config) {
				given(c)
				c.AuthorizationCode, c.CodeVerifier, c.RedirectURI = Secret(code), Secret(verifier), "http://127.0.0.1:1/cb"
			}
			if name == "refresh token" {
				tr := w.transport(first)
				w.mustPost(tr)
				rt := tr.creds.rec.Token.Refresh
				w.store.ForgetAll()
				first = func(c *Config) { given(c); c.RefreshToken = Secret(rt) }
			}
			w.mustPost(w.transport(first))
			w.advance(2 * time.Hour)
			w.mustPost(w.transport(first)) // the same configuration: by what was stored, not by the spent input
			if got := w.as.Stats().Codes; got != 1 {
				t.Errorf("code spent %d times", got)
			}
			w.as.RevokeAll()
			_, err = w.post(w.transport(first), "x")
			if _, ok := errors.AsType[*LoginRequiredError](err); !ok {
				t.Errorf("got %v, want LoginRequiredError", err)
			}
			w.noSecrets()
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		knobs   func(*oauthtest.Knobs)
		change  func(*Config)
		stage   string
		code    string
		refused bool
	}{
		{"denied", func(k *oauthtest.Knobs) { k.Deny = "access_denied" }, nil, StageAuthorize, "access_denied", true},
		{"later", func(k *oauthtest.Knobs) { k.Deny = "temporarily_unavailable" }, nil, StageAuthorize, "temporarily_unavailable", false},
		{"no PKCE", func(k *oauthtest.Knobs) { k.NoPKCE = true }, nil, StageDiscovery, CodePKCE, true},
		{"metadata of another issuer", func(k *oauthtest.Knobs) { k.WrongIssuer = "https://evil.example" }, nil, StageDiscovery, CodeIssuerMismatch, true},
		{"redirect of another issuer", func(k *oauthtest.Knobs) { k.WrongIss = "https://evil.example" }, nil, StageAuthorize, CodeIssuerMismatch, true},
		{"another issuer's error", func(k *oauthtest.Knobs) { k.WrongIss = "https://evil.example"; k.Deny = "hide_me" }, nil, StageAuthorize, CodeIssuerMismatch, true},
		{"another resource", func(k *oauthtest.Knobs) { k.ResourceName = "https://evil.example/mcp" }, nil, StageDiscovery, CodeResourceMismatch, true},
		{"no way to register", func(k *oauthtest.Knobs) { k.NoRegistration = true }, nil, StageRegister, CodeNoClient, true},
		{"token endpoint broken", func(k *oauthtest.Knobs) { k.TokenStatus = 502 }, nil, StageToken, CodeBadReply, false},
		{"token endpoint says no", func(k *oauthtest.Knobs) { k.TokenError = "invalid_scope" }, nil, StageToken, "invalid_scope", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.Set(tt.knobs)
			tr := w.transport(tt.change)
			_, err := w.post(tr, "x")
			e, ok := errors.AsType[*SignInError](err)
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
			if tt.stage != StageDiscovery && tt.stage != StageRegister {
				w.noSecrets(texts...)
			}
		})
	}
}

func TestAssumePKCEGoesOn(t *testing.T) {
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoPKCE = true })
	w.mustPost(w.transport(func(c *Config) { c.AssumePKCE = true }))
}

func TestMissingMetadataNamesWhatWasTried(t *testing.T) {
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoMetadata = true })
	_, err := w.post(w.transport(nil), "x")
	e, ok := errors.AsType[*DiscoveryError](err)
	if !ok || len(e.Tried) != 3 || e.Tried[2].Status != 404 || !strings.Contains(err.Error(), wellKnownOpenID+" (404)") {
		t.Errorf("got %v", err)
	}
}

func TestNetworkErrorStaysVisible(t *testing.T) {
	w := newWorld(t)
	tunnel := errors.New("hop bastion is down")
	tr := w.transport(func(c *Config) {
		c.AuthBase = roundTripper(func(*http.Request) (*http.Response, error) { return nil, tunnel })
	})
	if _, err := w.post(tr, "x"); !errors.Is(err, tunnel) {
		t.Errorf("got %v", err)
	}
	tr.cfg.AuthBase = http.DefaultTransport
	tr.wire.other = http.DefaultTransport
	w.mustPost(tr) // a later request tries again
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTokenStaysAtTheUpstreamsOrigin(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer other.Close()
	redirecting := *w.upstream
	tr.cfg.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") == "" {
			t.Error("no token at the upstream's origin")
		}
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {other.URL}}, Body: http.NoBody, Request: r}, nil
	})
	resp, err := (&http.Client{Transport: tr}).Get(redirecting.String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got == nil || got.Get("Authorization") != "" {
		t.Errorf("another origin was sent %v", got)
	}
}

func TestTokenIsForOneOrigin(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	port := w.upstream.Port()
	for link, want := range map[string]bool{
		w.upstream.String(): true, "http://127.0.0.1:" + port + "/other": true,
		"http://127.0.0.1:1/mcp": false, "https://127.0.0.1:" + port + "/mcp": false, "http://localhost:" + port + "/mcp": false,
		"http://127.0.0.1.evil.example:" + port + "/mcp": false,
	} {
		for name, rt := range map[string]http.RoundTripper{"POST": tr, "GET": tr.Background()} { // GET is the stream
			sent := false
			tr.cfg.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
				sent = r.Header.Get("Authorization") != ""
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
			})
			tr.cfg.AuthBase = tr.cfg.Base
			req, err := http.NewRequestWithContext(t.Context(), name, link, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if sent != want {
				t.Errorf("%s %s: token sent: %t, want %t", name, link, sent, want)
			}
		}
	}
}

func TestRequestContextBoundsOnlyItsWaiting(t *testing.T) {
	w := newWorld(t)
	offered := make(chan Prompt, 1)
	tr := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("host gave up")
	done := make(chan error, 1)
	go func() { // ends with the request
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.upstream.String(), nil)
		_, err := tr.RoundTrip(req)
		done <- err
	}()
	p := <-offered
	cancel(gone)
	if err := <-done; !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if s, _ := tr.State(); s.Prompt != p || p.Expires.IsZero() || p.Issuer != w.as.Issuer {
		t.Errorf("State shows %v, offered was %v", s.Prompt, p)
	}
	w.open(t.Context(), p)
	w.mustPost(tr)
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
}

func TestNobodyCompletes(t *testing.T) {
	w := newWorld(t)
	late := make(chan struct{})
	tr := w.transport(func(c *Config) {
		c.CallbackTimeout = time.Millisecond
		c.Offer = func(ctx context.Context, _ Prompt) { <-ctx.Done(); close(late) }
	})
	_, err := w.post(tr, "x")
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Refused || !errors.Is(err, ErrNotCompleted) {
		t.Fatalf("got %v", err)
	}
	<-late
	tr.cfg.CallbackTimeout, tr.cfg.Offer = time.Minute, w.open
	w.mustPost(tr)
}

func TestSignInAndOut(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	if err := tr.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tr.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
	rt := tr.creds.rec.Token.Refresh
	if !slices.Contains(tr.Secrets(), rt) || !w.as.Refreshable(rt) {
		t.Error("the refresh token is not there")
	}
	if err := w.store.Save(tr.creds.key+"/session", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := tr.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.as.Refreshable(rt) {
		t.Error("refresh token lives on")
	}
	for _, name := range []string{tr.creds.key, tr.creds.key + "/session"} {
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
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.MetadataDocument = true; k.Scopes = []string{"offline_access"} })
	w.mustPost(w.transport(func(c *Config) {
		c.ClientMetadataURL = "https://client.example/sallyport.json"
		c.ExtraParams = map[string]string{"state": "mine", "redirect_uri": "https://evil.example", "tenant": "7"}
	}))
	q := w.as.Authorized()
	if q.Get("client_id") != "https://client.example/sallyport.json" || q.Get("tenant") != "7" || q.Get("state") == "mine" ||
		q.Get("scope") != "offline_access" || q.Get("prompt") != "consent" {
		t.Errorf("authorize request %v", q)
	}
	w.wantStats(oauthtest.Stats{Authorizations: 1, Codes: 1})
}

func TestRegisteredSecretIsFormEncoded(t *testing.T) {
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		w := newWorld(t)
		w.as.Set(func(k *oauthtest.Knobs) { k.AuthMethods = []string{method}; k.OneRedirect = true })
		busy, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		tr := w.transport(func(c *Config) { c.CallbackAddrs = []string{busy.Addr().String(), "127.0.0.1:0"} })
		w.mustPost(tr)
		w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 1, Codes: 1})
		w.noSecrets()
	}
}

func TestMain(m *testing.M) {
	if config := os.Getenv(workerVariable); config != "" {
		os.Exit(playWorker(config))
	}
	os.Exit(m.Run())
}
