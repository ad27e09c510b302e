package oauth

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"sallyport/oauth/tokenstore"
)

// Account is what a store knows of one upstream and account. It holds no secret.
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

// Accounts lists the accounts that store keeps on the disk. A record that cannot be read is left
// out, and named in the error, which comes beside the other accounts.
func Accounts(store *tokenstore.Store) ([]Account, error) {
	values, err := store.Values()
	errs := []error{err}
	var list []Account
	for _, b := range values {
		var rec record
		if err := json.Unmarshal(b, &rec); err != nil {
			errs = append(errs, err)
		} else if rec.Upstream != "" {
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
		SignedIn: r.Token.Access != "", Refreshable: r.Token.Refresh != "", Registered: r.Client.Registered, Saved: r.Saved,
	}
}
