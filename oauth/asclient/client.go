package asclient

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	maxReply     = 1 << 20          // bytes of one answer
	replyTimeout = 30 * time.Second // of one request
	maxRedirects = 5                // of one metadata request or registration
)

// Client sends requests to authorization servers on behalf of one upstream. Set its fields before
// the first call; after that its methods may be called concurrently. It needs no Close.
//
// Every method ends with its context, and each request within 30 seconds. Errors are *SignInError
// and *DiscoveryError; what a RoundTripper returned is found beneath with errors.As.
type Client struct {
	// Upstream is the MCP endpoint that tokens are for. It must be set.
	Upstream *url.URL
	// Base sends requests to the upstream's origin, and Other those to every other origin. A nil
	// RoundTripper is http.DefaultTransport.
	Base, Other http.RoundTripper
	// AllowHTTP allows cleartext to every host. Otherwise a URL that a peer names must be https, be
	// at the upstream's own origin, or be on loopback if the upstream is on loopback.
	AllowHTTP bool
	// SecretMethod is AuthBasic or AuthPost for a client with a secret. Empty leaves it to what was
	// registered and to the server's metadata.
	SecretMethod string
	// Issuer is the authorization server that the person vouches for. Its metadata counts, whatever
	// the upstream names and whatever issuer that metadata names. Empty follows the upstream.
	Issuer string
	// ResourceGiven says that the person named the resource, or wants none named. Then resource
	// metadata of another resource is used for all but its name.
	ResourceGiven bool
	// Certificate says that Base and Other present a TLS client certificate (RFC 8705). Then the
	// endpoints for such clients are used where the metadata has any.
	Certificate bool
	// BearerID makes the ID token (OpenID Connect Core section 2) stand for the access token: it
	// becomes Token.Access, and its own lifetime becomes Token.Expiry.
	BearerID bool
	// ExtraParams are added to authorization, device and token requests. They never replace a
	// parameter that this package sets.
	ExtraParams map[string]string
	// AuthorizeParams are added to authorization requests alone, under the rule of ExtraParams.
	AuthorizeParams map[string]string
	// Now returns the time. Nil is the system's wall clock.
	Now func() time.Time
	// Log receives a line for each metadata request and each registration. Nil discards.
	Log *slog.Logger

	// nonces has the last DPoP nonce of each origin. Keys and values are strings.
	nonces sync.Map
}

// now returns the wall clock's time, without a monotonic reading: expiry is stored, and a computer
// may sleep.
func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now().Round(0)
}

func (c *Client) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}

// call is one request to an endpoint of a server, with the client's authentication.
type call struct {
	// stage is where the sign-in stands, for errors.
	stage string
	// endpoint is the URL to post to.
	endpoint string
	server   Server
	who      Credentials
	form     url.Values
}

// send authenticates the client and posts the form. With a key for proofs it adds one, and sends
// the same request again if the server only asks for another nonce (RFC 9449 section 8).
func (c *Client) send(ctx context.Context, q call) (answer, error) {
	for try := 0; ; try++ {
		a, u, err := c.sendOnce(ctx, q)
		if err != nil {
			return a, &SignInError{Stage: q.stage, Server: q.server.Name(), Status: a.status, Err: err}
		}
		if q.who.ProofKey == nil {
			return a, nil
		}
		if fresh := c.KeepNonce(u, a.header); !fresh || try == MaxNonceReplays || a.fault().code != needsNonce {
			return a, nil
		}
	}
}

func (c *Client) sendOnce(ctx context.Context, q call) (a answer, u *url.URL, err error) {
	if u, err = url.Parse(q.endpoint); err != nil {
		return a, nil, errMalformed(q.endpoint)
	}
	h := make(http.Header)
	if q.who.ProofKey != nil {
		proof, err := c.Proof(q.who.ProofKey, http.MethodPost, u, "")
		if err != nil {
			return a, nil, err
		}
		h.Set("DPoP", proof)
	}
	if err := q.authenticate(h, c); err != nil {
		return a, nil, err
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	if a, err = (web{c}).post(ctx, q.endpoint, h, q.form.Encode()); err != nil {
		err = veil(err, q.secrets())
	}
	return a, u, err
}

// refusal makes the error of an answer that grants nothing.
func (q call) refusal(a answer) *SignInError {
	return refusal(q.stage, q.endpoint, a, q.secrets())
}

// secrets lists what the request holds that its answer may echo.
func (q call) secrets() []string {
	id, secret := q.who.ID, q.who.Secret
	list := []string{secret}
	if secret != "" { // the Authorization field holds both
		list = append(list, id+":"+secret, url.QueryEscape(id)+":"+url.QueryEscape(secret))
	}
	for _, name := range []string{"state", "code", "code_verifier", "refresh_token", "token", "client_secret",
		"client_assertion", "assertion", "subject_token", "device_code"} {
		list = append(list, q.form.Get(name))
	}
	return list
}

// addExtra adds the configured parameters to a request.
func addExtra(form url.Values, extra map[string]string) {
	for name, value := range extra {
		if !form.Has(name) && !Reserved(name) {
			form.Set(name, value)
		}
	}
}

// Reserved reports whether ExtraParams and AuthorizeParams cannot set a parameter, in any request.
func Reserved(name string) bool {
	switch name {
	case "response_type", "client_id", "client_secret", "redirect_uri", "request_uri", "state", "code",
		"code_challenge", "code_challenge_method", "code_verifier", "grant_type", "refresh_token",
		"client_assertion", "client_assertion_type", "assertion", "device_code", "dpop_jkt":
		return true
	}
	return false
}

// setIf sets a parameter unless the value is empty.
func setIf(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

// Wanted is what a token is to be good for.
type Wanted struct {
	// Scopes may be empty: then the server decides.
	Scopes []string
	// Resource is the identifier of the resource (RFC 8707). Empty sends none.
	Resource string
	// Audience is a parameter that some servers want in place of Resource. Empty sends none.
	Audience string
}

// setOn adds w's parameters to a request.
func (w Wanted) setOn(form url.Values) {
	setIf(form, "scope", strings.Join(w.Scopes, " "))
	setIf(form, "resource", w.Resource)
	setIf(form, "audience", w.Audience)
}
