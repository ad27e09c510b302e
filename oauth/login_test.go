package oauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sallyport/oauth/oauthtest"

	"sallyport/oauth/asclient"
)

// Everything given and nothing discovered, as the predecessor is configured.
func TestGivenEndpoints(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	w := newWorld(t)
	w.as.AddClient(oauthtest.Client{ID: "robot", Secret: "right"})
	_, err := w.post(w.transport(func(c *Config) {
		c.Grant, c.Client.ID, c.Client.Secret = GrantClientCredentials, "robot", "wrong"
	}), "x")
	if e, ok := errors.AsType[*asclient.SignInError](err); !ok || !e.Refused || e.Code != "invalid_client" {
		t.Errorf("got %v", err)
	}
}

func TestAnotherIssuerInvalidates(t *testing.T) {
	t.Parallel()
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
	tr.as.Base = tr.cfg.Base
	w.as = next
	first.RevokeAll()
	// The first server's address now leads to the second; keep the first one reachable.
	tr.as.Other = roundTripper(func(r *http.Request) (*http.Response, error) {
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
	if tr.account.rec.Server.Issuer != as.URL || !slices.Equal(tr.account.rec.Client.RedirectURIs, []string{next.Authorized().Get("redirect_uri")}) {
		t.Errorf("record is of %s", tr.account.rec.Server.Issuer)
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 500)
	for _, err := range []error{
		&asclient.SignInError{Stage: asclient.StageToken, Server: "https://as.example/" + long, Code: "a\nb", Description: "x\ny" + long, Status: 400, Refused: true},
		&asclient.DiscoveryError{What: "metadata", Tried: []asclient.Attempt{{URL: "https://h/x", Status: 404}, {URL: "https://h/y", Reason: "no JSON"}}},
		&PortBusyError{Addr: "127.0.0.1:1", PID: 7, Command: "ssh\n"},
		&LoginRequiredError{Upstream: "https://h/mcp"},
		&TokenRefusedError{Upstream: "https://h/mcp", Code: "x", Description: "y\n" + long},
	} {
		if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 1000 {
			t.Errorf("%T: %q", err, s)
		}
	}
}
