package oauth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

// These tests are named after the weaknesses of the predecessor, by their numbers.

func TestWeakness01RevokedRefreshTokenLocksNobodyOut(t *testing.T) {
	w := newWorld(t)
	first := w.transport(nil)
	w.mustPost(first)
	old := first.rec.Token.Refresh
	first.Close()
	w.as.RevokeAll()
	second := w.transport(nil)
	w.mustPost(second)
	b, err := w.store.Load(second.key)
	if err != nil || strings.Contains(string(b), old) || !strings.Contains(string(b), second.rec.Token.Refresh) {
		t.Errorf("the store holds %q, %v", b, err)
	}
	w.mustPost(w.transport(func(c *Config) { c.NonInteractive = true }))
	if got := w.as.Stats(); got.Authorizations != 2 || got.Refreshes != 1 {
		t.Errorf("server was asked %+v", got)
	}
}

func TestWeakness05LoginInMidSession(t *testing.T) {
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

func TestWeakness09LateUnauthorizedLeavesTheNewTokenAlone(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	fresh := tr.rec.Token
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
	renewed := tr.rec.Token
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if renewed.Access == fresh.Access || tr.rec.Token != renewed {
		t.Error("the late 401 cost the new token")
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}

// Accounts are kept apart, and of five processes that rotate one refresh token at once,
// again and again, none spends it twice and none loses it.
func TestWeakness11RotationIsNeverLost(t *testing.T) {
	w := newWorld(t)
	w.mustPost(w.transport(func(c *Config) { c.Scope = "read" }))
	for _, other := range []func(*Config){
		func(c *Config) { c.Upstream = w.upstream.JoinPath("other") },
		func(c *Config) { c.Resource = w.upstream.String() },
		func(c *Config) { c.Scope = "read write" },
		func(c *Config) { c.Realm = "second direct" },
	} {
		if got := w.transport(other).rec.Token.Access; got != "" {
			t.Error("another account's token is used")
		}
	}
	const rounds = 6
	for round := range rounds {
		w.advance(2 * time.Hour)
		var wg sync.WaitGroup
		for range 5 {
			s, err := OpenStore(w.dir+"/state", w.dir+"/config", w.logger())
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
	if temps, _ := filepath.Glob(w.dir + "/state/*" + tempInfix + "*"); len(temps) != 0 {
		t.Errorf("temporary files are left: %q", temps)
	}
}

func TestBadStoreIsNeverFatal(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"truncated": func(f string) error { return os.Truncate(f, 30) },
		"empty":     func(f string) error { return os.Truncate(f, 0) },
		"garbage":   func(f string) error { return os.WriteFile(f, []byte(strings.Repeat("x", 500)), 0o600) },
		"directory": func(f string) error { os.Remove(f); return os.Mkdir(f, 0o700) },
		"link":      func(f string) error { os.Remove(f); return os.Symlink("/etc/passwd", f) },
		"of others": func(f string) error { return os.Chmod(f, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first := w.transport(nil)
			w.mustPost(first)
			first.Close()
			if err := spoil(filepath.Join(w.dir, "state", fileName(first.key))); err != nil {
				t.Fatal(err)
			}
			tr := w.transport(nil)
			w.mustPost(tr)
			w.mustPost(tr)
			if got := w.as.Stats().Authorizations; got != 2 {
				t.Errorf("got %d logins", got)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if got := strings.Count(w.log.String(), "stored token is not used"); got != 1 {
				t.Errorf("warned %d times, want once", got)
			}
		})
	}
}

func TestLifetimesThatServersSend(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name      string
		expiresIn any
		after     time.Duration // of silence, in which the server takes the token
		refreshes int
	}{
		{"negative", -5, 30 * time.Minute, 0},
		{"negative string", "-5", 30 * time.Minute, 0},
		{"huge", 1e300, 50 * time.Minute, 0},
		{"no number", "soon", 30 * time.Minute, 0},
		{"fraction", 3599.5, 3599 * time.Second, 1},
		{"null", nil, 3599 * time.Second, 1}, // oauthtest: the true lifetime
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.ExpiresIn = tt.expiresIn })
			tr := w.transport(nil)
			w.mustPost(tr)
			w.advance(tt.after)
			w.mustPost(tr)
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: tt.refreshes})
			if e := tr.rec.Token.Expiry; e.After(w.clock().Add(101 * year)) {
				t.Errorf("expires %v", e)
			}
		})
	}
}

// The machine slept, or its clock was set: what counts is the wall clock and, where that
// is wrong, the server's 401.
func TestWallClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"sleep": 8 * time.Hour, "set back": -48 * time.Hour, "years ahead": 20 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ours := w.clock()
			tr := w.transport(nil)
			tr.now = func() time.Time { return ours }
			w.mustPost(tr)
			ours = ours.Add(jump)
			w.mustPost(tr)
			w.advance(2 * time.Hour) // now the server does not take it any more
			w.mustPost(tr)
			if got := w.as.Stats(); got.Authorizations != 1 || got.Refreshes < 1 || got.Refreshes > 2 {
				t.Errorf("server was asked %+v", got)
			}
			w.advance(30 * time.Minute)
			w.mustPost(w.transport(nil)) // the next process has its clock right
			if got := w.as.Stats().Authorizations; got != 1 {
				t.Errorf("got %d logins", got)
			}
		})
	}
	if tr, err := New(Config{Upstream: &url.URL{Scheme: "https", Host: "h"}}); err != nil || strings.Contains(tr.now().String(), "m=") {
		t.Errorf("the clock is monotonic, or %v", err)
	}
}

// A server that knows no client that it registered is not registered at in a loop.
func TestForgetfulServerIsNoLoop(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	tr.cfg.AuthBase = roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			w.as.ForgetClients()
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	tr.wire.other = tr.cfg.AuthBase
	_, err := w.post(tr, "x")
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != "invalid_client" || !e.Refused {
		t.Errorf("got %v", err)
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
}

// A login that fails fails for all who wait for it, and asks the person once.
func TestOneRefusalForAll(t *testing.T) {
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
	offered := make(chan Prompt)
	leader := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	errs := make(chan error, 4)
	sign := func(tr *Transport) { go func() { errs <- tr.SignIn(t.Context()) }() } // ends with the login
	sign(leader)
	p := <-offered
	shown := make(chan Prompt, 3)
	for range 3 {
		s, err := OpenStore(w.dir+"/state", w.dir+"/config", w.logger())
		if err != nil {
			t.Fatal(err)
		}
		sign(w.transport(func(c *Config) {
			c.Store, c.Offer = s, func(_ context.Context, p Prompt) { shown <- p }
		}))
	}
	for range 3 {
		if got := <-shown; !got.Elsewhere || got.AuthorizeURL != p.AuthorizeURL {
			t.Errorf("shown is %v, offered was %v", got, p)
		}
	}
	w.open(t.Context(), p)
	for range 4 {
		err := <-errs
		if e, ok := errors.AsType[*SignInError](err); !ok || !e.Refused || e.Code != "access_denied" {
			t.Errorf("got %v", err)
		}
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1})
}

// Whoever stores a good token ends the login that waits.
func TestTokenFromElsewhereEndsTheLogin(t *testing.T) {
	w := newWorld(t)
	elsewhere := w.transport(func(c *Config) { c.Store = nil })
	w.mustPost(elsewhere)
	b, err := elsewhere.cfg.Store.Load(elsewhere.key)
	if err != nil {
		t.Fatal(err)
	}
	offered, withdrawn := make(chan struct{}), make(chan struct{})
	tr := w.transport(func(c *Config) {
		c.Offer = func(ctx context.Context, _ Prompt) { close(offered); <-ctx.Done(); close(withdrawn) }
	})
	done := make(chan error, 1)
	go func() { _, err := w.post(tr, "x"); done <- err }() // ends with the request
	<-offered
	if err := w.store.Save(tr.key, b); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-withdrawn
	if p, err, _ := tr.State(); p != (Prompt{}) || err != nil {
		t.Errorf("State shows %v, %v", p, err)
	}
}

func TestKept(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	if err := tr.Kept(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(w.dir + "/state"); err != nil {
		t.Fatal(err)
	}
	w.as.RevokeAccess()
	w.mustPost(tr)
	if err := tr.Kept(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	memory := w.transport(func(c *Config) { c.Store = nil })
	w.mustPost(memory)
	if err := memory.Kept(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(w.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken, err := OpenStore(file, w.dir+"/config", w.logger())
	if err != nil {
		t.Fatal(err)
	}
	tr = w.transport(func(c *Config) { c.Store = broken })
	w.mustPost(tr)
	if err := tr.Kept(); err == nil {
		t.Error("no word of a store that cannot be opened")
	}
}

func TestAccounts(t *testing.T) {
	w := newWorld(t)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"42","email":"ada@example.org"}`))
	tr := w.transport(func(c *Config) { c.Scope = "tools" })
	tr.wire.other = roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/token") {
			var m map[string]any
			if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
				t.Error(err)
			}
			m["id_token"] = "e30." + claims + ".c2ln"
			b, _ := json.Marshal(m)
			resp.Body = io.NopCloser(bytes.NewReader(b))
		}
		return resp, err
	})
	w.mustPost(tr)
	w.store.Save("foreign", []byte("{}"))
	damaged := filepath.Join(w.dir, "state", fileName("damaged"))
	if err := os.WriteFile(damaged, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := w.store.Accounts()
	if err == nil || !strings.Contains(err.Error(), damaged) || len(list) != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	got := list[0]
	if got.Upstream != w.upstream.String() || got.Realm != "default direct" || got.Issuer != w.as.Issuer || got.Name != "ada@example.org" ||
		!slices.Equal(got.Scopes, []string{"tools"}) || !got.SignedIn || !got.Refreshable || !got.Registered || !got.Expiry.Equal(w.clock().Add(time.Hour)) {
		t.Errorf("got %+v", got)
	}
	b, _ := json.Marshal(list)
	w.noSecrets(string(b))
}

func TestAccountOf(t *testing.T) {
	for claims, want := range map[string]string{
		`{"sub":"1","preferred_username":"ada"}`: "ada",
		`{"sub":"1"}`:                            "1",
		`{"sub":"1","email":"a\u001b[31m"}`:      "1",
		`{"sub":1}`:                              "",
		`[]`:                                     "",
	} {
		if got := accountOf("x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".y"); got != want {
			t.Errorf("%s: got %q, want %q", claims, got, want)
		}
	}
	for _, token := range []string{"", "a.b", "a.!.c", "..", "a.e30.c"} {
		if got := accountOf(token); got != "" {
			t.Errorf("%q: got %q", token, got)
		}
	}
}
