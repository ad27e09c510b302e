package oauth

import (
	"net/http"
	"time"
)

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
