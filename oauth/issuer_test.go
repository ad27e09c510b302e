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
	"testing"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

// secondServer starts another authorization server for w's upstream. The upstream names it from
// then on.
func (w *world) secondServer(knobs func(*oauthtest.Knobs)) *oauthtest.Server {
	w.t.Helper()
	var as *oauthtest.Server
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { as.ServeHTTP(rw, r) }))
	w.t.Cleanup(s.Close)
	as = oauthtest.New(s.URL, w.upstream.String())
	as.Now = w.clock
	if knobs != nil {
		as.Set(knobs)
	}
	return as
}

// naming makes tr's upstream name the server as in its metadata, and take the server's tokens.
func naming(tr *Transport, as *oauthtest.Server) *Transport {
	guard := as.Guard(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("hello")) }))
	tr.cfg.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		guard.ServeHTTP(rec, r)
		resp := rec.Result()
		resp.Request = r
		return resp, nil
	})
	tr.as.Base = tr.cfg.Base
	return tr
}

// asClient configures a client that each of the servers knows, whatever port is bound.
func asClient(id string, secret Secret, servers ...*oauthtest.Server) func(*Config) {
	return func(c *Config) {
		c.Client.ID, c.Client.Secret = id, secret
		c.Callback.Listen = func(ctx context.Context, _ string) (net.Listener, error) {
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err == nil {
				for _, as := range servers {
					as.AddClient(oauthtest.Client{ID: id, Secret: string(secret),
						RedirectURIs: []string{"http://" + ln.Addr().String() + "/callback"}})
				}
			}
			return ln, err
		}
	}
}

// wantIssuerChanged fails unless err names both servers and the code.
func wantIssuerChanged(t *testing.T, err error, old, other string) {
	t.Helper()
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok || e.Code != asclient.CodeIssuerChanged || !e.Refused || !strings.Contains(e.Description, old) || e.Server != other {
		t.Errorf("got %v, want CodeIssuerChanged that names %s and %s", err, old, other)
	}
}

// Where no iss tells which server a callback comes from, its path does.
func TestCallbackPathPerIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var paths []string
	login := func(tr *Transport, as *oauthtest.Server) {
		t.Helper()
		w.mustPost(tr)
		u, _ := url.Parse(as.Authorized().Get("redirect_uri"))
		paths = append(paths, u.Path)
		w.store.ForgetAll()
	}
	noIss := func(k *oauthtest.Knobs) { k.NoIss = true }
	login(w.transport(nil), w.as)
	w.as.Set(noIss)
	login(w.transport(nil), w.as)
	login(w.transport(nil), w.as)
	other := w.secondServer(noIss)
	login(naming(w.transport(nil), other), other)
	if paths[0] != "/callback" || !strings.HasPrefix(paths[1], "/callback/") || paths[2] != paths[1] ||
		!strings.HasPrefix(paths[3], "/callback/") || paths[3] == paths[1] {
		t.Errorf("the redirect URIs have the paths %q", paths)
	}
}

// A registration with the old path is replaced, and the person is not kept out.
func TestRegistrationOfTheOldPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	samePort := w.samePort()
	w.mustPost(w.transport(samePort))
	w.as.RevokeAll()
	w.as.Set(func(k *oauthtest.Knobs) { k.NoIss = true })
	w.mustPost(w.transport(samePort))
	w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2, Refreshes: 1})
}

// A configured secret goes to the server of its first use and to no other.
func TestConfiguredSecretsAreBound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		secret  Secret
		noIss   bool
		refused bool
	}{
		{"secret", "s", false, true},
		{"public client, no proof of the issuer", "", true, true},
		{"public client, iss proves the issuer", "", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			knobs := func(k *oauthtest.Knobs) { k.NoIss = tt.noIss }
			w.as.Set(knobs)
			other := w.secondServer(knobs)
			client := asClient("me", tt.secret, w.as, other)
			w.mustPost(w.transport(client))
			w.as.RevokeAll()
			tr := naming(w.transport(client), other)
			_, err := w.post(tr, "x")
			if !tt.refused {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantIssuerChanged(t, err, w.as.Issuer, other.Issuer)
			wantIssuerChanged(t, tr.SignIn(t.Context()), w.as.Issuer, other.Issuer)
			if got := other.Stats(); got != (oauthtest.Stats{Unauthorized: got.Unauthorized}) {
				t.Errorf("the other server was asked %+v", got)
			}
			// The person vouches for the other server.
			vouched := func(c *Config) { client(c); c.Endpoints.Issuer = other.Issuer }
			w.mustPost(naming(w.transport(vouched), other))
			// From then on the client is for that one, without --issuer as well.
			w.mustPost(naming(w.transport(client), other))
			w.as.RevokeAll()
			other.RevokeAll()
			_, err = w.post(w.transport(client), "x")
			wantIssuerChanged(t, err, other.Issuer, w.as.Issuer)
			// A sign-out forgets what the client is for.
			out := w.transport(client)
			if err := out.SignOut(t.Context(), false); err != nil {
				t.Error(err)
			}
			w.mustPost(w.transport(client))
		})
	}
}

// The same holds for the grants without a person, whose tokens are not stored.
func TestUnattendedSecretsAreBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.secondServer(nil)
	client := func(c *Config) { c.Grant, c.Client.ID, c.Client.Secret = GrantClientCredentials, "agent", "s" }
	for _, as := range []*oauthtest.Server{w.as, other} {
		as.AddClient(oauthtest.Client{ID: "agent", Secret: "s"})
	}
	w.mustPost(w.transport(client))
	_, err := w.post(naming(w.transport(client), other), "x")
	wantIssuerChanged(t, err, w.as.Issuer, other.Issuer)
	if got := other.Stats().ClientCredentials; got != 0 {
		t.Errorf("the other server got the secret %d times", got)
	}
	w.mustPost(w.transport(client))
}

// A refresh token that somebody else obtained goes to the server of its first use.
func TestGivenRefreshTokenIsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.secondServer(nil)
	client := asClient("me", "", w.as, other)
	tr := w.transport(client)
	w.mustPost(tr)
	refresh := Secret(tr.account.rec.Token.Refresh)
	tr.Close()
	given := func(c *Config) { client(c); c.Given.RefreshToken, c.NonInteractive = refresh, true }
	_, err := w.post(naming(w.transport(given), other), "x")
	wantIssuerChanged(t, err, w.as.Issuer, other.Issuer)
	w.mustPost(w.transport(given))
	if got := other.Stats().Refreshes; got != 0 {
		t.Errorf("the other server got the refresh token %d times", got)
	}
}

// What the record holds of another server than --issuer names is not used, and not lost before a
// login has replaced it.
func TestRecordOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.secondServer(nil)
	w.mustPost(w.transport(nil))
	vouched := func(c *Config) { c.Endpoints.Issuer = other.Issuer }
	tr := w.transport(vouched)
	if got := tr.account.rec.Token.Access; got != "" {
		t.Error("a token of another issuer is used")
	}
	same := w.transport(func(c *Config) { c.Endpoints.Issuer = w.as.Issuer + "/" })
	if got := same.account.rec.Token.Access; got == "" {
		t.Error("the token of the issuer is not used")
	}
	if tr.account.key != same.account.key {
		t.Error("another key: a sign-out would not find the record")
	}
	w.mustPost(naming(tr, other))
	if got := other.Stats().Authorizations; got != 1 {
		t.Errorf("got %d logins at the issuer that the person named", got)
	}
}

// What the person says of the resource counts, whatever the metadata names.
func TestResourceSetting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, setting, metadata, want string }{
		{"none", ResourceNone, "", ""},
		{"none, metadata of another", ResourceNone, "https://other.example/mcp", ""},
		{"given", "urn:demo:mcp", "urn:demo:mcp", "urn:demo:mcp"},
		{"given, metadata of another", "api://8d2f", "https://other.example/mcp", "api://8d2f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.ResourceName = tt.metadata })
			tr := w.transport(func(c *Config) { c.Resource = tt.setting })
			var sent []string
			atServer(tr, func(r *http.Request, form url.Values) *http.Response {
				sent = append(sent, strings.Join(form["resource"], " "))
				return answerOf(r, 200, nil, `{"access_token":"`+w.grantAccess()+`","token_type":"Bearer"}`)
			})
			tr.cfg.Offer = nil
			err := make(chan error, 1)
			go func() { err <- tr.SignIn(t.Context()) }() // ends with the login
			p := w.promptOf(tr)
			link, _ := url.Parse(p.AuthorizeURL)
			q := link.Query()
			if got := q.Get("resource"); got != tt.want || q.Has("resource") != (tt.want != "") {
				t.Errorf("the authorization request has the resource %q, want %q", got, tt.want)
			}
			back := p.RedirectURI + "?" + url.Values{"code": {"c"}, "state": {q.Get("state")}, "iss": {w.as.Issuer}}.Encode()
			u, _ := url.Parse(back)
			if err := tr.Deliver(t.Context(), u); err != nil {
				t.Error(err)
			}
			if e := await(t, err); e != nil || len(sent) != 1 || sent[0] != tt.want {
				t.Errorf("the token request had the resource %q (%v), want %q", sent, e, tt.want)
			}
		})
	}
}

// grantAccess returns a new access token of w's server.
func (w *world) grantAccess() string { return "at-" + strings.Repeat("x", 20) }

// promptOf waits for the prompt that tr shows.
func (w *world) promptOf(tr *Transport) Prompt {
	w.t.Helper()
	for {
		s, changed := tr.State()
		if s.Prompt.AuthorizeURL != "" {
			return s.Prompt
		}
		await(w.t, changed)
	}
}

// A new consent is asked for only where a login without one brought no refresh token.
func TestConsent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		helps  bool // a refresh token comes with it
		scopes []string
		want   []string // of three logins
	}{
		{"helps", true, []string{"offline_access"}, []string{"", "consent", "consent"}},
		{"does not help", false, []string{"offline_access"}, []string{"", "consent", ""}},
		{"not offered", false, nil, []string{"", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.NoRefresh, k.Scopes = true, tt.scopes })
			for i, want := range tt.want {
				w.as.Set(func(k *oauthtest.Knobs) { k.NoRefresh = !tt.helps || want == "" })
				w.mustPost(w.transport(nil))
				if got := w.as.Authorized().Get("prompt"); got != want {
					t.Errorf("login %d has the prompt %q, want %q", i+1, got, want)
				}
				w.as.RevokeAll()
				w.advance(2 * time.Hour)
			}
		})
	}
}

// A server may let a client ask only for the scopes that it registered.
func TestScopesAreRegistered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.ChallengeScope = "read"; k.Scopes = []string{"offline_access"} })
	tr := w.transport(nil)
	w.mustPost(tr)
	if got := w.as.Registered()["scope"]; got != "read offline_access" {
		t.Errorf("registered for the scopes %v", got)
	}
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "write" })
	w.mustPost(tr)
	if got, _ := w.as.Registered()["scope"].(string); !strings.Contains(got, "write") {
		t.Errorf("registered for the scopes %v, and write was asked for", got)
	}
}

// A sign-out revokes the tokens of the record's own server, also where the person vouches for
// another by now. A configured secret does not go there.
func TestSignOutOfAnotherServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		client      string
		secret      Secret
		revocations int
	}{
		{"registered", "", "", 1},
		{"public client", "me", "", 1},
		{"client with a secret", "me", "s", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			other := w.secondServer(nil)
			change := func(*Config) {}
			if tt.client != "" {
				change = asClient(tt.client, tt.secret, w.as)
			}
			w.mustPost(w.transport(change))
			out := w.transport(func(c *Config) { change(c); c.Endpoints.Issuer = other.Issuer })
			if err := out.SignOut(t.Context(), false); err != nil {
				t.Error(err)
			}
			if got := w.as.Stats().Revocations; got != tt.revocations {
				t.Errorf("%d revocations at the record's server, want %d", got, tt.revocations)
			}
			if got := other.Stats(); got.Revocations != 0 {
				t.Errorf("the other server was asked %+v", got)
			}
			list, err := Accounts(w.store)
			if len(list) != 0 || err != nil {
				t.Errorf("the store still holds %v (%v)", list, err)
			}
		})
	}
}

// A token endpoint that the Config gives and the server whose metadata lists it are one server.
func TestGivenTokenEndpointOfADiscoveredServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	change := func(c *Config) {
		asClient("me", "", w.as)(c)
		c.Endpoints.TokenURL, c.Given.RefreshToken = w.as.Issuer+"/token", "dead"
	}
	w.mustPost(w.transport(change))
	w.as.RevokeAll()
	w.mustPost(w.transport(change))
	if got := w.as.Stats().Authorizations; got != 2 {
		t.Errorf("%d login pages, want 2", got)
	}
}

// A token endpoint was given once and is discovered now: it is the same server. What is secret goes
// to no other place that the metadata names.
func TestGivenEndpointIsDiscoveredLater(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		elsewhere string // an endpoint that is at the upstream
		want      []string
	}{
		{"", []string{""}},
		{"revocation_endpoint", []string{""}},
		{"pushed_authorization_request_endpoint", []string{""}},
		{"token_endpoint", []string{asclient.CodeIssuerChanged, asclient.CodeIssuerMismatch}},
	} {
		selfMade(t, func(t *testing.T, h *hostile) {
			client := asClient("me", "configured-secret", h.as)
			h.mustPost(h.transport(func(c *Config) {
				client(c)
				c.Endpoints.TokenURL, c.Endpoints.AuthorizationURL = h.as.Issuer+"/token", h.as.Issuer+"/authorize"
			}))
			old := h.as.Secrets()
			h.as.RevokeAll()
			h.set(func() {
				if tt.elsewhere != "" {
					h.server[tt.elsewhere] = h.origin + "/x"
				}
				h.refuse = func(w http.ResponseWriter, r *http.Request) {
					if slices.Contains(old, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
						w.WriteHeader(http.StatusUnauthorized)
					}
				}
			})
			tr := h.transport(client)
			if _, err := h.post(tr, "x"); !slices.Contains(tt.want, codeOf(err)) {
				t.Errorf("%s: got %v, want one of %q", tt.elsewhere, err, tt.want)
			}
			tr.SignOut(t.Context(), false)
			h.wantNothing("configured-secret")
		})
	}
}
