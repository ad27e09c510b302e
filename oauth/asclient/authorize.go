package asclient

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"time"
)

const (
	pushLife      = time.Minute // of a pushed request, where the server names none
	maxRequestURI = 2 << 10     // bytes
)

// Authorization is an authorization request (RFC 6749 section 4.1.1) with PKCE (RFC 7636).
type Authorization struct {
	// RedirectURI is where the browser comes back to.
	RedirectURI string
	// State is what the browser brings back, and nobody can guess.
	State string
	// Verifier is the secret of PKCE. Its hash goes into the request.
	Verifier string
	Wanted
}

// AuthorizeURL returns the URL that the person opens. The authorization endpoint must be https, or
// on loopback; its own query stays (RFC 6749 section 3.1).
func (c *Client) AuthorizeURL(s Server, who Credentials, a Authorization) (string, error) {
	u, err := url.Parse(s.AuthorizationEndpoint)
	if err != nil || u.Host == "" || !Secure(u, c.AllowHTTP) {
		return "", &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeInsecureURL, Refused: true,
			Description: "the authorization endpoint is no https URL"}
	}
	q := u.Query()
	q.Set("response_type", "code")
	q.Set("client_id", who.ID)
	q.Set("redirect_uri", a.RedirectURI)
	q.Set("state", a.State)
	q.Set("code_challenge", hashOf(a.Verifier))
	q.Set("code_challenge_method", "S256")
	a.setOn(q)
	if who.ProofKey != nil {
		setIf(q, "dpop_jkt", who.ProofKey.Thumbprint())
	}
	addExtra(q, c.AuthorizeParams)
	addExtra(q, c.ExtraParams)
	if slices.Contains(a.Scopes, "offline_access") && !q.Has("prompt") {
		q.Set("prompt", "consent") // OpenID Connect Core section 11 asks for it
	}
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u.String(), nil
}

// CheckRedirect judges the parameters that a browser brought back with the right state. It looks at
// iss first (RFC 9207 section 2.4), because before that nothing of them may be acted on or shown. A
// nil error means that they hold a code.
func CheckRedirect(s Server, q url.Values) error {
	if iss := q.Get("iss"); s.Source != FromConfig && (q.Has("iss") && iss != s.Issuer || !q.Has("iss") && s.SendsIss) {
		return &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeIssuerMismatch, Refused: true,
			Description: "the redirect does not come from the authorization server that was asked"}
	}
	if code := q.Get("error"); code != "" {
		sent := []string{q.Get("state")}
		return &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: PeerText(code, sent),
			Description: PeerText(q.Get("error_description"), sent), Refused: !momentary(code)}
	}
	if q.Get("code") == "" {
		return &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeBadReply, Refused: true,
			Description: "a redirect without a code"}
	}
	return nil
}

// Pushed is an authorization request that the server holds (RFC 9126).
type Pushed struct {
	// URL is what the person opens: once, as section 4 has it.
	URL string
	// RequestURI is what URL refers to the request by. It is a secret while the request is pending.
	RequestURI string
	// Expires is when the server forgets the request.
	Expires time.Time
}

// Push hands the parameters of an AuthorizeURL to the server, and returns the URL that refers to
// them. It is for servers that require it, and no others: the reference is good for a minute or so,
// and a person may open it late.
func (c *Client) Push(ctx context.Context, s Server, who Credentials, authorizeURL string) (Pushed, error) {
	full, err := url.Parse(authorizeURL)
	if err != nil {
		return Pushed{}, errMalformed(s.AuthorizationEndpoint)
	}
	u, err := url.Parse(s.AuthorizationEndpoint)
	if err != nil {
		return Pushed{}, errMalformed(s.AuthorizationEndpoint)
	}
	q, sent := call{StageAuthorize, s.PushEndpoint, s, who, full.Query()}, c.now()
	a, err := c.send(ctx, q)
	if err != nil {
		return Pushed{}, err
	}
	var r struct {
		URI  string          `json:"request_uri"`
		Life json.RawMessage `json:"expires_in"`
	}
	if !a.grants(&r) || r.URI == "" || len(r.URI) > maxRequestURI {
		return Pushed{}, q.refusal(a)
	}
	query := u.Query()
	query.Set("client_id", who.ID)
	query.Set("request_uri", r.URI)
	u.RawQuery, u.Fragment = query.Encode(), ""
	return Pushed{URL: u.String(), RequestURI: r.URI, Expires: sent.Add(cmp.Or(lifetime(r.Life), pushLife))}, nil
}
