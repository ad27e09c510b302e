package oauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// Account is what a Store knows of one upstream and account. It holds no secret.
type Account struct {
	Upstream    string    `json:"upstream"`
	Realm       string    `json:"realm,omitempty"`   // Config.Realm
	Issuer      string    `json:"issuer,omitempty"`  // "" for endpoints given by configuration
	Name        string    `json:"account,omitempty"` // as the server named the person; "" it did not
	Scopes      []string  `json:"scopes,omitempty"`  // granted
	Expiry      time.Time `json:"expiry,omitzero"`   // of the access token; zero: the server did not say
	SignedIn    bool      `json:"signed_in"`         // an access token is there
	Refreshable bool      `json:"refreshable"`       // a refresh token is there
	Registered  bool      `json:"registered"`        // a client was registered for us
	Saved       time.Time `json:"saved,omitzero"`
}

// Accounts lists what is stored on the disk. Files that cannot be read are left out, and
// named in the error, beside the others.
func (s *Store) Accounts() ([]Account, error) {
	if s.dir == "" {
		return nil, s.why()
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var list []Account
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "-"+shortHash("")+sealedSuffix) || !owned.MatchString(e.Name()) {
			continue // not a record: these have a name without a slash
		}
		b, err := s.read(e.Name())
		if errors.Is(err, errDamaged) {
			err = fmt.Errorf("%s: %w", filepath.Join(s.dir, e.Name()), err)
		}
		var rec record
		if err == nil {
			err = json.Unmarshal(b, &rec)
		}
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		case rec.Upstream != "":
			list = append(list, rec.account())
		}
	}
	return list, errors.Join(errs...)
}

func (r record) account() Account {
	scopes := strings.Fields(r.Token.Scope)
	if len(scopes) == 0 {
		scopes = r.Asked
	}
	return Account{
		Upstream: r.Upstream, Realm: r.Realm, Issuer: r.Server.Issuer, Name: r.Token.Account, Scopes: scopes, Expiry: r.Token.Expiry,
		SignedIn: r.Token.Access != "", Refreshable: r.Token.Refresh != "", Registered: r.Client.Dynamic, Saved: r.Saved,
	}
}

// accountOf returns how an ID token names the person; "" if it does not. Its signature
// is not looked at: it came from the token endpoint itself (OpenID Connect Core section
// 3.1.3.7), and is shown, not acted on.
func accountOf(idToken string) string {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return ""
	}
	var claims struct {
		Email    string `json:"email"`
		Username string `json:"preferred_username"`
		Subject  string `json:"sub"`
	}
	if json.Unmarshal(b, &claims) != nil {
		return ""
	}
	for _, name := range []string{claims.Email, claims.Username, claims.Subject} {
		if name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return cut(name)
		}
	}
	return ""
}
