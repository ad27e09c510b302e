package asclient

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Methods of client authentication (RFC 7591 section 2).
const (
	AuthBasic      = "client_secret_basic"
	AuthPost       = "client_secret_post"
	AuthPrivateKey = "private_key_jwt"
	AuthNone       = "none"
	// AuthTLS and AuthSelfSignedTLS are by the certificate of the connection (RFC 8705 section 2).
	AuthTLS           = "tls_client_auth"
	AuthSelfSignedTLS = "self_signed_tls_client_auth"
)

const (
	clientAssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2
	assertionLife       = time.Minute
)

// Credentials are who we are at one authorization server, and how we prove it. Printed they show
// "[hidden]".
type Credentials struct {
	// ID is the client ID. It may be empty for the jwt-bearer grant, whose assertion says who we
	// are.
	ID string `json:"id,omitempty"`
	// Secret is empty for a public client.
	Secret string `json:"secret,omitempty"`
	// Method is the authentication method that the client was registered for. It may be empty.
	Method string `json:"method,omitempty"`
	// Key signs for private_key_jwt. Nil means that the client has none.
	Key *Key `json:"-"`
	// ProofKey is what tokens are to be bound to (DPoP). Nil asks for Bearer tokens.
	ProofKey *Key `json:"-"`
}

// String hides the credentials.
func (Credentials) String() string { return Hidden }

// method chooses how the client shows itself to the server: by its key where that is taken, as
// configured, by its certificate where the server knows nothing else that we can do, as registered,
// as advertised, else by the default of RFC 8414 section 2.
func (who Credentials) method(s Server, c *Client) string {
	configured := c.SecretMethod
	switch {
	case who.Key != nil && (who.Secret == "" || slices.Contains(s.AuthMethods, AuthPrivateKey)):
		return AuthPrivateKey
	case who.Secret == "":
		return AuthNone
	case configured != "":
		return configured
	case c.Certificate && onlyByCertificate(s.AuthMethods):
		return AuthTLS
	case who.Method == AuthBasic || who.Method == AuthPost || who.Method == AuthNone:
		return who.Method
	case s.Source == FromConfig: // without metadata we do as the predecessor of that setting does
		return AuthPost
	}
	for _, method := range []string{AuthBasic, AuthPost, AuthNone} {
		if slices.Contains(s.AuthMethods, method) {
			return method
		}
	}
	return AuthBasic
}

// onlyByCertificate reports whether a server takes a certificate, but no secret.
func onlyByCertificate(methods []string) bool {
	return (slices.Contains(methods, AuthTLS) || slices.Contains(methods, AuthSelfSignedTLS)) &&
		!slices.Contains(methods, AuthBasic) && !slices.Contains(methods, AuthPost)
}

// authenticate adds the client's authentication to the form or to the header. A certificate needs
// nothing but the client ID.
func (q call) authenticate(h http.Header, c *Client) error {
	s, who, form := q.server, q.who, q.form
	setIf(form, "client_id", who.ID)
	switch who.method(s, c) {
	case AuthBasic:
		// Both parts are form-encoded first (RFC 6749 section 2.3.1). SetBasicAuth does not do
		// that.
		pair := url.QueryEscape(who.ID) + ":" + url.QueryEscape(who.Secret)
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
		if q.endpoint != s.PushEndpoint { // there it is a parameter of the request too (RFC 9126 section 2.1)
			form.Del("client_id")
		}
	case AuthPost:
		form.Set("client_secret", who.Secret)
	case AuthPrivateKey:
		assertion, err := who.assertion(s, q.endpoint, c.now())
		if err != nil {
			return err
		}
		form.Set("client_assertion_type", clientAssertionType)
		form.Set("client_assertion", assertion)
	}
	return nil
}

// assertion makes the JWT of RFC 7523 section 3. Its audience is the issuer, because only
// this server is that: another server's metadata could name the endpoint too. Where nothing but the
// metadata vouches for the issuer, the audience is the endpoint that the JWT is sent to, so that it
// is of no use anywhere else.
func (who Credentials) assertion(s Server, endpoint string, now time.Time) (string, error) {
	alg, err := who.Key.chooseAlgorithm(s.AuthAlgs)
	if err != nil {
		return "", err
	}
	audience := cmp.Or(s.Issuer, s.TokenEndpoint) // the second for endpoints given by configuration
	if s.FoundAt != "" {
		audience = endpoint
	}
	return who.Key.sign(alg, "JWT", map[string]any{
		"iss": who.ID, "sub": who.ID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
}
