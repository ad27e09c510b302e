package asclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	maxRedirects = 5                // of one metadata request
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
	// the upstream names. Empty follows the upstream.
	Issuer string
	// Certificate says that Base and Other present a TLS client certificate (RFC 8705).
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

// web sends a Client's requests, under the rules on where they may go.
type web struct{ c *Client }

// RoundTrip chooses the RoundTripper anew for each request, so also for each redirect.
func (w web) RoundTrip(req *http.Request) (*http.Response, error) {
	rt := w.c.Other
	if SameOrigin(req.URL, w.c.Upstream) {
		rt = w.c.Base
	}
	if rt == nil {
		rt = http.DefaultTransport
	}
	return rt.RoundTrip(req)
}

// allow reports why a URL that a peer named is not requested. Metadata must not make us send
// cleartext, not even on this machine unless the upstream is on this machine too. It may name https
// services of this machine.
func (w web) allow(u *url.URL) error {
	upstream := w.c.Upstream
	cleartext := w.c.AllowHTTP || IsLoopback(upstream.Hostname()) && IsLoopback(u.Hostname())
	scheme := u.Scheme == "https" || u.Scheme == "http" && cleartext
	if u.Host != "" && u.User == nil && (scheme || SameOrigin(u, upstream)) {
		return nil
	}
	return fmt.Errorf("%s is not an https URL", Quote(WithoutQuery(u)))
}

// getJSON fetches a metadata document into v. The status is 0 if no answer came. The error says why
// no answer came, or why an answer of status 200 is of no use.
func (w web) getJSON(ctx context.Context, rawURL string, v any) (status int, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return 0, errors.New("malformed URL")
	}
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, errors.New("malformed URL")
	}
	req.Header.Set("Accept", "application/json")
	client := http.Client{Transport: w, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return w.allow(req.URL)
	}}
	resp, err := client.Do(req)
	if err != nil {
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err // url.Error names the URL with its query
		}
		return 0, fmt.Errorf("GET %s: %w", WithoutQuery(u), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	body, err := readReply(resp)
	if err != nil {
		return 0, fmt.Errorf("GET %s: %w", WithoutQuery(u), err)
	}
	if json.Unmarshal(body, v) != nil {
		return resp.StatusCode, errors.New("not such a JSON document")
	}
	return resp.StatusCode, nil
}

// answer is what an authorization server answered.
type answer struct {
	// status is 0 if no answer came.
	status int
	header http.Header
	body   []byte
}

// grants reports whether the answer is a success, and reads it into v.
func (a answer) grants(v any) bool {
	return a.status/100 == 2 && json.Unmarshal(a.body, v) == nil
}

func errMalformed(endpoint string) error {
	return fmt.Errorf("malformed endpoint URL %s", Quote(endpoint))
}

// post sends a body and returns the answer. It never follows a redirect: a secret goes to the
// endpoint or nowhere.
func (w web) post(ctx context.Context, rawURL string, h http.Header, body string) (a answer, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return a, errMalformed(rawURL)
	}
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		return a, errMalformed(WithoutQuery(u))
	}
	req.Header = h
	req.Header.Set("Accept", "application/json")
	resp, err := w.RoundTrip(req)
	if err != nil {
		return a, fmt.Errorf("POST %s: %w", WithoutQuery(u), err)
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.body, err = readReply(resp); err != nil {
		return a, fmt.Errorf("POST %s: %w", WithoutQuery(u), err)
	}
	return a, nil
}

func readReply(resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(b) > maxReply {
		err = fmt.Errorf("answer of more than %d bytes", maxReply)
	}
	return b, err
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
	if err := q.authenticate(h, c.SecretMethod, c.now()); err != nil {
		return a, nil, err
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err = web{c}.post(ctx, q.endpoint, h, q.form.Encode())
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
		if !form.Has(name) && !reserved(name) {
			form.Set(name, value)
		}
	}
}

// reserved reports whether ExtraParams cannot set a parameter, in any request.
func reserved(name string) bool {
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
