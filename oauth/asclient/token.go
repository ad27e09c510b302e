package asclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
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
	q := call{StageExchange, idp.TokenEndpoint, idp, who, form}
	a, err := c.send(ctx, q)
	if err != nil {
		return "", err
	}
	var r struct {
		Token string `json:"access_token"`
		Type  string `json:"issued_token_type"`
	}
	if !a.grants(&r) || r.Token == "" || r.Type != tokenTypeIDJAG {
		return "", q.refusal(a)
	}
	return r.Token, nil
}

// Revoke revokes a token (RFC 7009 section 2.1). It revokes the refresh token if there is one,
// which ends its access tokens too. A server without a revocation endpoint is not asked.
func (c *Client) Revoke(ctx context.Context, s Server, who Credentials, k Token) error {
	value, hint := k.Refresh, "refresh_token"
	if value == "" {
		value, hint = k.Access, "access_token"
	}
	if value == "" || s.RevocationEndpoint == "" {
		return nil
	}
	who.ProofKey = nil
	q := call{StageRevoke, s.RevocationEndpoint, s, who, url.Values{"token": {value}, "token_type_hint": {hint}}}
	a, err := c.send(ctx, q)
	if err != nil {
		return err
	}
	if a.status/100 != 2 {
		return q.refusal(a)
	}
	return nil
}

// tokenReply is the answer of RFC 6749 section 5.1.
type tokenReply struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
	IDToken string `json:"id_token"`
	// ExpiresIn is a number. Some servers send a string, and some 0 for "unknown".
	ExpiresIn json.RawMessage `json:"expires_in"`
}

// token posts form to the token endpoint of s and reads the token that it grants.
func (c *Client) token(ctx context.Context, stage string, s Server, who Credentials, form url.Values) (Token, error) {
	if s.TokenEndpoint == "" {
		return Token{}, &DiscoveryError{What: "token endpoint in the metadata of " + s.Name()}
	}
	addExtra(form, c.ExtraParams)
	sent := c.now() // read before the server reads its own clock: we expire early rather than late
	q := call{stage, s.TokenEndpoint, s, who, form}
	a, err := c.send(ctx, q)
	if err != nil {
		return Token{}, err
	}
	var r tokenReply
	if !a.grants(&r) || r.Access == "" {
		return Token{}, q.refusal(a)
	}
	unusable := func(why string) error {
		return &SignInError{Stage: stage, Server: s.Name(), Code: CodeBadReply, Refused: true, Description: why}
	}
	if c.BearerID {
		if r.IDToken == "" {
			return Token{}, unusable("the answer holds no ID token")
		}
		r.Access, r.Type = r.IDToken, ""
	}
	k := Token{Access: r.Access, Refresh: r.Refresh, Scope: r.Scope, Account: accountOf(r.IDToken), Obtained: sent}
	switch {
	case r.Type == "" || strings.EqualFold(r.Type, "Bearer"):
	case strings.EqualFold(r.Type, TypeDPoP) && who.ProofKey != nil:
		k.Type = TypeDPoP
	default:
		return Token{}, unusable(cut("token_type " + r.Type))
	}
	if strings.ContainsFunc(r.Access, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Token{}, unusable("access_token with characters that no header may hold")
	}
	l := lifetime(r.ExpiresIn)
	if c.BearerID {
		l = lifetimeOf(r.IDToken)
	}
	if l > 0 {
		k.Expiry = sent.Add(l)
	}
	return k, nil
}

// lifetime returns 0 for an expires_in that is absent, 0, negative or no number.
func lifetime(expiresIn json.RawMessage) time.Duration {
	s, err := strconv.Unquote(string(expiresIn))
	if err != nil {
		s = string(expiresIn)
	}
	secs, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(secs > 0) {
		return 0
	}
	return time.Duration(math.Min(secs, maxLifetime.Seconds()) * float64(time.Second))
}

// idClaims are the claims of an ID token that we read (OpenID Connect Core section 2).
type idClaims struct {
	Email    string `json:"email"`
	Username string `json:"preferred_username"`
	Subject  string `json:"sub"`
	// IssuedAt and Expiry are in seconds since 1970.
	IssuedAt float64 `json:"iat"`
	Expiry   float64 `json:"exp"`
}

// claimsOf reads an ID token. It does not verify the signature: the ID token came from the token
// endpoint itself (OpenID Connect Core section 3.1.3.7), and whoever acts on it verifies it. It
// returns zero claims for a token that it cannot read.
func claimsOf(idToken string) (claims idClaims) {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return claims
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(b, &claims) != nil {
		return idClaims{}
	}
	return claims
}

// lifetimeOf returns how long an ID token that was just issued is valid. It returns 0 if the token
// does not say. The two times in the token are of one clock, which may differ from ours.
func lifetimeOf(idToken string) time.Duration {
	claims := claimsOf(idToken)
	if claims.IssuedAt <= 0 || !(claims.Expiry > claims.IssuedAt) {
		return 0
	}
	return time.Duration(math.Min(claims.Expiry-claims.IssuedAt, maxLifetime.Seconds()) * float64(time.Second))
}

// accountOf returns how an ID token names the person, or "" if it does not.
func accountOf(idToken string) string {
	claims := claimsOf(idToken)
	for _, name := range []string{claims.Email, claims.Username, claims.Subject} {
		if name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return cut(name)
		}
	}
	return ""
}
