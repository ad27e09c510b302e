package asclient

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"maps"
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

// The second ways to show a client, besides AuthBasic and AuthPost.
const (
	// basicRaw is AuthBasic without form-encoding, for servers that decode none.
	basicRaw = AuthBasic + ", not encoded"
	// keyToEndpoint is AuthPrivateKey with the endpoint as the audience, for servers that take no
	// issuer.
	keyToEndpoint = AuthPrivateKey + ", to the endpoint"
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
		if slices.Contains(s.AuthMethods, AuthTLS) {
			return AuthTLS
		}
		return AuthSelfSignedTLS
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

// ways returns how the client shows itself, and how it does if the server refuses that. There is
// only one way if the person has said which one is right. A way that was right before comes first.
func (q call) ways(c *Client) []string {
	who, s := q.who, q.server
	first := who.method(s, c)
	all := []string{first}
	switch first {
	case AuthPrivateKey:
		issuer, err1 := url.Parse(s.Issuer)
		endpoint, err2 := url.Parse(q.endpoint)
		if s.FoundAt == "" && err1 == nil && err2 == nil && SameOrigin(issuer, endpoint) {
			all = append(all, keyToEndpoint) // only that server has this URL
		}
	case AuthBasic, AuthPost, AuthNone:
		if c.SecretMethod != "" || who.Secret == "" {
			break
		}
		others := []string{AuthPost, basicRaw}
		if first == AuthPost {
			others[0] = AuthBasic
		}
		if url.QueryEscape(who.ID+who.Secret) == who.ID+who.Secret {
			others = others[:1] // there is nothing to encode
		}
		all = append(all, others...)
	}
	if way, ok := c.memory.ways.Load(wayKey(s, who, c)); ok && slices.Contains(all, way.(string)) {
		right := way.(string)
		all = slices.DeleteFunc(all, func(way string) bool { return way == right })
		all = slices.Insert(all, 0, right)
	}
	return all
}

// learn notes that way was right at s.
func (c *Client) learn(s Server, who Credentials, way string) {
	c.memory.ways.Store(wayKey(s, who, c), way)
}

// wayKey is a key of memory.ways: the server, and the way that would come first there.
func wayKey(s Server, who Credentials, c *Client) string { return s.ID() + " " + who.method(s, c) }

// onlyByCertificate reports whether a server takes a certificate, but no secret.
func onlyByCertificate(methods []string) bool {
	return (slices.Contains(methods, AuthTLS) || slices.Contains(methods, AuthSelfSignedTLS)) &&
		!slices.Contains(methods, AuthBasic) && !slices.Contains(methods, AuthPost)
}

// authenticate returns the form with the client's authentication, or adds that to the header. A
// certificate needs nothing but the client ID.
func (q call) authenticate(h http.Header, now time.Time) (url.Values, error) {
	who, form := q.who, maps.Clone(q.form)
	setIf(form, "client_id", who.ID)
	switch q.method {
	case AuthBasic, basicRaw:
		// Both parts are form-encoded first (RFC 6749 section 2.3.1). SetBasicAuth does not do
		// that.
		pair := url.QueryEscape(who.ID) + ":" + url.QueryEscape(who.Secret)
		if q.method == basicRaw {
			pair = who.ID + ":" + who.Secret
		}
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
		if !form.Has("response_type") { // a pushed request has it as a parameter, too (RFC 9126 section 2.1)
			form.Del("client_id")
		}
	case AuthPost:
		form.Set("client_secret", who.Secret)
	case AuthPrivateKey, keyToEndpoint:
		assertion, err := q.assertion(now)
		if err != nil {
			return nil, err
		}
		form.Set("client_assertion_type", clientAssertionType)
		form.Set("client_assertion", assertion)
	}
	return form, nil
}

// assertion makes the JWT of RFC 7523 section 3. Its audience is the issuer, because only
// this server is that: another server's metadata could name the endpoint too. Where nothing but the
// metadata vouches for the issuer, the audience is the endpoint that the JWT is sent to, so that it
// is of no use anywhere else.
func (q call) assertion(now time.Time) (string, error) {
	who, s := q.who, q.server
	alg, err := who.Key.chooseAlgorithm(s.AuthAlgs)
	if err != nil {
		return "", err
	}
	audience := cmp.Or(s.Issuer, s.TokenEndpoint) // the second for endpoints given by configuration
	if s.FoundAt != "" || q.method == keyToEndpoint {
		audience = q.endpoint
	}
	return who.Key.sign(alg, "JWT", map[string]any{
		"iss": who.ID, "sub": who.ID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
}
