package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
)

// answerOf makes an answer to r.
func answerOf(r *http.Request, status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: r}
}

// upstreamAnswers replaces tr's way to the upstream. An answer of nil leaves a request to the
// upstream itself.
func upstreamAnswers(tr *Transport, answer func(r *http.Request, access string) *http.Response) {
	tr.cfg.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		if resp := answer(r, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); resp != nil {
			return resp, nil
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	tr.as.Base = tr.cfg.Base
}

// atServer replaces tr's way to the token endpoint in the same way.
func atServer(tr *Transport, answer func(r *http.Request, form url.Values) *http.Response) {
	tr.cfg.AuthBase = roundTripper(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/token") {
			return http.DefaultTransport.RoundTrip(r)
		}
		b, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(b))
		if resp := answer(r, form); resp != nil {
			return resp, nil
		}
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		return http.DefaultTransport.RoundTrip(r)
	})
	tr.as.Other = tr.cfg.AuthBase
}

// A server of several replicas does not know a fresh token at each of them at once.
func TestFreshTokenGetsTime(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"401": 401, "403 invalid_token": 403} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tr := w.transport(nil)
			tr.cfg.freshPauses = []time.Duration{1, 2, 3, 4}
			left := 4
			upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
				if access == "" || r.URL.Path != "/mcp" || left == 0 {
					return nil
				}
				left--
				return answerOf(r, status, http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}, "")
			})
			w.mustPost(tr)
			w.advance(2 * time.Hour)
			left = 4
			w.mustPost(tr)
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
		})
	}
}

// The pauses are about four seconds, and end with the request's context.
func TestFreshTokenPausesEndWithTheRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	var sum time.Duration
	c := Config{Upstream: w.upstream}
	c.setDefaults()
	for _, d := range c.freshPauses {
		sum += d
	}
	if sum < 3*time.Second || sum > 8*time.Second {
		t.Errorf("a fresh token gets %v", sum)
	}
	tr.cfg.freshPauses = []time.Duration{time.Hour}
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true })
	gone := errors.New("the host gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
		if access != "" {
			time.AfterFunc(time.Millisecond, func() { cancel(gone) })
		}
		return nil
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.String(), strings.NewReader("x"))
	if _, err := tr.RoundTrip(req); !errors.Is(err, gone) {
		t.Errorf("got %v, want the context's cause", err)
	}
}

// A refused token ends neither the account nor the process.
func TestRefusedTokenIsNotForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true })
	tr := w.transport(nil)
	wantRefused := func() {
		t.Helper()
		_, err := w.post(tr, "x")
		if _, ok := errors.AsType[*TokenRefusedError](err); !ok {
			t.Fatalf("got %v, want TokenRefusedError", err)
		}
	}
	wantRefused()
	wantRefused()
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = false })
	w.mustPost(tr) // the upstream is healed, and the same token will do
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})

	w.as.RevokeAll()
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true })
	wantRefused()
	w.wantStats(oauthtest.Stats{Registrations: w.as.Stats().Registrations, Authorizations: 2, Codes: 2, Refreshes: 1})
	w.advance(refusedPause)
	wantRefused() // after a new refresh, and a new login
	if err := tr.SignIn(t.Context()); err != nil {
		t.Errorf("the person asks again: %v", err)
	}
	if got := w.as.Stats().Authorizations; got < 3 {
		t.Errorf("got %d logins", got)
	}
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = false })
	w.mustPost(tr)
}

// In a session, a refusal of a token goes to the caller, where a login would follow otherwise.
func TestInSession(t *testing.T) {
	t.Parallel()
	send := func(t *testing.T, w *world, tr *Transport) int {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader("x"))
		resp, err := tr.InSession().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	lost := func(tr *Transport) {
		upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
			if access == "" {
				return nil
			}
			return answerOf(r, http.StatusUnauthorized, nil, "")
		})
	}
	for _, tt := range []struct {
		name   string
		happen func(w *world, tr *Transport)
		status int
		want   oauthtest.Stats // beyond the first login
	}{
		{"good token", func(*world, *Transport) {}, 200, oauthtest.Stats{}},
		{"expired token", func(w *world, _ *Transport) { w.advance(2 * time.Hour) }, 200, oauthtest.Stats{Refreshes: 1}},
		{"expired for good", func(w *world, _ *Transport) { w.as.RevokeAll(); w.advance(2 * time.Hour) }, 200,
			oauthtest.Stats{Refreshes: 1, Authorizations: 1, Codes: 1}},
		{"revoked access", func(w *world, _ *Transport) { w.as.RevokeAccess() }, 200, oauthtest.Stats{Refreshes: 1}},
		{"revoked", func(w *world, _ *Transport) { w.as.RevokeAll() }, 200, oauthtest.Stats{Refreshes: 1, Authorizations: 1, Codes: 1}},
		{"session lost", func(_ *world, tr *Transport) { lost(tr) }, 401, oauthtest.Stats{Refreshes: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tr := w.transport(nil)
			w.mustPost(tr)
			tt.happen(w, tr)
			if got := send(t, w, tr); got != tt.status {
				t.Errorf("got status %d, want %d", got, tt.status)
			}
			tt.want.Authorizations, tt.want.Codes = tt.want.Authorizations+1, tt.want.Codes+1
			tt.want.Registrations = w.as.Stats().Registrations // each port wants one
			w.wantStats(tt.want)
			upstreamAnswers(tr, func(*http.Request, string) *http.Response { return nil })
			w.mustPost(tr)
		})
	}
	t.Run("no token yet", func(t *testing.T) {
		w := newWorld(t)
		if got := send(t, w, w.transport(nil)); got != http.StatusOK {
			t.Errorf("got status %d", got)
		}
	})
}

// Servers ask for a token in other ways than by a 401.
func TestOtherRefusalsWithoutToken(t *testing.T) {
	t.Parallel()
	bearer := http.Header{"Www-Authenticate": {`Bearer realm="mcp"`}}
	to := func(place string) http.Header { return http.Header{"Location": {place}} }
	for _, tt := range []struct {
		name       string
		status     int
		header     http.Header
		noMetadata bool // of the resource
		login      bool
	}{
		{"403 with a challenge", 403, bearer, true, true},
		{"403 with a DPoP and Bearer challenge", 403, http.Header{"Www-Authenticate": {`Basic, Bearer`}}, true, true},
		{"400 with a challenge", 400, http.Header{"Www-Authenticate": {`Bearer error="invalid_request"`}}, true, true},
		{"400 invalid_token", 400, http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}, true, true},
		{"403, resource metadata", 403, nil, false, true},
		{"403", 403, nil, true, false},
		{"403 of another scheme", 403, http.Header{"Www-Authenticate": {`Basic realm="x"`}}, true, false},
		{"400, resource metadata", 400, nil, false, true},
		{"400", 400, nil, true, false},
		{"400 in a stream, resource metadata", 400, http.Header{"Content-Type": {"text/event-stream"}}, false, false},
		{"404, resource metadata", 404, nil, false, false},
		{"302, resource metadata", 302, to("/login?next=/mcp"), false, true},
		{"303 to another origin", 303, to("https://login.example/"), false, true},
		{"307, resource metadata", 307, to("/accounts/login"), false, true},
		{"302", 302, to("/login"), true, false},
		{"301 to the same with a slash", 301, to("/mcp/"), false, false},
		{"308 elsewhere", 308, to("/v2/mcp"), false, false},
		{"302 without a place", 302, nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.noMetadata {
				w.old()
			}
			tr := w.transport(nil)
			refusals := 0
			upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
				if access != "" || r.URL.Path != "/mcp" {
					return nil
				}
				refusals++
				return answerOf(r, tt.status, tt.header, "refused")
			})
			want, logins := tt.status, 0
			if tt.login {
				want, logins = 200, 1
			}
			for range 2 {
				if got, err := w.post(tr, "x"); err != nil || got != want {
					t.Errorf("got %d, %v, want %d", got, err, want)
				}
			}
			if got := w.as.Stats().Authorizations; got != logins {
				t.Errorf("got %d logins, want %d", got, logins)
			}
		})
	}
}

// A JSON-RPC error is about the request. Its body reaches the caller whole.
func TestBadRequestOfMCPIsNoRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	body := `{"jsonrpc":"2.0","error":{"code":-32000,"message":"` + strings.Repeat("x", 2*maxPeek) + `"}}`
	upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
		if r.URL.Path != "/mcp" {
			return nil
		}
		return answerOf(r, 400, nil, body)
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader("x"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); resp.StatusCode != 400 || string(got) != body {
		t.Errorf("got status %d and %d bytes", resp.StatusCode, len(got))
	}
	w.wantStats(oauthtest.Stats{})
}

// A refusal that may mean an expired token leads to one refresh, and to no page.
func TestOtherRefusalsWithToken(t *testing.T) {
	t.Parallel()
	scope := func(list string) http.Header {
		return http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope", scope="` + list + `"`}}
	}
	for _, tt := range []struct {
		name      string
		status    int
		header    http.Header
		expiresIn any // nil: an hour
		helps     bool
		refreshes int // of three requests
	}{
		{"403 invalid_token", 403, http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}, nil, true, 1},
		{"400 invalid_token", 400, http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}, nil, true, 1},
		{"403 of a valid token", 403, nil, nil, false, 0},
		{"403 with a challenge of a valid token", 403, http.Header{"Www-Authenticate": {`Bearer`}}, nil, false, 0},
		{"403, lifetime unknown", 403, nil, "", true, 1},
		{"403 with a challenge, lifetime unknown", 403, http.Header{"Www-Authenticate": {`Bearer`}}, "", true, 1},
		{"302, lifetime unknown", 302, http.Header{"Location": {"/login"}}, "", true, 1},
		{"403, lifetime unknown, for good", 403, nil, "", false, 1},
		{"403 held scope", 403, scope("read"), nil, true, 1},
		{"403 held scope, for good", 403, scope("read"), nil, false, 1},
		{"403 no scope", 403, http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope"`}}, nil, true, 1},
		{"400 of a tool", 400, nil, "", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.ChallengeScope, k.ExpiresIn = "read", tt.expiresIn })
			tr := w.transport(nil)
			w.mustPost(tr)
			old := tr.account.rec.Token.Access
			upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
				if access == "" || tt.helps && access != old {
					return nil
				}
				return answerOf(r, tt.status, tt.header, "refused")
			})
			want := tt.status
			if tt.helps {
				want = 200
			}
			for range 3 {
				if got, err := w.post(tr, "x"); err != nil || got != want {
					t.Errorf("got %d, %v, want %d", got, err, want)
				}
			}
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: tt.refreshes})
		})
	}
}

// Many requests at once that meet the same unclear refusal cause one refresh.
func TestUnclearRefusalAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.ExpiresIn = "" })
	tr := w.transport(nil)
	w.mustPost(tr)
	upstreamAnswers(tr, func(r *http.Request, access string) *http.Response { return answerOf(r, 403, nil, "") })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := w.post(tr, "x"); err != nil || got != 403 {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
	wg.Wait()
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}

// A token that our clock takes for alive may be dead all the same. An upstream that then leads to a
// login page, or that a person at a terminal signs in to, gets another one.
func TestDeadTokenThatSeemsAlive(t *testing.T) {
	t.Parallel()
	dead := []string{"!bearer=live", "!bearer=young", "!bearer=none"}
	for _, tt := range []struct {
		status   int
		terminal bool
		revoke   func(*oauthtest.Server)
		served   bool
		pages    int
	}{
		{302, false, (*oauthtest.Server).RevokeAccess, true, 1},
		{302, false, (*oauthtest.Server).RevokeAll, true, 2},
		{403, false, (*oauthtest.Server).RevokeAll, false, 1},
		{500, false, (*oauthtest.Server).RevokeAll, false, 1},
		{302, true, (*oauthtest.Server).RevokeAll, true, 2},
		{403, true, (*oauthtest.Server).RevokeAll, true, 2},
		{404, true, (*oauthtest.Server).RevokeAll, true, 2},
		{500, true, (*oauthtest.Server).RevokeAll, true, 2},
		{500, true, (*oauthtest.Server).RevokeAccess, true, 1},
		{503, true, (*oauthtest.Server).RevokeAll, false, 1},
	} {
		t.Run(fmt.Sprintf("%d, terminal %v, %d pages", tt.status, tt.terminal, tt.pages), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newField(t, oauthtest.Home{})
				defer f.net.Close()
				tr := f.transport(nil)
				if err := f.call(tr); err != nil {
					t.Fatal(err)
				}
				tr.Close()
				tt.revoke(f.as)
				rule := oauthtest.Rule{At: oauthtest.Upstream, When: dead, Status: tt.status}
				if tt.status == 302 {
					rule.Redirect = "/login"
				}
				f.as.Play(rule)
				tr = f.transport(func(c *Config) { c.AtTerminal = tt.terminal })
				defer tr.Close()
				if err := f.call(tr); (err == nil) != tt.served || f.pages() != tt.pages {
					t.Errorf("got %v after %d pages, want %d", err, f.pages(), tt.pages)
				}
			})
		})
	}
}

// A call of a session waits for a fresh token, too, if the upstream answers 403 to it: the relay
// would give that to the host. Where the upstream goes on so, the relay gets the 403.
func TestFreshTokenGetsTimeInSession(t *testing.T) {
	t.Parallel()
	for refusals, want := range map[int]int{4: http.StatusOK, 5: http.StatusForbidden} {
		w := newWorld(t)
		tr := w.transport(nil)
		tr.cfg.freshPauses = []time.Duration{1, 2, 3, 4}
		w.mustPost(tr)
		w.advance(2 * time.Hour) // the next token is fresh
		left := refusals
		upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
			if access == "" || r.URL.Path != "/mcp" || left == 0 {
				return nil
			}
			left--
			return answerOf(r, http.StatusForbidden, http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}, "")
		})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader("x"))
		resp, err := tr.InSession().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d refusals: status %d, want %d", refusals, resp.StatusCode, want)
		}
	}
}
