package oauth

import (
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

// A running process does not bring back what a logout of another has forgotten.
func TestLogoutElsewhereIsNotUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoRevocation = true }) // the server would still refresh
	running := w.transport(nil)
	w.mustPost(running)
	if err := w.transport(nil).SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.advance(2 * time.Hour)
	if status, _ := w.inBackground(running); status != http.StatusUnauthorized {
		t.Errorf("got status %d", status)
	}
	if b, err := w.store.Load(running.account.key); b != nil || err != nil {
		t.Errorf("the store holds a record again, error %v", err)
	}
	w.mustPost(running)
	w.wantStats(oauthtest.Stats{Registrations: 2, Authorizations: 2, Codes: 2})
}

// Damage is no logout: what the process knows still holds.
func TestDamagedStoreIsNotALogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	if err := os.Truncate(w.recordFile(), 20); err != nil {
		t.Fatal(err)
	}
	w.advance(2 * time.Hour)
	w.mustPost(tr)
	w.mustPost(w.transport(func(c *Config) { c.NonInteractive = true })) // it is stored anew
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}

func TestFailedRevocationIsTheCallersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	tunnel := errors.New("hop bastion is down")
	tr.as.Other = roundTripper(func(*http.Request) (*http.Response, error) { return nil, tunnel })
	if err := tr.SignOut(t.Context()); !errors.Is(err, tunnel) {
		t.Errorf("got %v", err)
	}
	if s, _ := tr.State(); s.Err != nil {
		t.Errorf("State tells of %v", s.Err)
	}
}
