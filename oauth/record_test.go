package oauth

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// A running process does not bring back what a logout of another has forgotten.
func TestLogoutElsewhereIsNotUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoRevocation = true }) // the server would still refresh
	running := w.transport(nil)
	w.mustPost(running)
	if err := w.transport(nil).SignOut(t.Context(), false); err != nil {
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

// Tokens that were not revoked are kept, so that the sign-out can be tried again, unless the person
// insists.
func TestFailedRevocationKeepsTheTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	tunnel := errors.New("hop bastion is down")
	tr.as.Other = roundTripper(func(*http.Request) (*http.Response, error) { return nil, tunnel })
	for _, force := range []bool{false, true} {
		err := tr.SignOut(t.Context(), force)
		if e, ok := errors.AsType[*RevocationError](err); !ok || e.Kept == force || !errors.Is(err, tunnel) {
			t.Errorf("force %t: got %v", force, err)
		}
		list, err := Accounts(w.store)
		if got := len(list) == 1 && list[0].Refreshable; got == force || err != nil {
			t.Errorf("force %t: the store holds %+v, %v", force, list, err)
		}
	}
}

func TestFailedRevocationIsTheCallersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	tunnel := errors.New("hop bastion is down")
	tr.as.Other = roundTripper(func(*http.Request) (*http.Response, error) { return nil, tunnel })
	if err := tr.SignOut(t.Context(), false); !errors.Is(err, tunnel) {
		t.Errorf("got %v", err)
	}
	if s, _ := tr.State(); s.Err != nil {
		t.Errorf("State tells of %v", s.Err)
	}
}

// The store in testdata was written by a release that had neither asclient nor tokenstore, after a
// login with DPoP. People have such stores, so they must stay readable.
func TestStoreOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/store")); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"state": 0o700, "state/*": 0o600, "config": 0o700, "config/*": 0o600} {
		files, _ := filepath.Glob(filepath.Join(dir, name))
		for _, file := range files {
			if err := os.Chmod(file, mode); err != nil { // a repository does not keep it
				t.Fatal(err)
			}
		}
	}
	store, err := tokenstore.Open(dir+"/state", dir+"/config", tokenstore.Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	upstream := &url.URL{Scheme: "http", Host: "127.0.0.1:42253", Path: "/mcp"}
	var token, proof, form string
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		if r.URL.Path == "/token" {
			b, err := io.ReadAll(r.Body)
			form = string(b)
			io.WriteString(rec, `{"access_token":"new","token_type":"DPoP"}`)
			return rec.Result(), err
		}
		token, proof = r.Header.Get("Authorization"), r.Header.Get("DPoP")
		return rec.Result(), nil
	})
	tr, err := New(Config{Upstream: upstream, Realm: "default direct", Base: base, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	send := func(now time.Time) {
		t.Helper()
		tr.cfg.now = func() time.Time { return now }
		resp, err := tr.RoundTrip(httptest.NewRequest(http.MethodGet, upstream.String(), nil))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("got %v, error %v", resp, err)
		}
	}
	written := time.Date(2026, 11, 28, 22, 8, 3, 0, time.UTC)
	send(written.Add(time.Minute))
	if token != "DPoP at-4KHWDVQMJ4GWVCBLSKHECTYBB7" {
		t.Errorf("sent %q", token)
	}
	header, _, _ := strings.Cut(proof, ".")
	if b, err := base64.RawURLEncoding.DecodeString(header); err != nil || !strings.Contains(string(b), "7IX6oKguennrFsULEmYxpM3-BXcq5ANZH57PrIVkEhk") {
		t.Errorf("the proof is by the key %s (%v)", b, err)
	}
	send(written.Add(2 * time.Hour))
	want := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"rt-EUALPBEQKJW7MT5PPYTEJJ3YJQ"},
		"client_id": {"client-B3JPKX7UK7BDOJAALM2FCAPNCV"}, "resource": {upstream.String()}}
	if form != want.Encode() || token != "DPoP new" {
		t.Errorf("refreshed with %s, then sent %q", form, token)
	}
}
