package oauth

import (
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

// inBackground sends a GET through tr.Background and returns what came back.
func (w *world) inBackground(tr *Transport) (status int, body string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.upstream.String(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := tr.Background().RoundTrip(req)
	if err != nil {
		w.t.Fatalf("background request: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Errorf("body of the answer: %v", err)
	}
	return resp.StatusCode, string(b)
}

func TestBackgroundAddsAndRefreshes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.RevokeAccess()
	if status, body := w.inBackground(tr); status != http.StatusOK || body != "hello" {
		t.Errorf("revoked token: got status %d, body %q", status, body)
	}
	w.advance(2 * time.Hour)
	if status, _ := w.inBackground(tr); status != http.StatusOK {
		t.Errorf("expired token: got status %d", status)
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 2})
}

func TestBackgroundAsksNobody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		happen func(w *world)
		status int
		want   oauthtest.Stats // beyond the first login
	}{
		{"all tokens revoked", func(w *world) { w.as.RevokeAll() }, 401, oauthtest.Stats{Refreshes: 1}},
		{"expired, refresh refused", func(w *world) { w.as.RevokeAll(); w.advance(2 * time.Hour) }, 401, oauthtest.Stats{Refreshes: 1}},
		{"expired, refresh fails", func(w *world) {
			w.as.Set(func(k *oauthtest.Knobs) { k.TokenStatus = 503 })
			w.advance(2 * time.Hour)
		}, 401, oauthtest.Stats{Refreshes: 4}}, // before each request and upon each answer
		{"new token refused", func(w *world) { w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true }) }, 401, oauthtest.Stats{Refreshes: 1}},
		{"more scope needed", func(w *world) { w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "write" }) }, 403, oauthtest.Stats{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tr := w.transport(nil)
			w.mustPost(tr)
			tt.happen(w)
			for range 2 {
				if status, body := w.inBackground(tr); status != tt.status || body == "hello" {
					t.Errorf("got status %d, body %q, want status %d", status, body, tt.status)
				}
			}
			tt.want.Registrations, tt.want.Authorizations, tt.want.Codes = 1, 1, 1
			w.wantStats(tt.want)
			if s, _ := tr.State(); s.Err != nil {
				t.Errorf("State tells of %v", s.Err)
			}
			w.as.Set(func(k *oauthtest.Knobs) { *k = oauthtest.Knobs{} })
			w.mustPost(tr) // a person's request gets through, by a login if it must
		})
	}
}

func TestBackgroundBeforeAnyLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if status, _ := w.inBackground(w.transport(nil)); status != http.StatusUnauthorized {
		t.Errorf("got status %d", status)
	}
	w.wantStats(oauthtest.Stats{})
}

func TestBackgroundDoesNotWaitForThePerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr, p, done := w.beginSignIn(nil)
	if status, _ := w.inBackground(tr); status != http.StatusUnauthorized {
		t.Errorf("got status %d", status)
	}
	w.open(t.Context(), p)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if status, _ := w.inBackground(tr); status != http.StatusOK {
		t.Errorf("after the login: got status %d", status)
	}
}

// A person's request that meets a background one under way still gets its login, once.
func TestBackgroundAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.RevokeAll()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { w.inBackground(tr) })
		wg.Go(func() {
			if status, err := w.post(tr, "x"); err != nil || status != http.StatusOK {
				t.Errorf("got status %d, error %v", status, err)
			}
		})
	}
	wg.Wait()
	if got := w.as.Stats(); got.Authorizations != 2 || got.Refreshes != 1 {
		t.Errorf("server was asked %+v", got)
	}
}
