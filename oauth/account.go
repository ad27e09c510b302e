package oauth

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"sallyport/oauth/tokenstore"
)

// Account is what a store knows about one account at one upstream, or at one identity provider. It
// holds no secret.
type Account struct {
	// Upstream is the URL of the upstream, or the identity provider's issuer.
	Upstream string `json:"upstream"`
	// IdentityProvider says that the account is at an identity provider (GrantEnterpriseManaged).
	// The token is then an ID token.
	IdentityProvider bool `json:"identity_provider,omitempty"`
	// UsedBy lists the upstreams, without their queries, that got tokens by this account at an
	// identity provider. They are of all processes.
	UsedBy []string `json:"used_by,omitempty"`
	// Realm is that of the Config.
	Realm string `json:"realm,omitempty"`
	// Issuer is the authorization server. It is empty for endpoints that the Config gave.
	Issuer string `json:"issuer,omitempty"`
	// Name is how the server named the person. It is empty if the server did not.
	Name string `json:"account,omitempty"`
	// Scopes are those that were granted.
	Scopes []string `json:"scopes,omitempty"`
	// Expiry is when the access token expires. It is zero if the server did not say.
	Expiry time.Time `json:"expiry,omitzero"`
	// SignedIn says that there is an access token, and Refreshable that there is a refresh token.
	SignedIn    bool `json:"signed_in"`
	Refreshable bool `json:"refreshable"`
	// Refreshed is when a refresh last brought a token. It is zero if none has since the sign-in.
	Refreshed time.Time `json:"refreshed,omitzero"`
	// Registered says that a client was registered for this account (RFC 7591).
	Registered bool `json:"registered"`
	// Problem says how the server refused the last refresh token, in words for people. It is empty
	// while there is a token.
	Problem string `json:"problem,omitempty"`
	// Saved is when the record was last written.
	Saved time.Time `json:"saved,omitzero"`
	// Remark is that of the Config that signed in. It is nil if there was none.
	Remark json.RawMessage `json:"-"`
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

// account returns what may be shown of r.
func (r record) account() Account {
	scopes := strings.Fields(r.Token.Scope)
	if len(scopes) == 0 {
		scopes = r.Asked
	}
	problem := r.Ended
	if r.Token.Access != "" {
		problem = ""
	}
	return Account{
		Upstream: r.Upstream, IdentityProvider: r.Provider != nil, UsedBy: r.Provider.upstreams(), Realm: r.Realm,
		Issuer: r.Server.Issuer, Name: r.Token.Account, Scopes: scopes, Expiry: r.Token.Expiry, Saved: r.Saved, Problem: problem,
		SignedIn: r.Token.Access != "", Refreshable: r.Token.Refresh != "", Registered: r.Client.Registered,
		Refreshed: r.RefreshedAt, Remark: r.Remark,
	}
}

// Stored returns what the store keeps about the account of t, and a RoundTripper that sends
// requests to the upstream with the stored access token, if there is one, and does nothing else: it
// refreshes nothing and signs nobody in. The caller gets every answer of the upstream. The zero
// Account means that nothing is stored. It is for a look at the account from outside, with a store
// of tokenstore.Look.
func (t *Transport) Stored() (Account, http.RoundTripper) {
	rec, _ := t.account.current()
	return rec.account(), storedTripper{t, rec.Token.Access}
}

// storedTripper is the RoundTripper of Stored.
type storedTripper struct {
	t      *Transport
	access string
}

// RoundTrip implements http.RoundTripper.
func (s storedTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	return s.t.send(req, req.Body, s.access)
}

// Expired reports whether the access token has expired by the wall clock.
func (a Account) Expired(now time.Time) bool { return !a.Expiry.IsZero() && !now.Before(a.Expiry) }
