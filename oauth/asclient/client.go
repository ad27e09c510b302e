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
	maxRedirects = 5                // of one metadata request
	maxMoves     = 2                // of one request to an endpoint
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
	// MayOpen reports whether the person's browser may be sent to u, a URL that the server at by
	// names. Nil allows what the rules of this package allow.
	MayOpen func(by, u *url.URL) bool
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

	// memory is what the requests so far have taught.
	memory memory
}

// memory is what a Client remembers of servers.
type memory struct {
	// nonces has the last DPoP nonce of each origin. Keys and values are strings.
	nonces sync.Map
	// ways has the ways to show the client that were right after another one was refused: see
	// learn.
	ways sync.Map
	// noResource has the IDs of the servers that take no resource parameter.
	noResource sync.Map
	// registered has the time at which each client ID was registered here.
	registered sync.Map
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
	// method is how the client shows itself: one of ways.
	method string
	// pauses are those that the request has made so far.
	pauses *pauses
}

// send posts the form, and sends it again as long as retries says that this may help. If it helps,
// that answer is returned. Otherwise it is the first one that does not ask us to come back later.
func (c *Client) send(ctx context.Context, q call) (answer, error) {
	q = q.withoutResource(c)
	q.pauses = new(pauses)
	first, firstErr := c.sendAnyWay(ctx, q)
	a, err := first, firstErr
	for r := new(retries); ctx.Err() == nil; {
		next, pause, ok := r.next(c, q, a, err)
		if ok && pause > 0 {
			var cancelled error
			if ok, cancelled = q.pauses.wait(ctx, pause); cancelled != nil {
				return answer{}, &SignInError{Stage: q.stage, Server: q.server.Name(), Err: cancelled}
			}
		}
		if !ok {
			break
		}
		c.log().Info("the request is sent again", "host", hostOf(q.endpoint), "status", a.status, "err", err)
		later := err != nil || !q.refusal(a).Refused
		left := q.form.Has("resource") && !next.form.Has("resource")
		q = next
		a, err = c.sendAnyWay(ctx, q)
		e := q.refusal(a)
		if spent := e.Code == "invalid_grant"; err == nil && !spent && (later || a.status/100 == 2 && !e.Refused) {
			first, firstErr = a, nil
			if left {
				c.memory.noResource.Store(q.server.ID(), true)
			}
		}
	}
	return first, firstErr
}

// sendAnyWay authenticates the client and posts the form. If the server refuses the client, the
// request is sent again with the next way to show it.
//
// If the server accepts the client then, that answer is returned, and otherwise the first. The
// first is also returned if the code alone is refused then: some servers spend a code before they
// look at the client.
func (c *Client) sendAnyWay(ctx context.Context, q call) (first answer, err error) {
	for i, way := range q.ways(c) {
		q.method = way
		a, err := c.sendBy(ctx, q)
		if i == 0 {
			first = a
		}
		switch e := q.refusal(a); {
		case err != nil && i == 0:
			return a, err
		case err != nil:
			return first, nil
		case e.aboutClient():
			c.log().Info("the client is refused", "host", hostOf(q.endpoint), "shown by", way)
		case i == 0:
			return a, nil
		case e.Code == "invalid_grant" && q.form.Has("code"):
			if way == AuthBasic || way == AuthPost {
				first.other = way
			}
			c.learn(q.server, q.who, way)
			return first, nil
		case a.status/100 == 2 && !e.Refused && !e.Page, e.Refused && e.Code != CodeBadReply:
			c.learn(q.server, q.who, way)
			return a, nil
		default:
			return first, nil
		}
	}
	return first, nil
}

// sendBy sends a request with one way to show the client. With a key for proofs it adds one, and
// sends the same request again if the server only asks for another nonce (RFC 9449 section 8). If
// the server is busy, and says until when, the request is sent again then. The device grant has a
// pace of its own.
func (c *Client) sendBy(ctx context.Context, q call) (answer, error) {
	for nonces, moves := 0, 0; ; {
		a, u, err := requester{c}.sendOnce(ctx, q)
		if err != nil {
			return a, &SignInError{Stage: q.stage, Server: q.server.Name(), Status: a.status, Err: err}
		}
		if q.who.ProofKey != nil {
			fresh := c.KeepNonce(u, a.header)
			if fresh && nonces < MaxNonceReplays && a.fault().code == needsNonce {
				nonces++
				continue
			}
		}
		if a.busy && q.form.Get("grant_type") != grantTypeDevice {
			again, err := q.pauses.wait(ctx, a.retryAfter)
			if err != nil {
				return a, &SignInError{Stage: q.stage, Server: q.server.Name(), Status: a.status, Err: err}
			}
			if again {
				c.log().Info("the server was busy, and is asked again", "host", hostOf(q.endpoint), "status", a.status)
				continue
			}
		}
		to, moved := a.movedTo(q.endpoint)
		if !moved || moves == maxMoves {
			return a, nil
		}
		q.endpoint, moves = to, moves+1
	}
}

// sendOnce sends a request to q.endpoint, which u is, and follows no redirect.
func (w requester) sendOnce(ctx context.Context, q call) (a answer, u *url.URL, err error) {
	if u, err = url.Parse(q.endpoint); err != nil {
		return a, nil, errMalformed(q.endpoint)
	}
	h := make(http.Header)
	if q.who.ProofKey != nil {
		proof, err := w.c.Proof(q.who.ProofKey, http.MethodPost, u, "")
		if err != nil {
			return a, nil, err
		}
		h.Set("DPoP", proof)
	}
	form, err := q.authenticate(h, w.c.now())
	if err != nil {
		return a, nil, err
	}
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err = w.post(ctx, q.server, q.endpoint, h, form.Encode())
	if a.secrets = secretsOf(q.who, form); err != nil {
		err = maskError(err, a.secrets)
	}
	return a, u, err
}

// refusal makes the error of an answer that grants nothing.
func (q call) refusal(a answer) *SignInError { return refusal(q.stage, q.endpoint, a) }

// secretsOf lists what a request holds that its answer may echo.
func secretsOf(who Credentials, form url.Values) []string {
	list := []string{who.Secret}
	if who.Secret != "" { // the Authorization field holds both
		list = append(list, who.ID+":"+who.Secret, url.QueryEscape(who.ID)+":"+url.QueryEscape(who.Secret))
	}
	for _, name := range []string{"state", "code", "code_verifier", "refresh_token", "token", "client_secret",
		"client_assertion", "assertion", "subject_token", "device_code"} {
		list = append(list, form.Get(name))
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
