package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Client authentication methods (RFC 7591 section 2).
const (
	authBasic      = "client_secret_basic"
	authPost       = "client_secret_post"
	authPrivateKey = "private_key_jwt"
	authNone       = "none"
)

const (
	clientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2
	assertionLife       = time.Minute
)

// postForm authenticates the client c of s and posts form. proof is a DPoP header; "" none.
func (t *Transport) postForm(ctx context.Context, endpoint string, s server, c client, form url.Values, proof string) (answer, error) {
	h := make(http.Header)
	if proof != "" {
		h.Set("DPoP", proof)
	}
	setIf(form, "client_id", c.ID) // a jwt-bearer grant may have no client
	switch t.authMethod(s, c) {
	case authBasic:
		// Both parts are form-encoded first (RFC 6749 section 2.3.1), which net/http's SetBasicAuth does not do.
		pair := url.QueryEscape(c.ID) + ":" + url.QueryEscape(c.Secret)
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
		if endpoint != s.PushEndpoint { // there it is a parameter of the request too (RFC 9126 section 2.1)
			form.Del("client_id")
		}
	case authPost:
		form.Set("client_secret", c.Secret)
	case authPrivateKey:
		assertion, err := t.clientAssertion(s, c)
		if err != nil {
			return answer{}, err
		}
		form.Set("client_assertion_type", clientAssertionType)
		form.Set("client_assertion", assertion)
	}
	return t.wire.post(ctx, endpoint, h, "application/x-www-form-urlencoded", form.Encode())
}

// clientAssertion is RFC 7523 section 3. Its audience is the issuer, which only this
// server is, where an endpoint could be named by another server's metadata too.
func (t *Transport) clientAssertion(s server, c client) (string, error) {
	alg, err := chooseAlgorithm(*c.key, t.cfg.Client.KeyAlg, s.AuthAlgs)
	if err != nil {
		return "", err
	}
	audience, now := s.Issuer, t.cfg.now()
	if audience == "" { // endpoints given by configuration
		audience = s.TokenEndpoint
	}
	return signJWT(*c.key, alg, "JWT", false, map[string]any{
		"iss": c.ID, "sub": c.ID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
}

// authMethod chooses how client c shows itself to s: as configured, as registered, as
// advertised, else the default of RFC 8414 section 2.
func (t *Transport) authMethod(s server, c client) string {
	switch {
	case c.key != nil && (c.Secret == "" || slices.Contains(s.AuthMethods, authPrivateKey)):
		return authPrivateKey
	case c.Secret == "":
		return authNone
	case t.cfg.Client.AuthStyle == AuthStyleHeader:
		return authBasic
	case t.cfg.Client.AuthStyle == AuthStyleBody:
		return authPost
	case c.Method == authBasic || c.Method == authPost || c.Method == authNone:
		return c.Method
	case s.Source == fromConfig: // no metadata: as the setting's predecessor does
		return authPost
	}
	for _, method := range []string{authBasic, authPost, authNone} {
		if slices.Contains(s.AuthMethods, method) {
			return method
		}
	}
	return authBasic
}
