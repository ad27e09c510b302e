package asclient

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Registration is a client that was registered dynamically (RFC 7591).
type Registration struct {
	Credentials
	// RedirectURIs are those that the client was registered for. The device grant has none.
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	// Expires is when the secret expires, in seconds since 1970. It is 0 if it never does.
	Expires int64 `json:"expires,omitempty"`
	// Scopes are those that the client was registered for. Some servers let it ask for no others.
	// Nil means that none were named.
	Scopes []string `json:"scopes,omitempty"`

	// Granted are the redirect URIs that the server's answer lists. Nil means that it lists none.
	Granted []string `json:"-"`
}

// Fits reports whether the client can be used now for a login with that redirect URI, which is
// empty for the device grant.
func (r Registration) Fits(redirect string, now time.Time) bool {
	if r.Expires != 0 && !now.Before(time.Unix(r.Expires, 0)) {
		return false
	}
	return redirect == "" && len(r.RedirectURIs) == 0 || slices.Contains(r.RedirectURIs, redirect)
}

// Covers reports whether the client was registered for all of the scopes, or for none by name.
func (r Registration) Covers(scopes []string) bool {
	return r.Scopes == nil || !slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(r.Scopes, s) })
}

// Application is what is registered as a client.
type Application struct {
	// Name is shown to the person who is asked for consent.
	Name string
	// Redirects are all redirect URIs that the client may use, the first one first. Without any,
	// the client is for the device grant alone.
	Redirects []string
	// Scopes are all scopes that the client will ask for. Nil names none.
	Scopes []string
	// Device says that the client is to use the device grant beside its redirect URIs.
	Device bool
}

// Register registers a client at f's server (RFC 7591 section 3.1).
//
// Some servers refuse members that they do not like, or crash at them. Then the request is sent
// once more without those that the server objects to, or with what a good registration needs if its
// words name none. If that is refused as well, it is sent with still less: in the end, with the
// name and the first redirect URI alone. A server that may not like the device grant beside another
// one first gets the same request without it.
//
// A server without a registration endpoint, and one that registers nobody without its operator, is
// refused with CodeNoClient. One that does not take the redirect URI is refused with
// CodeRedirectURI.
func (c *Client) Register(ctx context.Context, f Finding, app Application) (Registration, error) {
	s := f.Server
	if s.RegistrationEndpoint == "" {
		return Registration{}, &SignInError{Stage: StageRegister, Server: s.Name(), Code: CodeNoClient, Refused: true,
			Description: "the server offers no dynamic registration and no client ID is given"}
	}
	if err := (requester{c}).usable(StageRegister, s, s.RegistrationEndpoint); err != nil {
		return Registration{}, err
	}
	q := fullRegistration(c, s, app)
	waited := new(pauses)
	r, err := c.register(ctx, s, q, waited)
	for try := 2; err != nil && try <= maxRegistrations; {
		leaner, ok := q.leanerAfter(err, try == maxRegistrations)
		if !ok {
			break
		}
		if leaner.beside == q.beside { // otherwise it is the first try of a request without that
			try++
		}
		c.log().Info("registration is tried with less", "host", hostOf(s.RegistrationEndpoint), "err", err)
		q = leaner
		r, err = c.register(ctx, s, q, waited)
	}
	if err != nil && s.Source == FromDefaults && err.Err == nil && (err.Code == CodeBadReply || err.Status > 400 && err.Status < 500) {
		tried := append(slices.Clone(f.Tried), Attempt{URL: s.RegistrationEndpoint, Status: err.Status})
		what := "metadata and no registration at the default endpoint of " + s.Name()
		return Registration{}, &DiscoveryError{What: what, Tried: tried}
	}
	if err != nil {
		return Registration{}, named(err)
	}
	c.memory.registered.Store(r.ID, c.now())
	c.log().Info("client registered", "host", hostOf(s.RegistrationEndpoint))
	return r, nil
}

// postRegistration sends one registration, again if the server asks us to come back later, and to
// another path of the same origin if the endpoint has moved there. A registration holds no secret,
// so it follows all redirects that a browser would follow with the same method, or did once. If
// the endpoint was not found there, the answer is the redirect.
func (w requester) postRegistration(ctx context.Context, s Server, q registration, waited *pauses) (a answer, err error) {
	var redirect answer
	for endpoint, moves := s.RegistrationEndpoint, 0; ; {
		a, err = w.post(ctx, s, endpoint, http.Header{"Content-Type": {"application/json"}}, q.body())
		if err != nil {
			return a, err
		}
		if a.busy {
			again, err := waited.wait(ctx, a.retryAfter)
			if err != nil {
				return a, err
			}
			if again {
				continue
			}
		}
		to, moved := a.movedTo(endpoint, http.StatusMovedPermanently, http.StatusFound)
		switch {
		case moved && moves < maxMoves:
			redirect, endpoint, moves = a, to, moves+1
		case redirect.status != 0 && a.isElsewhere():
			return redirect, nil
		default:
			return a, nil
		}
	}
}

// isElsewhere reports whether the answer to a registration is that of no registration endpoint: a
// page, or a status that says so.
func (a answer) isElsewhere() bool {
	return a.isPage() || a.status/100 == 3 || a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed
}

// register sends one registration and reads the answer.
func (c *Client) register(ctx context.Context, s Server, q registration, waited *pauses) (Registration, *SignInError) {
	a, err := requester{c}.postRegistration(ctx, s, q, waited)
	if err != nil {
		return Registration{}, &SignInError{Stage: StageRegister, Server: s.Name(), Err: err}
	}
	d, ok := a.grants()
	d = d.holding("client_id")
	r := Registration{RedirectURIs: q.redirects, Scopes: q.scopes, Expires: d.moment("client_secret_expires_at"),
		Credentials: Credentials{ID: d.text("client_id"), Secret: d.text("client_secret"), Method: d.text("token_endpoint_auth_method")}}
	if !ok || r.ID == "" {
		return Registration{}, refusal(StageRegister, s.RegistrationEndpoint, a)
	}
	r.Granted = d.list("redirect_uris")
	d.logOdd(c.log(), "the registration")
	return r, nil
}

// moment returns a member that is a time, in seconds since 1970: a number, as text or not, or a
// date. It is 0 if the member is absent or cannot be read. A number of more than eleven digits is
// in milliseconds.
func (d document) moment(name string) int64 {
	text := strings.TrimSpace(d.text(name))
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if n > 1e11 {
			n /= 1000
		}
		if !(n > 0) || n > 1e12 {
			return 0
		}
		return int64(n)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, time.DateOnly, time.RFC1123, time.RFC1123Z} {
		if t, err := time.Parse(layout, text); err == nil {
			return max(t.Unix(), 0)
		}
	}
	if text != "" {
		d.cannotRead(name)
	}
	return 0
}
