package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"

	"github.com/go-jose/go-jose/v4"
)

func TestCheckRedirect(t *testing.T) {
	const ours = "https://as.example"
	for _, tt := range []struct {
		name   string
		server server
		query  string
		want   string // code of the error
	}{
		{"iss is ours", server{Issuer: ours, SendsIss: true}, "code=c&iss=https://as.example", ""},
		{"advertised and absent", server{Issuer: ours, SendsIss: true}, "code=c", CodeIssuerMismatch},
		{"advertised, absent, error", server{Issuer: ours, SendsIss: true}, "error=access_denied", CodeIssuerMismatch},
		{"neither", server{Issuer: ours}, "code=c", ""},
		{"not advertised, another", server{Issuer: ours}, "code=c&iss=https://evil.example", CodeIssuerMismatch},
		{"not advertised, empty", server{Issuer: ours}, "code=c&iss=", CodeIssuerMismatch},
		{"only nearly ours", server{Issuer: ours}, "code=c&iss=https://as.example/", CodeIssuerMismatch},
		{"given endpoints have no issuer", server{Source: fromConfig}, "code=c&iss=https://as.example", ""},
		{"an error", server{Issuer: ours}, "error=access_denied", "access_denied"},
		{"no code", server{Issuer: ours}, "code=", CodeBadReply},
	} {
		q, _ := url.ParseQuery(tt.query)
		got := ""
		if e, ok := errors.AsType[*SignInError](checkRedirect(tt.server, q)); ok {
			got = e.Code
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAuthMethod(t *testing.T) {
	secret, key := client{ID: "c", Secret: "s"}, new(jose.JSONWebKey)
	for _, tt := range []struct {
		name   string
		style  string
		server server
		client client
		want   string
	}{
		{"no secret", "header", server{}, client{ID: "c"}, authNone},
		{"style header", "header", server{AuthMethods: []string{authPost}}, secret, authBasic},
		{"style body", "body", server{AuthMethods: []string{authBasic}}, secret, authPost},
		{"as registered", "", server{AuthMethods: []string{authBasic, authPost}}, client{Secret: "s", Method: authPost}, authPost},
		{"given endpoints", "", server{Source: fromConfig}, secret, authPost},
		{"nothing advertised", "", server{}, secret, authBasic},
		{"both advertised", "", server{AuthMethods: []string{authPost, authBasic}}, secret, authBasic},
		{"only none advertised", "", server{AuthMethods: []string{authNone}}, secret, authNone},
		{"key, nothing advertised", "", server{}, client{ID: "c", key: key}, authPrivateKey},
		{"key before a secret", "", server{AuthMethods: []string{authPost, authPrivateKey}}, client{ID: "c", Secret: "s", key: key}, authPrivateKey},
		{"secret where the key is not taken", "", server{AuthMethods: []string{authPost}}, client{ID: "c", Secret: "s", key: key}, authPost},
		{"post advertised", "", server{AuthMethods: []string{authNone, authPost}}, secret, authPost},
	} {
		tr := &Transport{cfg: Config{Client: ClientConfig{AuthStyle: tt.style}}}
		if got := tr.authMethod(tt.server, tt.client); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Everything given and nothing discovered, as the predecessor is configured.
func TestGivenEndpoints(t *testing.T) {
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) {
		k.NoMetadata, k.NoResourceMetadata, k.NoPKCE, k.NoIss = true, true, true, true
	})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	redirect := "http://" + free.Addr().String() + "/back"
	w.as.AddClient(oauthtest.Client{ID: "me", Secret: "s e c", Method: "client_secret_basic", RedirectURIs: []string{redirect}})
	w.mustPost(w.transport(func(c *Config) {
		c.Grant, c.Client.ID, c.Client.Secret, c.Client.AuthStyle = GrantAuthorizationCode, "me", "s e c", AuthStyleHeader
		c.Endpoints.AuthorizationURL, c.Endpoints.TokenURL, c.Endpoints.NoDiscovery = w.as.Issuer+"/authorize?tenant=7", w.as.Issuer+"/token", true
		c.Callback.RedirectURI, c.Scope, c.Resource = redirect, "a b", w.upstream.String()
		c.Callback.Listen = func(_ context.Context, addr string) (net.Listener, error) {
			if addr != free.Addr().String() {
				t.Errorf("listener asked for at %s", addr)
			}
			return free, nil
		}
	}))
	q := w.as.Authorized()
	if q.Get("redirect_uri") != redirect || q.Get("scope") != "a b" || q.Get("tenant") != "7" || q.Get("resource") == "" {
		t.Errorf("authorize request %v", q)
	}
}

func TestWrongClientSecretIsRefusedForGood(t *testing.T) {
	w := newWorld(t)
	w.as.AddClient(oauthtest.Client{ID: "robot", Secret: "right"})
	_, err := w.post(w.transport(func(c *Config) {
		c.Grant, c.Client.ID, c.Client.Secret = GrantClientCredentials, "robot", "wrong"
	}), "x")
	if e, ok := errors.AsType[*SignInError](err); !ok || !e.Refused || e.Code != "invalid_client" {
		t.Errorf("got %v", err)
	}
}

func TestAnotherIssuerInvalidates(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	first := w.as
	as := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.as.ServeHTTP(rw, r) }))
	defer as.Close()
	next := oauthtest.New(as.URL, w.upstream.String())
	next.Now = w.clock
	up := next.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	tr.cfg.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		up.ServeHTTP(rec, r)
		return rec.Result(), nil
	})
	tr.wire.base = tr.cfg.Base
	w.as = next
	first.RevokeAll()
	// The first server's address now leads to the second; keep the first one reachable.
	tr.wire.other = roundTripper(func(r *http.Request) (*http.Response, error) {
		if "http://"+r.URL.Host == first.Issuer {
			rec := httptest.NewRecorder()
			first.ServeHTTP(rec, r)
			return rec.Result(), nil
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	w.mustPost(tr)
	if got := next.Stats(); got.Registrations != 1 || got.Codes != 1 {
		t.Errorf("second server was asked %+v", got)
	}
	if tr.creds.rec.Server.Issuer != as.URL || !slices.Equal(tr.creds.rec.Client.RedirectURIs, []string{next.Authorized().Get("redirect_uri")}) {
		t.Errorf("record is of %s", tr.creds.rec.Server.Issuer)
	}
}

// The brake holds among processes: here two that take turns at one store.
func TestBrake(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var processes [2]*peers
		for i := range processes {
			s, err := tokenstore.Open(dir+"/state", dir+"/config", tokenstore.Keyring{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			cfg := &Config{Log: slog.New(slog.DiscardHandler), Store: s, now: wallClock, pageInterval: defaultPageInterval}
			processes[i] = &peers{cfg: cfg, creds: &credentials{cfg: cfg}, status: newStatus(cfg, nil)}
		}
		start := time.Now()
		n := 0
		page := func(want time.Duration, asked bool) {
			t.Helper()
			l := &leadership{peers: processes[n%2], need: need{byPerson: asked}}
			n++
			if err := l.awaitPage(t.Context(), ""); err != nil {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			if got := time.Since(start); got != want {
				t.Errorf("a page after %v, want %v", got, want)
			}
			l.announce(Prompt{})
		}
		held := func() {
			t.Helper()
			for _, p := range processes {
				if err := (&leadership{peers: p}).awaitPage(t.Context(), ""); !errors.Is(err, ErrHeldBack) {
					t.Errorf("after %v: %v, want ErrHeldBack", time.Since(start), err)
				}
			}
		}
		page(0, false)
		time.Sleep(10 * time.Second)
		next := processes[1]
		_, changed := next.status.get()
		go func() { // ends when the brake holds the next page
			<-changed
			if s, _ := next.status.get(); !s.NextPage.Equal(start.Add(defaultPageInterval)) {
				t.Errorf("the next page opens at %v, want %v", s.NextPage, start.Add(defaultPageInterval))
			}
		}()
		page(defaultPageInterval, false)
		if s, _ := next.status.get(); !s.NextPage.IsZero() {
			t.Errorf("a page is shown, and the next said to open at %v", s.NextPage)
		}
		processes[1].countPages(func(c *pageCount) { c.Completed = true })
		page(defaultPageInterval, false) // the person is there
		held()
		page(2*defaultPageInterval, true)
		time.Sleep(time.Hour - time.Second)
		held()
		time.Sleep(time.Second)
		page(time.Hour+2*defaultPageInterval, false)
		held()
		processes[n%2].cfg.AtTerminal = true
		page(time.Hour+2*defaultPageInterval, false)
		processes[0].resetPages() // the upstream took a token
		page(time.Hour+2*defaultPageInterval, false)
		processes[0].cfg.AtTerminal, processes[1].cfg.AtTerminal = false, false
		page(time.Hour+3*defaultPageInterval, false)
	})
}

func TestErrorsAreOneLine(t *testing.T) {
	long := strings.Repeat("ä", 500)
	for _, err := range []error{
		&SignInError{Stage: StageToken, Server: "https://as.example/" + long, Code: "a\nb", Description: "x\ny" + long, Status: 400, Refused: true},
		&DiscoveryError{What: "metadata", Tried: []Attempt{{URL: "https://h/x", Status: 404}, {URL: "https://h/y", Reason: "no JSON"}}},
		&PortBusyError{Addr: "127.0.0.1:1", PID: 7, Command: "ssh\n"},
		&LoginRequiredError{Upstream: "https://h/mcp"},
		&TokenRefusedError{Upstream: "https://h/mcp", Code: "x", Description: "y\n" + long},
	} {
		if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 1000 {
			t.Errorf("%T: %q", err, s)
		}
	}
}
