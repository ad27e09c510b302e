package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

func TestReplaySendsTheWholeBodyAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.post(w.transport(nil), `{"id":1}`); err != nil {
		t.Fatal(err)
	}
	if want := []string{`POST /mcp {"id":1}`}; !slices.Equal(w.seen, want) {
		t.Errorf("upstream saw %q, want %q", w.seen, want)
	}
}

func TestNewTokenRefused(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

func TestTokenStaysAtTheUpstreamsOrigin(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

func TestLateUnauthorizedLeavesTheNewTokenAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	fresh := tr.account.rec.Token
	sent, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	tr.cfg.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		late := false
		once.Do(func() { late = true })
		if !late {
			return http.DefaultTransport.RoundTrip(r)
		}
		close(sent)
		<-answer
		return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	done := make(chan error, 1)
	go func() { // ends with the request
		_, err := w.post(tr, "slow")
		done <- err
	}()
	<-sent
	w.as.RevokeAccess()
	w.mustPost(tr) // refreshes
	renewed := tr.account.rec.Token
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if renewed.Access == fresh.Access || tr.account.rec.Token != renewed {
		t.Error("the late 401 cost the new token")
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}
