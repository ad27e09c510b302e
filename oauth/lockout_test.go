package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

func TestBadStoreIsNeverFatal(t *testing.T) {
	t.Parallel()
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
			if err := spoil(w.recordFile()); err != nil {
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
	t.Parallel()
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
			if e := tr.account.rec.Token.Expiry; e.After(w.clock().Add(101 * year)) {
				t.Errorf("expires %v", e)
			}
		})
	}
}

// The machine slept, or its clock was set: what counts is the wall clock and, where that
// is wrong, the server's 401.
func TestWallClockJumps(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"sleep": 8 * time.Hour, "set back": -48 * time.Hour, "years ahead": 20 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ours := w.clock()
			tr := w.transport(nil)
			tr.cfg.now = func() time.Time { return ours }
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
	if tr, err := New(Config{Upstream: &url.URL{Scheme: "https", Host: "h"}}); err != nil || strings.Contains(tr.cfg.now().String(), "m=") {
		t.Errorf("the clock is monotonic, or %v", err)
	}
}

// A server that knows no client that it registered is not registered at in a loop.
func TestForgetfulServerIsNoLoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	tr.cfg.AuthBase = roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			w.as.ForgetClients()
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	tr.as.Other = tr.cfg.AuthBase
	_, err := w.post(tr, "x")
	if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Code != "invalid_client" || !e.Refused {
		t.Errorf("got %v", err)
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 3}) // not all replicas may know a new client
}
