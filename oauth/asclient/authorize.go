package asclient

import (
	"cmp"
	"context"
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
	// Consent has the server ask the person for consent again (prompt=consent, OpenID Connect Core
	// section 3.1.2.1), unless the configured parameters have a prompt. Some servers grant a
	// refresh token only then. Others refuse it where an administrator has consented for all.
	Consent bool
	Wanted
}

// AuthorizeURL returns the URL that the person opens. The authorization endpoint must be https, or
// on loopback; its own query stays (RFC 6749 section 3.1).
func (c *Client) AuthorizeURL(s Server, who Credentials, a Authorization) (string, error) {
	u, problem := requester{c}.forBrowser(s, s.AuthorizationEndpoint)
	if problem != "" {
		return "", &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeInsecureURL, Refused: true, Cleartext: isCleartext(s.AuthorizationEndpoint),
			Description: "the authorization endpoint " + problem}
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
	if a.Consent && !q.Has("prompt") {
		q.Set("prompt", "consent")
	}
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u.String(), nil
}

// CheckRedirect judges the parameters that a browser brought back with the right state. It looks at
// iss first (RFC 9207 section 2.4), because before that nothing of them may be acted on or shown.
// If the server has not promised an iss, a slash at its end makes no difference. A nil error means
// that the parameters hold a code.
//
// A parameter that comes twice is refused if it has two values, as no one can tell which counts.
func CheckRedirect(s Server, q url.Values) error {
	if s.Source != FromConfig && (q.Has("iss") || s.SendsIss) && (twice(q, "iss") || !s.isIssuer(q.Get("iss"))) {
		return &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeIssuerMismatch, Refused: true,
			Description: "the redirect does not come from the authorization server that was asked"}
	}
	sent := []string{q.Get("state"), q.Get("code")}
	if code := canonical(q.Get("error")); code != "" {
		return &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: PeerText(code, sent),
			Description: PeerText(q.Get("error_description"), sent), Refused: !momentary(code)}
	}
	bad := func(why string) error {
		return &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeBadReply, Refused: true, Description: why}
	}
	switch {
	case twice(q, "code"):
		return bad("a redirect with two codes")
	case q.Get("code") == "" && q.Get("error_description") != "":
		return bad(PeerText("a redirect without a code: "+q.Get("error_description"), sent))
	case q.Get("code") == "":
		return bad("a redirect without a code")
	}
	return nil
}

// twice reports whether a parameter has two values.
func twice(q url.Values, name string) bool { return len(slices.Compact(slices.Clone(q[name]))) > 1 }

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
	if err := (requester{c}).usable(StageAuthorize, s, s.PushEndpoint); err != nil {
		return Pushed{}, err
	}
	sent := c.now()
	q := call{stage: StageAuthorize, endpoint: s.PushEndpoint, server: s, who: who, form: full.Query()}
	a, err := c.send(ctx, q)
	if err != nil {
		return Pushed{}, err
	}
	d, ok := a.grants()
	d = d.holding("request_uri")
	uri := d.text("request_uri")
	if !ok || uri == "" || len(uri) > maxRequestURI {
		return Pushed{}, q.refusal(a)
	}
	query := u.Query()
	query.Set("client_id", who.ID)
	query.Set("request_uri", uri)
	u.RawQuery, u.Fragment = query.Encode(), ""
	return Pushed{URL: u.String(), RequestURI: uri, Expires: sent.Add(cmp.Or(d.lifetime("expires_in"), pushLife))}, nil
}
