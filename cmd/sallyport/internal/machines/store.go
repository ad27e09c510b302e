//go:build linux

package machines

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"sallyport/oauth"
	"sallyport/oauth/tokenstore"
)

// Record is what the token store of a home directory keeps about one account.
type Record struct {
	store *tokenstore.Store
	key   string
	value map[string]any
}

// OpenRecord opens the record of an upstream that was signed in to. The realm is the profile and
// the route, as sallyport writes them: "default direct".
func OpenRecord(t testing.TB, home, upstream, realm string) *Record {
	t.Helper()
	store := openStore(t, home)
	config := &oauth.Config{Upstream: ParseURL(t, upstream), Realm: realm}
	r := &Record{store: store, key: config.Key()}
	text, err := store.Load(r.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r.value); err != nil {
		t.Fatal(err)
	}
	return r
}

func openStore(t testing.TB, home string) *tokenstore.Store {
	t.Helper()
	store, err := tokenstore.Open(filepath.Join(home, ".local/state/sallyport"), filepath.Join(home, ".config/sallyport"),
		tokenstore.Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// ProviderTokens returns the tokens of the only sign-in at an identity provider: the ID token and
// the refresh token.
func ProviderTokens(t testing.TB, home string) []string {
	t.Helper()
	values, err := openStore(t, home).Values()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range values {
		r := &Record{}
		if err := json.Unmarshal(text, &r.value); err != nil {
			t.Fatal(err)
		}
		if r.value["identity_provider"] != nil {
			return r.Tokens(t)
		}
	}
	t.Fatalf("no sign-in at an identity provider among %d records", len(values))
	return nil
}

func (r *Record) token(t testing.TB) map[string]any {
	t.Helper()
	token, ok := r.value["token"].(map[string]any)
	if !ok || token["access"] == "" || token["refresh"] == "" {
		t.Fatalf("no tokens in the record %v", r.value)
	}
	return token
}

// Tokens returns the access token and the refresh token.
func (r *Record) Tokens(t testing.TB) []string {
	t.Helper()
	token := r.token(t)
	access, _ := token["access"].(string)
	refresh, _ := token["refresh"].(string)
	if access == "" || refresh == "" {
		t.Fatalf("the record's token is %v", token)
	}
	return []string{access, refresh}
}

// Expire makes the stored access token look old.
func (r *Record) Expire(t testing.TB) {
	t.Helper()
	token := r.token(t)
	token["obtained"], token["expiry"] = "2020-01-01T00:00:00Z", "2020-01-01T00:10:00Z"
	text, err := json.Marshal(r.value)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.store.Save(r.key, text); err != nil {
		t.Fatal(err)
	}
}
