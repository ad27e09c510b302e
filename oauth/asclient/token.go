package asclient

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	grantTypeCode          = "authorization_code"                              // RFC 6749 section 4.1.3
	grantTypeRefresh       = "refresh_token"                                   // RFC 6749 section 6
	grantTypeClient        = "client_credentials"                              // RFC 6749 section 4.4
	grantTypeJWTBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523 section 2.1
	grantTypeTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 section 2.1
	grantTypeDevice        = "urn:ietf:params:oauth:grant-type:device_code"    // RFC 8628 section 3.4

	tokenTypeIDToken = "urn:ietf:params:oauth:token-type:id_token" // RFC 8693 section 3
	tokenTypeIDJAG   = "urn:ietf:params:oauth:token-type:id-jag"   // identity assertion authorization grant
)

// TypeDPoP is the Type of a token that is bound to a key (RFC 9449), and the scheme of its
// Authorization field.
const TypeDPoP = "DPoP"

// maxLifetime is the longest lifetime of a token that we calculate with.
const maxLifetime = 100 * 365 * 24 * time.Hour

// Token is what a token endpoint granted. Printed it shows "[hidden]".
type Token struct {
	// Access is the access token. The zero Token has none.
	Access string `json:"access,omitempty"`
	// Type is TypeDPoP, or empty for a Bearer token.
	Type string `json:"type,omitempty"`
	// Refresh is the refresh token. It may be empty.
	Refresh string `json:"refresh,omitempty"`
	// Scope is what was granted. It is empty if that is what was asked for (RFC 6749 section 5.1).
	Scope string `json:"scope,omitempty"`
	// Account is how the ID token names the person. It may be empty.
	Account string `json:"account,omitempty"`
	// Way is how the client was shown to the server after another way was refused (see the package
	// comment). A refresh begins with it. It is empty if the first way is right.
	Way string `json:"way,omitempty"`
	// Obtained is when the token was asked for.
	Obtained time.Time `json:"obtained,omitzero"`
	// Expiry is when the access token expires. It is zero if the server did not say.
	Expiry time.Time `json:"expiry,omitzero"`
}

// String hides the token.
func (Token) String() string { return Hidden }

// Expired reports whether the access token has expired by the wall clock. A clock that was set back
// calls a dead token good; then the server decides.
func (k Token) Expired(now time.Time) bool {
	return !k.Expiry.IsZero() && !now.Before(k.Expiry)
}

// Due reports whether it is time to refresh: skew before the expiry, but not in the first half of a
// short life.
func (k Token) Due(now time.Time, skew time.Duration) bool {
	if k.Expiry.IsZero() || now.Before(k.Obtained) {
		return false
	}
	return !now.Before(k.Expiry.Add(-min(skew, k.Expiry.Sub(k.Obtained)/2)))
}

// completedBy returns k with what the answer to a refresh may leave out (RFC 6749 section 6).
func (k Token) completedBy(old Token) Token {
	if k.Refresh == "" {
		k.Refresh = old.Refresh
	}
	if k.Scope == "" {
		k.Scope = old.Scope
	}
	if k.Account == "" {
		k.Account = old.Account
	}
	return k
}

// Code is an authorization code, with what it was asked for.
type Code struct {
	Code string
	// RedirectURI is that of the authorization request. Empty sends none.
	RedirectURI string
	// Verifier is the secret of PKCE (RFC 7636). Empty sends none.
	Verifier string
	// Resource is the identifier of the resource (RFC 8707). Empty sends none.
	Resource string
}

// RedeemCode exchanges an authorization code for a token (RFC 6749 section 4.1.3).
func (c *Client) RedeemCode(ctx context.Context, s Server, who Credentials, code Code) (Token, error) {
	form := url.Values{"grant_type": {grantTypeCode}, "code": {code.Code}}
	setIf(form, "redirect_uri", code.RedirectURI)
	setIf(form, "code_verifier", code.Verifier)
	setIf(form, "resource", code.Resource)
	return c.token(ctx, StageToken, s, who, form)
}

// Refresh spends the refresh token of old (RFC 6749 section 6). What the server's answer leaves out
// stays as it was in old, the refresh token too.
func (c *Client) Refresh(ctx context.Context, s Server, who Credentials, old Token, resource string) (Token, error) {
	if old.Way != "" {
		c.learn(s, who, old.Way)
	}
	form := url.Values{"grant_type": {grantTypeRefresh}, "refresh_token": {old.Refresh}}
	setIf(form, "resource", resource)
	k, err := c.token(ctx, StageRefresh, s, who, form)
	if err != nil {
		return Token{}, err
	}
	return k.completedBy(old), nil
}

// ClientCredentials gets a token for the client itself (RFC 6749 section 4.4).
func (c *Client) ClientCredentials(ctx context.Context, s Server, who Credentials, want Wanted) (Token, error) {
	form := url.Values{"grant_type": {grantTypeClient}}
	want.setOn(form)
	return c.token(ctx, StageToken, s, who, form)
}

// RedeemAssertion exchanges a JWT for a token (RFC 7523 section 2.1).
func (c *Client) RedeemAssertion(ctx context.Context, s Server, who Credentials,
	assertion string, want Wanted) (Token, error) {
	form := url.Values{"grant_type": {grantTypeJWTBearer}, "assertion": {assertion}}
	want.setOn(form)
	return c.token(ctx, StageToken, s, who, form)
}

// ExchangeIDToken has an identity provider exchange the person's ID token for an assertion (RFC
// 8693) that the authorization server named by want.Audience takes. The Stage of its errors is
// StageExchange.
func (c *Client) ExchangeIDToken(ctx context.Context, idp Server, who Credentials,
	idToken string, want Wanted) (assertion string, err error) {
	form := url.Values{
		"grant_type": {grantTypeTokenExchange}, "requested_token_type": {tokenTypeIDJAG},
		"subject_token": {idToken}, "subject_token_type": {tokenTypeIDToken},
	}
	want.setOn(form)
	q := call{stage: StageExchange, endpoint: idp.TokenEndpoint, server: idp, who: who, form: form}
	a, err := c.send(ctx, q)
	if err != nil {
		return "", err
	}
	d, _ := a.grants()
	if d.text("access_token") == "" || d.text("issued_token_type") != tokenTypeIDJAG {
		return "", q.refusal(a)
	}
	return d.text("access_token"), nil
}

// Revoke revokes a token (RFC 7009 section 2.1). It revokes the refresh token if there is one,
// which ends its access tokens too. A server without a revocation endpoint is not asked, and it is
// no error if the endpoint turns out to be missing, or to revoke no such tokens.
func (c *Client) Revoke(ctx context.Context, s Server, who Credentials, k Token) error {
	value, hint := k.Refresh, "refresh_token"
	if value == "" {
		value, hint = k.Access, "access_token"
	}
	if value == "" || s.RevocationEndpoint == "" {
		return nil
	}
	who.ProofKey = nil
	if k.Way != "" {
		c.learn(s, who, k.Way)
	}
	form := url.Values{"token": {value}, "token_type_hint": {hint}}
	q := call{stage: StageRevoke, endpoint: s.RevocationEndpoint, server: s, who: who, form: form}
	a, err := c.send(ctx, q)
	if err != nil {
		return err
	}
	if a.status/100 == 2 {
		return nil
	}
	e := q.refusal(a)
	switch {
	case e.Code == "unsupported_token_type", a.status == http.StatusNotFound,
		a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotImplemented:
		c.log().Info("the server revokes no such tokens, whatever its metadata says", "status", a.status)
		return nil
	}
	return e
}

// token posts form to the token endpoint of s and reads the token that it grants.
func (c *Client) token(ctx context.Context, stage string, s Server, who Credentials, form url.Values) (Token, error) {
	if s.TokenEndpoint == "" {
		return Token{}, &DiscoveryError{What: "token endpoint in the metadata of " + s.Name()}
	}
	addExtra(form, c.ExtraParams)
	sent := c.now() // read before the server reads its own clock: we expire early rather than late
	q := call{stage: stage, endpoint: s.TokenEndpoint, server: s, who: who, form: form}
	a, err := c.send(ctx, q)
	if err != nil {
		return Token{}, err
	}
	d, _ := a.grants()
	d = d.holding("access_token")
	access, idToken := bearerText(d.text("access_token")), d.text("id_token")
	if access == "" {
		return Token{}, q.refusal(a)
	}
	unusable := func(why string) error {
		return &SignInError{Stage: stage, Server: s.Name(), Code: CodeBadReply, Refused: true, Description: why}
	}
	if c.BearerID && idToken == "" {
		return Token{}, unusable("the answer holds no ID token")
	}
	if c.BearerID && !upstreamMayHave(c, s, idToken) {
		return Token{}, &SignInError{Stage: stage, Server: s.Name(), Code: CodeIssuerMismatch, Refused: true,
			Description: "the ID token is of another issuer"}
	}
	k := Token{Access: access, Refresh: d.text("refresh_token"), Scope: strings.Join(d.list("scope"), " "), Obtained: sent}
	if way, ok := c.memory.ways.Load(wayKey(s, who, c)); ok {
		k.Way = way.(string)
	}
	k.Account = accountOf(d.member("id_token"))
	kind, life := d.text("token_type"), d.lifetime("expires_in")
	d.logOdd(c.log(), "the token answer")
	if c.BearerID {
		k.Access, kind, life = idToken, "", lifetimeOf(idToken)
	}
	switch {
	case isBearer(kind):
	case strings.EqualFold(strings.TrimSpace(kind), TypeDPoP) && who.ProofKey != nil:
		k.Type = TypeDPoP
	default:
		return Token{}, unusable(PeerText("token_type "+kind, a.secrets))
	}
	if strings.ContainsFunc(k.Access, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Token{}, unusable("access_token with characters that no header may hold")
	}
	if life > 0 {
		k.Expiry = sent.Add(life)
	}
	return k, nil
}

// bearerText returns a token without white space around it, and without the scheme that some
// servers write before it.
func bearerText(token string) string {
	token = strings.TrimSpace(token)
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	return token
}

// isBearer reports whether a token_type is that of a Bearer token (RFC 6750). Servers write it in
// many ways, or leave it out, or say what the token is for. Types that need more than the token in
// each request, such as DPoP and mac, are no Bearer tokens.
func isBearer(kind string) bool {
	kind = strings.ToLower(strings.TrimSpace(kind))
	kind = strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, kind)
	switch strings.TrimPrefix(kind, "urn:ietf:params:oauth:tokentype:") {
	case "", "bearer", "bearertoken", "jwtbearer", "accesstoken", "useraccesstoken", "applicationaccesstoken", "jwt",
		"token", "user", "bot", "oauth", "oauth2":
		return true
	}
	return false
}

// lifetime returns the number of seconds that a member holds, as a number or as text. It is 0 if
// the member is absent, 0, negative or no number.
func (d document) lifetime(name string) time.Duration {
	secs, err := strconv.ParseFloat(strings.TrimSpace(d.text(name)), 64)
	if err != nil || !(secs > 0) {
		return 0
	}
	return time.Duration(math.Min(secs, maxLifetime.Seconds()) * float64(time.Second))
}
