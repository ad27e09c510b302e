package oauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

func TestTwoProcessesSpendARefreshTokenOnce(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

// Not parallel: another test could take the port that this one needs again.
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
			samePort := w.samePort()
			w.mustPost(w.transport(samePort))
			tt.happen(w)
			w.mustPost(w.transport(samePort))
			w.wantStats(tt.want)
			w.noSecrets()
		})
	}
}

func TestGivenOnce(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"refresh token", "code"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.as.AddClient(oauthtest.Client{ID: "me", RedirectURIs: []string{"http://127.0.0.1:1/cb"}})
			given := func(c *Config) {
				c.Grant, c.Client.ID, c.NonInteractive = GrantAuthorizationCode, "me", true
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
				c.Given.AuthorizationCode, c.Given.CodeVerifier, c.Callback.RedirectURI = Secret(code), Secret(verifier), "http://127.0.0.1:1/cb"
			}
			if name == "refresh token" {
				tr := w.transport(first)
				w.mustPost(tr)
				rt := tr.account.rec.Token.Refresh
				w.store.ForgetAll()
				first = func(c *Config) { given(c); c.Given.RefreshToken = Secret(rt) }
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

func TestRevokedRefreshTokenLocksNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.transport(nil)
	w.mustPost(first)
	old := first.account.rec.Token.Refresh
	first.Close()
	w.as.RevokeAll()
	for range 2 { // starts that may not ask
		if _, err := w.post(w.transport(func(c *Config) { c.NonInteractive = true }), "x"); err == nil {
			t.Error("a request passed")
		}
		if b, err := w.store.Load(first.account.key); err != nil || b == nil || strings.Contains(string(b), old) {
			t.Errorf("the store holds %q, %v", b, err)
		}
	}
	w.mustPost(w.transport(nil))
	w.mustPost(w.transport(func(c *Config) { c.NonInteractive = true }))
	if got := w.as.Stats(); got.Authorizations != 2 || got.Refreshes != 1 {
		t.Errorf("server was asked %+v", got)
	}
}

// Accounts are kept apart, and of five processes that rotate one refresh token at once,
// again and again, none spends it twice and none loses it.
func TestRotatedRefreshTokenIsNeverLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPost(w.transport(func(c *Config) { c.Scope = "read" }))
	for _, other := range []func(*Config){
		func(c *Config) { c.Upstream = w.upstream.JoinPath("other") },
		func(c *Config) { c.Resource = w.upstream.String() },
		func(c *Config) { c.Scope = "read write" },
		func(c *Config) { c.Realm = "second direct" },
	} {
		if got := w.transport(other).account.rec.Token.Access; got != "" {
			t.Error("another account's token is used")
		}
	}
	const rounds = 6
	for round := range rounds {
		w.advance(2 * time.Hour)
		var wg sync.WaitGroup
		for range 5 {
			s, err := tokenstore.Open(w.dir+"/state", w.dir+"/config", tokenstore.Keyring{}, w.logger())
			if err != nil {
				t.Fatal(err)
			}
			tr := w.transport(func(c *Config) { c.Store, c.NonInteractive = s, true })
			wg.Go(func() {
				if status, err := w.post(tr, fmt.Sprint(round)); err != nil || status != http.StatusOK {
					t.Errorf("got status %d, error %v", status, err)
				}
			})
		}
		wg.Wait()
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: rounds})
	if temps, _ := filepath.Glob(w.dir + "/state/*" + ".tmp-" + "*"); len(temps) != 0 {
		t.Errorf("temporary files are left: %q", temps)
	}
}

// endsOrStays are answers to a refresh, and whether they end the refresh token.
var endsOrStays = []struct {
	name   string
	status int
	body   string
	ends   bool
}{
	{"invalid_grant", 400, `{"error":"invalid_grant"}`, true},
	{"words of its own", 400, `{"status":"BAD_REFRESH_TOKEN"}`, true},
	{"error is an object", 400, `{"error":{"code":7}}`, true},
	{"array", 401, `[{"errorCode":"INVALID_SESSION_ID"}]`, true},
	{"empty", 401, ``, true},
	{"text", 403, `forbidden`, true},
	{"401 server_error", 401, `{"error":"server_error"}`, true},
	{"gone", 410, `gone`, true},
	{"invalid_client", 401, `{"error":"invalid_client"}`, true},
	{"200 with an error", 200, `{"error":"invalid_grant"}`, true},
	{"odd token_type", 200, `{"access_token":"a","token_type":"mac"}`, true},
	{"firewall", 403, "<!DOCTYPE html><html><title>Blocked</title>", false},
	{"timeout", 408, ``, false},
	{"too early", 425, ``, false},
	{"too many", 429, `{"error":"rate_limited"}`, false},
	{"broken", 500, `{"error":"invalid_grant"}`, false},
	{"unavailable", 503, `<html>`, false},
}

func TestAnswersThatEndARefreshToken(t *testing.T) {
	t.Parallel()
	for _, tt := range endsOrStays {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tr := w.transport(nil)
			w.mustPost(tr)
			old := tr.account.rec.Token.Refresh
			w.advance(2 * time.Hour)
			fail := func(tr *Transport) *Transport {
				atServer(tr, func(r *http.Request, form url.Values) *http.Response {
					if form.Get("refresh_token") != old {
						return nil
					}
					return answerOf(r, tt.status, nil, tt.body)
				})
				return tr
			}
			_, err := w.post(fail(w.transport(nil)), "x")
			if tt.ends != (err == nil) {
				t.Errorf("a request gets %v", err)
			}
			if got := w.as.Stats().Authorizations == 2; got != tt.ends {
				t.Errorf("a login followed: %t, want %t", got, tt.ends)
			}
			if tt.ends {
				return
			}
			again := fail(w.transport(nil))
			if got := again.account.rec.Token.Refresh; got != old {
				t.Error("the refresh token is gone")
			}
			// What the person asks for ends with a login all the same.
			if err := again.SignIn(t.Context()); err != nil {
				t.Error(err)
			}
			w.mustPost(again)
		})
	}
}

// A configured client that is wrong at the refresh keeps nobody out.
func TestConfiguredClientRefusedAtRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.AddClient(oauthtest.Client{ID: "me", Secret: "s", RedirectURIs: []string{"http://127.0.0.1:0/callback"}})
	me := func(c *Config) {
		c.Client.ID, c.Client.Secret = "me", "s"
		c.Callback.Listen = func(ctx context.Context, _ string) (net.Listener, error) {
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err == nil {
				w.as.AddClient(oauthtest.Client{ID: "me", Secret: "s", RedirectURIs: []string{"http://" + ln.Addr().String() + "/callback"}})
			}
			return ln, err
		}
	}
	w.mustPost(w.transport(me))
	w.advance(2 * time.Hour)
	refuse := func(tr *Transport) *Transport {
		atServer(tr, func(r *http.Request, form url.Values) *http.Response {
			if form.Get("grant_type") != "refresh_token" {
				return nil
			}
			return answerOf(r, 401, nil, `{"error":"invalid_client"}`)
		})
		return tr
	}
	_, err := w.post(refuse(w.transport(func(c *Config) { me(c); c.NonInteractive = true })), "x")
	if e, ok := errors.AsType[*LoginRequiredError](err); !ok || e.Err == nil {
		t.Errorf("without a person: got %v, want LoginRequiredError with its cause", err)
	}
	tr := refuse(w.transport(me))
	if err := tr.SignIn(t.Context()); err != nil {
		t.Errorf("SignIn: %v", err)
	}
	w.mustPost(tr)
	if got := w.as.Stats().Authorizations; got != 2 {
		t.Errorf("got %d logins", got)
	}
}

// The resource parameter is left out of a refresh that was refused because of it, from then on.
func TestRefreshWithoutResource(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"invalid_target":  `{"error":"invalid_target"}`,
		"invalid_request": `{"error":"invalid_request","error_description":"unknown parameter"}`,
		"no OAuth error":  `{"message":"unexpected argument"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var mu sync.Mutex
			var asked []string
			rigid := func(tr *Transport) *Transport {
				atServer(tr, func(r *http.Request, form url.Values) *http.Response {
					if form.Get("grant_type") != "refresh_token" {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					asked = append(asked, form.Get("resource"))
					if form.Has("resource") {
						return answerOf(r, 400, nil, answer)
					}
					return nil
				})
				return tr
			}
			w.mustPost(rigid(w.transport(nil)))
			for range 2 {
				w.advance(2 * time.Hour)
				w.mustPost(rigid(w.transport(nil)))
			}
			if want := []string{w.upstream.String(), "", ""}; !slices.Equal(asked, want) {
				t.Errorf("refreshes had the resources %q, want %q", asked, want)
			}
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 2})
		})
	}
}

// A refresh that is refused ahead of expiry is tried once, and again when the token has expired.
func TestEarlyRefusalKeepsBothTokens(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		early func(w *world)
		want  int // refreshes asked for until the expiry
	}{
		{"ahead", func(w *world) { w.advance(time.Hour - 20*time.Second) }, 1},
		{"not due", func(*world) {}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tr := w.transport(nil)
			w.mustPost(tr)
			expiry := tr.account.rec.Token.Expiry
			asked := 0
			guard := func(tr *Transport) *Transport {
				atServer(tr, func(r *http.Request, form url.Values) *http.Response {
					if form.Get("grant_type") != "refresh_token" || !w.clock().Before(expiry) {
						return nil
					}
					asked++
					return answerOf(r, 400, nil, `{"error":"invalid_grant","error_description":"access token still valid"}`)
				})
				return tr
			}
			tt.early(w)
			for range 3 {
				w.mustPost(guard(tr))
			}
			w.mustPost(guard(w.transport(nil))) // nor does another process ask
			if asked != tt.want {
				t.Errorf("asked %d times, want %d", asked, tt.want)
			}
			w.advance(time.Hour)
			w.mustPost(guard(tr))
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
		})
	}
}

// A refresh ahead of expiry that fails for the moment is not repeated with each request.
func TestFailedEarlyRefreshPauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.Set(func(k *oauthtest.Knobs) { k.TokenStatus = 503 })
	w.advance(time.Hour - 25*time.Second)
	for range 5 {
		w.mustPost(tr)
	}
	if got := w.as.Stats().Refreshes; got != 1 {
		t.Errorf("got %d refreshes, want 1", got)
	}
	w.advance(earlyPause)
	w.mustPost(tr)
	if got := w.as.Stats().Refreshes; got != 2 {
		t.Errorf("after the pause: got %d refreshes, want 2", got)
	}
}

// A record that is of no use is no obstacle.
func TestUselessRecordIsNoObstacle(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(record string) string{
		"broken":        func(s string) string { return s[:len(s)/2] },
		"null":          func(string) string { return "null" },
		"list":          func(string) string { return "[]" },
		"other schema":  func(s string) string { return strings.Replace(s, `"token":{`, `"token":7,"x":{`, 1) },
		"no server":     func(s string) string { return strings.Replace(s, `"server":{`, `"y":{`, 1) },
		"no endpoint":   func(s string) string { return strings.Replace(s, `"token_endpoint"`, `"y"`, 1) },
		"odd expiry":    func(s string) string { return strings.Replace(s, `"expiry":"`, `"expiry":"x`, 1) },
		"odd proof key": func(s string) string { return strings.Replace(s, `"token":{`, `"proof_key":"x","token":{`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tr := w.transport(nil)
			w.mustPost(tr)
			b, err := w.store.Load(tr.account.key)
			if err != nil {
				t.Fatal(err)
			}
			changed := change(string(b))
			if changed == string(b) {
				t.Fatal("the record has no such text")
			}
			if err := w.store.Save(tr.account.key, []byte(changed)); err != nil {
				t.Fatal(err)
			}
			w.advance(2 * time.Hour)
			again := w.transport(nil)
			if err := again.SignIn(t.Context()); err != nil {
				t.Error(err)
			}
			w.mustPost(again)
		})
	}
}

// A refresh token ends after answers that say nothing, if there are three of them over 30 seconds.
func TestUndecidedAnswersEndARefreshToken(t *testing.T) {
	t.Parallel()
	nothing := oauthtest.Rule{At: oauthtest.Refresh, Status: 200, Body: `{}`}
	for _, tt := range []struct {
		name  string
		rule  oauthtest.Rule
		every time.Duration
		calls string // which are served
		pages int
	}{
		{"three over 30 seconds", nothing, 15 * time.Second, "no no yes", 1},
		{"many in a short time", nothing, 4 * time.Second, "no no no no no no no no yes", 1},
		{"healed before", oauthtest.Rule{At: oauthtest.Refresh, Status: 204, Times: 2}, 20 * time.Second, "no no yes", 0},
		{"a gateway's page", oauthtest.Rule{At: oauthtest.Refresh, Status: 200, Type: "text/html", Body: "<html>log in</html>"},
			time.Hour, "no no no no no", 0},
		{"a proxy", oauthtest.Rule{At: oauthtest.Refresh, Status: 407}, time.Hour, "no no no no no", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newField(t, oauthtest.Home{})
				defer f.net.Close()
				tr := f.transport(nil)
				if err := f.call(tr); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				f.as.Play(tt.rule)
				before := f.pages()
				var calls []string
				for range strings.Fields(tt.calls) {
					tr.Close() // what was counted outlives the process
					tr = f.transport(nil)
					served := "yes"
					if f.call(tr) != nil {
						served = "no"
					}
					calls = append(calls, served)
					time.Sleep(tt.every)
				}
				tr.Close()
				if got := strings.Join(calls, " "); got != tt.calls || f.pages()-before != tt.pages {
					t.Errorf("served %s with %d pages, want %s with %d", got, f.pages()-before, tt.calls, tt.pages)
				}
			})
		})
	}
}

// Where the old server is gone and the upstream names another, the next call leads to a login
// there. A server that is only away stays the account's own.
func TestUpstreamMovedToAnotherServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		moved bool
		rule  oauthtest.Rule
	}{
		{"moved, and the old one is gone", true, oauthtest.Rule{Reset: true}},
		{"moved, and the old one answers 502", true, oauthtest.Rule{Status: 502}},
		{"the old one is away", false, oauthtest.Rule{Status: 502}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tr := w.transport(nil)
			w.mustPost(tr)
			w.advance(2 * time.Hour)
			w.as.Play(tt.rule)
			other := w.secondServer(nil)
			if !tt.moved {
				tt.rule.At = oauthtest.Refresh
				w.as.Play(tt.rule)
				if _, err := w.post(tr, "x"); err == nil || w.as.Stats().Authorizations != 1 {
					t.Errorf("got %v, %d login pages", err, w.as.Stats().Authorizations)
				}
				return
			}
			w.mustPost(naming(tr, other))
			if got := other.Stats().Authorizations; got != 1 {
				t.Errorf("%d logins at the other server", got)
			}
		})
	}
}

// A person who logs in at a terminal gets a page, however the refresh of an old token fails.
func TestLoginAtTerminalAfterAFailedRefresh(t *testing.T) {
	t.Parallel()
	for _, rule := range []oauthtest.Rule{
		{Status: 403, Type: "text/html", Body: "<html>blocked</html>"}, {Reset: true}, {Delay: time.Hour}, {Status: 500}, {Status: 200, Body: "{}"},
	} {
		t.Run(fmt.Sprintf("%+v", rule), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newField(t, oauthtest.Home{})
				tr := f.transport(nil)
				if err := f.call(tr); err != nil {
					t.Fatal(err)
				}
				tr.Close()
				f.as.RevokeAccess()
				rule.At = oauthtest.Refresh
				f.as.Play(rule)
				tr = f.transport(func(c *Config) { c.AtTerminal = true })
				if err := tr.SignIn(t.Context()); err != nil { // the token has not expired
					t.Error(err)
				}
				if err := f.call(tr); err != nil || f.pages() != 2 {
					t.Errorf("got %v, %d login pages", err, f.pages())
				}
				tr.Close()
				f.net.Close()
			})
		})
	}
}
