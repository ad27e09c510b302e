package oauthtest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Server is an authorization server and the guard of one protected resource. Mount it at the origin
// of Issuer. For a resource at another origin, mount Guard there. Set its fields before the first
// request; its methods may be called concurrently.
type Server struct {
	// Issuer is the server's own URL, as in "http://127.0.0.1:1234", with a path or without.
	Issuer string
	// Resource is the URL that tokens are for.
	Resource string
	// Now returns the time. Nil is time.Now.
	Now func() time.Time
	// Takes is the server that takes the assertions which this one gives for an ID token. It may be
	// nil.
	Takes *Server

	mu     sync.Mutex // of everything below
	knobs  Knobs
	script script
	stats  Stats
	seen   seen
	book   book
}

// seen holds the last requests of each kind.
type seen struct {
	authorized, pushed, exchanged url.Values
	registered                    map[string]any
	polls                         []time.Time
}

// book holds what the server has to remember.
type book struct {
	clients map[string]*Client
	// codes holds authorization codes and device codes.
	codes, refresh, access, idTokens map[string]*grant
	// pushed holds authorization requests by request_uri.
	pushed map[string]pushed
	// assertions holds the JWTs that are taken, and used the IDs of proofs that were shown.
	assertions, used map[string]bool
	// nonces holds the nonce of the last answer by the URL that was asked.
	nonces  map[string]string
	secrets []string
}

// secret makes and remembers a secret.
func (b *book) secret(prefix string) string {
	v := prefix + rand.Text()
	b.secrets = append(b.secrets, v)
	return v
}

// Client is one registered client.
type Client struct {
	ID, Secret string
	// Method is its token_endpoint_auth_method. Empty allows any.
	Method       string
	RedirectURIs []string

	// Key is its public key for private_key_jwt. It is nil for a client without one.
	Key *jose.JSONWebKey
	// KeyAlg is the algorithm that the client must sign with. Empty allows any.
	KeyAlg string
}

// grant is what a person allowed a client. Its codes and tokens point to it.
type grant struct {
	client, redirect, challenge, resource, scope string
	// issued is when the access token was, and expires when it does.
	issued, expires time.Time
	// spent says that a code or refresh token was used.
	spent bool
	// waits is the user code that the person has to enter first. It is empty if that was done.
	waits string
	// key is the thumbprint of the key that its tokens are bound to. It is empty for Bearer tokens.
	key string
	// alive is shared by all tokens of one login. It is false once a spent one came again, or one
	// was revoked.
	alive *bool
}

// valid reports whether an access token of g is good at now.
func (g *grant) valid(now time.Time) bool { return g != nil && *g.alive && now.Before(g.expires) }

// pushed is an authorization request that waits for its browser.
type pushed struct {
	params  url.Values
	expires time.Time
}

// New returns a server of this issuer and resource.
func New(issuer, resource string) *Server {
	return &Server{Issuer: issuer, Resource: resource, book: book{
		clients: make(map[string]*Client), codes: make(map[string]*grant), refresh: make(map[string]*grant),
		access: make(map[string]*grant), idTokens: make(map[string]*grant), pushed: make(map[string]pushed), assertions: make(map[string]bool),
		used: make(map[string]bool), nonces: make(map[string]string),
	}}
}

// locked runs f under the server's lock.
func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Set changes the knobs.
func (s *Server) Set(change func(*Knobs)) { s.locked(func() { change(&s.knobs) }) }

// Stats returns the counts so far.
func (s *Server) Stats() (c Stats) {
	s.locked(func() { c = s.stats })
	return c
}

// Authorized returns the parameters of the last authorization request.
func (s *Server) Authorized() (q url.Values) {
	s.locked(func() { q = s.seen.authorized })
	return q
}

// Pushed returns the last pushed authorization request.
func (s *Server) Pushed() (form url.Values) {
	s.locked(func() { form = s.seen.pushed })
	return form
}

// Exchanged returns the last token exchange request.
func (s *Server) Exchanged() (form url.Values) {
	s.locked(func() { form = s.seen.exchanged })
	return form
}

// Registered returns the last registration request.
func (s *Server) Registered() (m map[string]any) {
	s.locked(func() { m = maps.Clone(s.seen.registered) })
	return m
}

// Polls returns the times at which a device's token was asked for.
func (s *Server) Polls() (times []time.Time) {
	s.locked(func() { times = s.seen.polls })
	return times
}

// Secrets returns every token, code, verifier and client secret that ever was.
func (s *Server) Secrets() (list []string) {
	s.locked(func() { list = slices.Clone(s.book.secrets) })
	return list
}

// AddClient registers a client beforehand.
func (s *Server) AddClient(c Client) {
	s.locked(func() {
		s.book.clients[c.ID] = &c
		s.book.secrets = append(s.book.secrets, c.Secret)
	})
}

// ForgetClients drops all registrations, as a server does whose database is lost.
func (s *Server) ForgetClients() { s.locked(func() { clear(s.book.clients) }) }

// AddAssertion makes the server take a JWT: as a workload's assertion, or as the ID token of a
// token exchange.
func (s *Server) AddAssertion(text string) {
	s.locked(func() {
		s.book.assertions[text] = true
		s.book.secrets = append(s.book.secrets, text)
	})
}

// ForgetAssertions makes the server refuse what AddAssertion made it take.
func (s *Server) ForgetAssertions() { s.locked(func() { clear(s.book.assertions) }) }

// RevokeAccess ends all access tokens. Refresh tokens live on.
func (s *Server) RevokeAccess() { s.locked(func() { clear(s.book.access) }) }

// RevokeIDTokens ends all ID tokens, as a session's end does. Refresh tokens live on.
func (s *Server) RevokeIDTokens() { s.locked(func() { clear(s.book.idTokens) }) }

// RevokeAll ends all tokens.
func (s *Server) RevokeAll() {
	s.locked(func() {
		clear(s.book.access)
		clear(s.book.refresh)
		clear(s.book.idTokens)
	})
}

// Refreshable reports whether a refresh token would be taken now.
func (s *Server) Refreshable(token string) (ok bool) {
	s.locked(func() {
		g := s.book.refresh[token]
		ok = g != nil && !g.spent && *g.alive
	})
	return ok
}

// Check reports whether an access token is valid for the resource, and its scope.
func (s *Server) Check(token string) (scope string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.book.access[token]
	if !g.valid(s.now()) || s.knobs.RefuseTokens {
		return "", false
	}
	return g.scope, true
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// resource returns the name of the resource as its metadata has it.
func (s *Server) resource() string { return either(s.knobs.ResourceName, s.Resource) }

// at returns the URL of an endpoint.
func (s *Server) at(endpoint string) string { return strings.TrimSuffix(s.Issuer, "/") + endpoint }

// ServeHTTP is the authorization server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	played{s, placeOf(s.Issuer, r)}.serve(w, r, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		call{s, w, r}.serve()
	})
}

// Stranger is another host beside s: it answers by the rules of s that fit, and otherwise 404.
func Stranger(s *Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := Elsewhere
		if wellKnown(r.URL.Path) {
			at = ServerMetadata
		}
		played{s, at}.serve(w, r, http.NotFound)
	})
}

// placeOf returns what a request to the authorization server asks for.
func placeOf(issuer string, r *http.Request) Place {
	if wellKnown(r.URL.Path) {
		return ServerMetadata
	}
	path := r.URL.Path
	if u, err := url.Parse(issuer); err == nil {
		path, _ = strings.CutPrefix(path, strings.TrimSuffix(u.Path, "/"))
	}
	if path == "/token" && requestFacts(r)["grant_type"] == "refresh_token" {
		return Refresh
	}
	places := map[string]Place{"/register": Register, "/par": Push, "/authorize": Authorize, "/token": Token,
		"/device_authorization": Device, "/revoke": Revoke}
	if at, ok := places[path]; ok {
		return at
	}
	return Elsewhere
}

// wellKnown reports whether a path is that of an authorization server's metadata.
func wellKnown(path string) bool {
	return strings.Contains(path, "/.well-known/oauth-authorization-server") ||
		strings.Contains(path, "/.well-known/openid-configuration")
}

// either returns s, or alt if s is empty.
func either(s, alt string) string {
	if s == "" {
		return alt
	}
	return s
}
