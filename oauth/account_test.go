package oauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/oauth/tokenstore"
)

func TestPersistError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	if err := tr.PersistError(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(w.dir+"/state", w.dir+"/gone"); err != nil {
		t.Fatal(err)
	}
	w.as.RevokeAccess()
	w.mustPost(tr)
	if err := tr.PersistError(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	memory := w.transport(func(c *Config) { c.Store = nil })
	w.mustPost(memory)
	if err := memory.PersistError(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(w.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken, err := tokenstore.Open(file, w.dir+"/config", tokenstore.Keyring{}, w.logger())
	if err != nil {
		t.Fatal(err)
	}
	tr = w.transport(func(c *Config) { c.Store = broken })
	w.mustPost(tr)
	if err := tr.PersistError(); err == nil {
		t.Error("no word of a store that cannot be opened")
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"42","email":"ada@example.org"}`))
	tr := w.transport(func(c *Config) { c.Scope = "tools" })
	tr.as.Other = roundTripper(func(r *http.Request) (*http.Response, error) {
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
	damaged := filepath.Join(w.dir, "state", strings.Repeat("0", 24)+recordSuffix)
	if err := os.WriteFile(damaged, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := Accounts(w.store)
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

// Stored shows the stored token and does nothing else, whatever the upstream answers.
func TestStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPost(w.transport(nil))
	before := w.as.Stats()
	tr := w.transport(nil)
	account, send := tr.Stored()
	if !account.SignedIn || !account.Refreshable || account.Upstream != w.upstream.String() || account.Expired(account.Saved) {
		t.Errorf("%+v", account)
	}
	post := func(want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := send.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	post(http.StatusOK)
	w.as.RevokeAccess()
	post(http.StatusUnauthorized)
	if got := w.as.Stats(); got.Refreshes != before.Refreshes || got.Authorizations != before.Authorizations {
		t.Errorf("before %+v, after %+v", before, got)
	}
	if !account.Expired(account.Expiry) || (Account{}).Expired(time.Now()) {
		t.Error("Expired is wrong")
	}
}
