package oauth

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// These tests are named after the weaknesses of the predecessor, by their numbers.

func TestWeakness01RevokedRefreshTokenLocksNobodyOut(t *testing.T) {
	w := newWorld(t)
	first := w.transport(nil)
	w.mustPost(first)
	old := first.creds.rec.Token.Refresh
	first.Close()
	w.as.RevokeAll()
	for range 2 { // starts that may not ask
		if _, err := w.post(w.transport(func(c *Config) { c.NonInteractive = true }), "x"); err == nil {
			t.Error("a request passed")
		}
		if b, err := w.store.Load(first.creds.key); err != nil || b == nil || strings.Contains(string(b), old) {
			t.Errorf("the store holds %q, %v", b, err)
		}
	}
	w.mustPost(w.transport(nil))
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
	fresh := tr.creds.rec.Token
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
	renewed := tr.creds.rec.Token
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if renewed.Access == fresh.Access || tr.creds.rec.Token != renewed {
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
		if got := w.transport(other).creds.rec.Token.Access; got != "" {
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
