package oauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"

	"github.com/go-jose/go-jose/v4"

	"sallyport/oauth/asclient"
)

func TestPushedRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		knobs oauthtest.Knobs
	}{
		{"public client", oauthtest.Knobs{AuthMethods: []string{"none"}}},
		{"client_secret_basic", oauthtest.Knobs{AuthMethods: []string{"client_secret_basic"}}},
		{"client_secret_post", oauthtest.Knobs{AuthMethods: []string{"client_secret_post"}}},
		{"DPoP", oauthtest.Knobs{DPoP: true}},
		{"DPoP with a nonce", oauthtest.Knobs{DPoP: true, Nonces: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.knobs.RequirePush = true
			w.as.Set(func(k *oauthtest.Knobs) { *k = tt.knobs })
			tr := w.transport(func(c *Config) { c.ExtraParams = map[string]string{"request_uri": "mine", "tenant": "7"} })
			w.mustPost(tr)
			tr.Close() // waits for the person
			link, err := url.Parse(w.links[0])
			if err != nil {
				t.Fatal(err)
			}
			q := w.as.Authorized()
			if got := link.Query(); len(got) != 2 || got.Get("request_uri") == "" || got.Get("client_id") != q.Get("client_id") {
				t.Errorf("the link is %s", link)
			}
			if q.Get("resource") != w.upstream.String() || q.Get("tenant") != "7" || q.Get("state") == "" {
				t.Errorf("pushed %v", q)
			}
			if got := w.as.Stats().Pushes; got != 1 {
				t.Errorf("%d pushes", got)
			}
			w.noSecrets(q.Get("state"))
		})
	}
}

func TestPushedRequestWithAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newECKey(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	redirect := "http://" + ln.Addr().String() + "/callback"
	w.as.AddClient(oauthtest.Client{ID: "me", Key: &jose.JSONWebKey{Key: key.Public()}, RedirectURIs: []string{redirect}})
	w.as.Set(func(k *oauthtest.Knobs) { k.RequirePush, k.AuthMethods = true, []string{"private_key_jwt"} })
	w.mustPost(w.transport(func(c *Config) {
		c.Client.ID, c.Client.Key, c.Callback.RedirectURI = "me", pemKey(t, key), redirect
		c.Callback.Listen = func(context.Context, string) (net.Listener, error) { return ln, nil }
	}))
	w.wantStats(oauthtest.Stats{Pushes: 1, Authorizations: 1, Codes: 1})
	w.noSecrets()
}

// A page of ours leads to a login even where the request that was pushed first has expired, or was
// used.
func TestLatePersonGetsAnotherPushedRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.RequirePush, k.PushLife = true, 40*time.Second })
	follow := func(link string, want int) *url.URL {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
		next, _ := resp.Location()
		return next
	}
	pushes := func(want int) {
		t.Helper()
		if got := w.as.Stats().Pushes; got != want {
			t.Errorf("%d pushes, want %d", got, want)
		}
	}
	_, p, done := w.beginSignIn(nil)
	if want := w.clock().Add(40 * time.Second); !p.LinkExpires.Equal(want) {
		t.Errorf("the link expires at %v, want %v", p.LinkExpires, want)
	}
	if first := follow(p.BrowserURL, http.StatusSeeOther); first.String() != p.AuthorizeURL {
		t.Errorf("led to %v, offered %s", first, p.AuthorizeURL)
	}
	pushes(1)
	if second := follow(p.StartURL, http.StatusSeeOther); second.String() == p.AuthorizeURL {
		t.Error("a request_uri is used twice")
	}
	pushes(2)
	w.advance(time.Minute)
	follow(p.AuthorizeURL, http.StatusBadRequest)
	w.as.Set(func(k *oauthtest.Knobs) { k.PushError = "temporarily_unavailable" })
	follow(p.StartURL, http.StatusBadGateway)
	w.as.Set(func(k *oauthtest.Knobs) { k.PushError = "" })
	p.AuthorizeURL = p.StartURL
	w.open(t.Context(), p)
	if err := <-done; err != nil {
		t.Error(err)
	}
	pushes(4)
	w.noSecrets(w.as.Authorized().Get("state"))
}

// The first URL, too, is not handed out once it has expired.
func TestExpiredLoginURLIsReplaced(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	u := &loginURL{first: "first", expires: now, now: func() time.Time { return now },
		push: func(context.Context) (asclient.Pushed, error) {
			return asclient.Pushed{URL: "another", Expires: now}, nil
		}}
	if got, err := u.next(t.Context()); got != "another" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code    string
		refused bool
	}{{"invalid_request", true}, {"temporarily_unavailable", false}} {
		w := newWorld(t)
		w.as.Set(func(k *oauthtest.Knobs) { k.RequirePush, k.PushError = true, tt.code })
		_, err := w.post(w.transport(nil), "x")
		if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Stage != asclient.StageAuthorize || e.Code != tt.code || e.Refused != tt.refused {
			t.Errorf("got %v", err)
		}
		if state := w.as.Pushed().Get("state"); state == "" || strings.Contains(err.Error(), state) {
			t.Errorf("the state %q stands in: %v", state, err)
		}
	}
}

// Not parallel: another test could take the port that this one needs again.
func TestPushByAForgottenClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	samePort := w.samePort()
	w.as.Set(func(k *oauthtest.Knobs) { k.RequirePush, k.NoRefresh = true, true })
	w.mustPost(w.transport(samePort))
	w.as.RevokeAll()
	w.as.ForgetClients()
	w.mustPost(w.transport(samePort)) // the login registers again at once
	if got := w.as.Stats().Registrations; got != 2 {
		t.Errorf("%d registrations, want 2", got)
	}
}

func TestPushDemandedWithoutAnEndpoint(t *testing.T) {
	t.Parallel()
	f := asclient.Finding{Server: asclient.Server{Issuer: "https://as.example", PushRequired: true}}
	l := &login{found: f, server: f.Server}
	_, err := l.loginURL(t.Context(), "https://as.example/authorize")
	if _, ok := errors.AsType[*asclient.DiscoveryError](err); !ok || !strings.Contains(err.Error(), "pushed authorization request endpoint") {
		t.Errorf("got %v", err)
	}
}
