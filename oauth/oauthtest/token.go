package oauthtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	grantTypeDevice        = "urn:ietf:params:oauth:grant-type:device_code"
	grantTypeJWTBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantTypeTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	tokenTypeIDToken = "urn:ietf:params:oauth:token-type:id_token"
	tokenTypeIDJAG   = "urn:ietf:params:oauth:token-type:id-jag"

	assertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// token is the token endpoint.
func (c call) token() {
	f := c.form()
	if f == nil {
		return
	}
	c.book.secrets = append(c.book.secrets, f["code_verifier"]...)
	grantType := f.Get("grant_type")
	c.count(grantType)
	if c.failsByKnob(f) {
		return
	}
	if grantType == grantTypeTokenExchange {
		c.exchange(f)
		return
	}
	key, ok := c.proofKey("/token")
	if !ok {
		return
	}
	client := c.client()
	if client == nil && grantType == grantTypeJWTBearer && f.Get("client_id") == "" {
		client = &Client{} // the assertion says who it is (RFC 7521 section 4.1)
	}
	if client == nil {
		c.fail(http.StatusUnauthorized, "invalid_client", "unknown client or wrong authentication")
		return
	}
	if f.Has("resource") && f.Get("resource") != c.resource() {
		c.fail(http.StatusBadRequest, "invalid_target", "resource "+f.Get("resource"))
		return
	}
	own := grant{client: client.ID, resource: f.Get("resource"), scope: f.Get("scope"), key: key, alive: new(true)}
	switch grantType {
	case "authorization_code":
		c.codeGrant(client, f, key)
	case "refresh_token":
		c.refreshGrant(client, f, key)
	case "client_credentials":
		c.issue(own, false)
	case grantTypeJWTBearer:
		if !c.book.assertions[f.Get("assertion")] {
			c.fail(http.StatusBadRequest, "invalid_grant", "assertion "+f.Get("assertion"))
			return
		}
		c.issue(own, false)
	case grantTypeDevice:
		c.deviceGrant(client, f, key)
	default:
		c.fail(http.StatusBadRequest, "unsupported_grant_type", "")
	}
}

func (c call) count(grantType string) {
	switch grantType {
	case "authorization_code":
		c.stats.Codes++
	case "refresh_token":
		c.stats.Refreshes++
	case "client_credentials":
		c.stats.ClientCredentials++
	case grantTypeJWTBearer:
		c.stats.Assertions++
	case grantTypeTokenExchange:
		c.stats.Exchanges++
	}
}

// failsByKnob reports whether a knob makes the token endpoint fail. Then the request is answered.
func (c call) failsByKnob(f url.Values) bool {
	k := c.knobs
	if k.TokenStatus != 0 {
		c.w.Header().Set("Content-Type", "text/html")
		c.w.WriteHeader(k.TokenStatus)
		fmt.Fprintf(c.w, "<p>broken: %s", f.Encode())
		return true
	}
	code := k.TokenError
	if code == "" && f.Get("grant_type") == "refresh_token" {
		code = k.RefreshError
	}
	if code != "" {
		c.fail(http.StatusBadRequest, code, "you sent "+f.Get("code")+f.Get("refresh_token")+f.Get("client_secret"))
	}
	return code != ""
}

// codeGrant is RFC 6749 section 4.1.3 with PKCE.
func (c call) codeGrant(client *Client, f url.Values, key string) {
	g := c.book.codes[f.Get("code")]
	sum := sha256.Sum256([]byte(f.Get("code_verifier")))
	if g == nil || g.spent || g.client != client.ID || g.redirect != f.Get("redirect_uri") ||
		f.Has("resource") && g.resource != f.Get("resource") || g.key != key || g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) {
		c.fail(http.StatusBadRequest, "invalid_grant", "code")
		return
	}
	g.spent = true
	c.issue(*g, true)
}

// refreshGrant is RFC 6749 section 6.
func (c call) refreshGrant(client *Client, f url.Values, key string) {
	g := c.book.refresh[f.Get("refresh_token")]
	if g != nil && g.spent { // reuse ends all tokens of the login (RFC 9700 section 4.14.2)
		*g.alive = false
	}
	if g == nil || !*g.alive || g.client != client.ID || g.key != key {
		c.fail(http.StatusBadRequest, "invalid_grant", "refresh token")
		return
	}
	g.spent = !c.knobs.KeepRefresh
	c.issue(*g, !c.knobs.KeepRefresh)
}

// deviceGrant is RFC 8628 section 3.4.
func (c call) deviceGrant(client *Client, f url.Values, key string) {
	c.seen.polls = append(c.seen.polls, time.Now())
	g := c.book.codes[f.Get("device_code")]
	if g == nil || g.client != client.ID || g.spent {
		c.fail(http.StatusBadRequest, "invalid_grant", "device code")
		return
	}
	if answers := c.knobs.DeviceAnswers; len(answers) > 0 {
		c.knobs.DeviceAnswers = answers[1:]
		c.fail(http.StatusBadRequest, answers[0], "")
		return
	}
	if g.waits != "" {
		c.fail(http.StatusBadRequest, "authorization_pending", "")
		return
	}
	g.spent, g.key = true, key
	c.issue(*g, true)
}

// exchange is RFC 8693 section 2.1, for an identity assertion that Takes then knows.
func (c call) exchange(f url.Values) {
	c.seen.exchanged = f
	if k := c.knobs; k.ExchangeStatus != 0 || k.ExchangeError != "" {
		status := k.ExchangeStatus
		if status == 0 {
			status = http.StatusBadRequest
		}
		c.fail(status, k.ExchangeError, "subject token "+f.Get("subject_token"))
		return
	}
	wanted := f.Get("subject_token_type") == tokenTypeIDToken && f.Get("requested_token_type") == tokenTypeIDJAG
	issued := c.book.idTokens[f.Get("subject_token")]
	if issued != nil && (c.client() == nil || c.client().ID != issued.client) {
		c.fail(http.StatusUnauthorized, "invalid_client", "unknown client or wrong authentication")
		return
	}
	if !wanted || !issued.valid(c.now()) && !c.book.assertions[f.Get("subject_token")] {
		c.fail(http.StatusBadRequest, "invalid_grant", "subject token "+f.Get("subject_token"))
		return
	}
	jag := c.book.secret("jag-")
	if c.Takes != nil {
		c.Takes.AddAssertion(jag)
	}
	reply(c.w, http.StatusOK, map[string]any{
		"access_token": jag, "issued_token_type": tokenTypeIDJAG, "token_type": "N_A", "expires_in": 300,
	})
}

// issue answers with an access token of g, and with a refresh token if there is to be one.
func (c call) issue(g grant, refresh bool) {
	g.spent = false
	life := c.knobs.Lifetime
	if life == 0 {
		life = time.Hour
	}
	g.issued, g.expires = c.now(), c.now().Add(life)
	access := c.book.secret("at-")
	c.book.access[access] = &g
	m := map[string]any{"access_token": access, "token_type": "bearer", "scope": g.scope,
		"expires_in": int(life / time.Second)}
	if g.key != "" {
		m["token_type"] = "DPoP"
	}
	if x := c.knobs.ExpiresIn; x == "" {
		delete(m, "expires_in")
	} else if x != nil {
		m["expires_in"] = x
	}
	if refresh && !c.knobs.NoRefresh {
		token, of := c.book.secret("rt-"), g
		c.book.refresh[token] = &of
		m["refresh_token"] = token
	}
	// OpenID Connect Core section 12.2 lets an answer to a refresh be without an ID token.
	without := c.knobs.NoIDTokenAtRefresh && c.r.PostFormValue("grant_type") == "refresh_token"
	if slices.Contains(strings.Fields(g.scope), "openid") && !without {
		m["id_token"] = c.idToken(g)
	}
	c.w.Header().Set("Cache-Control", "no-store")
	reply(c.w, http.StatusOK, m)
}

// idToken returns an ID token (OpenID Connect Core section 2) that is good for an exchange. Its
// signature is none.
func (c call) idToken(g grant) string {
	life := c.knobs.IDTokenLifetime
	if life == 0 {
		life = time.Hour
	}
	g.expires = c.now().Add(life)
	claims, _ := json.Marshal(map[string]any{ // which cannot fail
		"iss": c.Issuer, "sub": "ada", "aud": g.client, "iat": c.now().Unix(), "exp": g.expires.Unix(), "jti": rand.Text(),
	})
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims) + "."
	c.book.idTokens[text] = &g
	c.book.secrets = append(c.book.secrets, text)
	return text
}

// client authenticates the client of a request. Nil: it is unknown or not authenticated.
func (c call) client() *Client {
	if c.r.PostFormValue("client_assertion") != "" {
		return c.clientByAssertion(c.r.PostForm)
	}
	id, secret, method := c.r.PostFormValue("client_id"), c.r.PostFormValue("client_secret"), "client_secret_post"
	if user, pass, ok := c.r.BasicAuth(); ok {
		var err1, err2 error
		if c.knobs.TakesSecret == RawBasic {
			id, secret = user, pass
		} else {
			id, err1 = url.QueryUnescape(user)
			secret, err2 = url.QueryUnescape(pass)
		}
		if err1 != nil || err2 != nil || c.r.PostForm.Has("client_secret") {
			return nil
		}
		method = "client_secret_basic"
	} else if secret == "" {
		method = "none"
	}
	found := c.book.clients[id]
	if found == nil || found.Key != nil || found.Secret != secret {
		return nil
	}
	want := found.Method
	switch takes := c.knobs.TakesSecret; {
	case found.Secret == "" || takes == "":
	case takes == RawBasic:
		want = "client_secret_basic"
	default:
		want = takes
	}
	if want != "" && want != method {
		return nil
	}
	return found
}

// clientByAssertion authenticates by private_key_jwt (RFC 7523 section 3). Each assertion is good
// once.
func (c call) clientByAssertion(f url.Values) *Client {
	text := f.Get("client_assertion")
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA})
	if err != nil || f.Get("client_assertion_type") != assertionTypeJWT {
		return nil
	}
	c.book.secrets = append(c.book.secrets, text)
	found := c.book.clients[f.Get("client_id")]
	if found == nil || found.Key == nil || found.KeyAlg != "" && token.Headers[0].Algorithm != found.KeyAlg {
		return nil
	}
	var claims jwt.Claims
	want := jwt.Expected{Issuer: found.ID, Subject: found.ID, AnyAudience: jwt.Audience{c.Issuer}, Time: c.now()}
	if token.Claims(found.Key, &claims) != nil || claims.ValidateWithLeeway(want, 0) != nil ||
		claims.Expiry == nil || claims.ID == "" || c.book.used[claims.ID] {
		return nil
	}
	c.book.used[claims.ID] = true
	return found
}
