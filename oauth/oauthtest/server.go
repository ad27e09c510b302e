// Package oauthtest is an authorization server, a bearer check and a browser for tests
// and for the demonstration. The server is strict where clients go wrong (PKCE, redirect
// URI, resource, reuse of codes and refresh tokens) and fails where it is told to.
package oauthtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	grantTypeJWTBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantTypeTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// Knobs bend the server. The zero value is a correct server that grants everything.
type Knobs struct {
	Lifetime  time.Duration // of access tokens; 0: an hour
	ExpiresIn any           // what expires_in says: nil Lifetime in seconds, "" leaves it out, else the value itself
	Scopes    []string      // scopes_supported of the authorization server

	AuthMethods      []string // token_endpoint_auth_methods_supported; nil: none, basic and post
	NoPKCE           bool     // metadata without code_challenge_methods_supported
	NoMetadata       bool     // neither RFC 8414 nor OpenID metadata
	OpenIDOnly       bool     // no RFC 8414 metadata
	WrongIssuer      string   // issuer that the metadata claims; "" the right one
	NoIss            bool     // neither advertises nor sends iss
	WrongIss         string   // iss of the redirect; "" the right one
	MetadataDocument bool     // takes client ID metadata documents (any, unread)

	NoRegistration bool
	OneRedirect    bool   // refuses a registration of more than one redirect URI
	Deny           string // error code of the redirect, "access_denied"
	TokenStatus    int    // the token endpoint answers this status, in HTML
	TokenError     string // the token endpoint answers this error, echoing what it was sent
	RefreshError   string // as TokenError, for refreshes only
	KeepRefresh    bool   // no rotation
	NoRefresh      bool   // grants no refresh token
	NoRevocation   bool

	RequirePush bool          // takes pushed authorization requests only
	PushLife    time.Duration // of a request_uri; 0: a minute
	PushError   string        // the endpoint for them answers this error, echoing what it was sent

	DeviceOnly    bool     // no authorization endpoint
	DeviceAnswers []string // error codes that polls for a device's token are answered with, before it is granted
	DPoP          bool     // the resource takes bound tokens only, and says so in its challenge
	ProofAlgs     []string // dpop_signing_alg_values_supported of the authorization server
	Nonces        bool     // each proof must have the nonce of the answer before

	// Of the protected resource.
	NoResourceMetadata bool
	ResourceName       string   // resource of the metadata; "" the right one
	ResourceScopes     []string // scopes_supported of the resource metadata
	ChallengeScope     string   // scope of the challenge
	NoChallenge        bool     // 401 without WWW-Authenticate
	RefuseTokens       bool     // every token is answered 401
	NeedScope          string   // a token without it is answered 403 insufficient_scope
}

// Stats counts what the server was asked.
type Stats struct {
	Registrations, Authorizations, Codes, Refreshes, ClientCredentials, Revocations int
	Assertions, Devices, Pushes                                                     int
	Unauthorized                                                                    int // 401 of the protected resource
}

// Server is an authorization server and the guard of one protected resource. Mount it
// at the origin of Issuer; for a resource at another origin, mount Guard there.
type Server struct {
	Issuer   string           // "http://127.0.0.1:1234" or with a path
	Resource string           // the URL that tokens are for
	Now      func() time.Time // nil: time.Now
	Takes    *Server          // takes the assertions that this one gives for an ID token; nil none

	mu      sync.Mutex // of everything below
	knobs   Knobs
	stats   Stats
	last    url.Values // the last authorize request
	lastReg map[string]any
	clients map[string]*Client
	codes   map[string]*grant
	refresh map[string]*grant
	access  map[string]*grant
	secrets []string

	assertions, proofs map[string]bool
	nonces             map[string]string // by target
	pushed             map[string]pushed // by request_uri
	lastPush           url.Values
	exchanged          url.Values
	polls              []time.Time
}

// Client is one registered client.
type Client struct {
	ID, Secret   string
	Method       string // token_endpoint_auth_method; "" any
	RedirectURIs []string

	Key    *jose.JSONWebKey // public, for private_key_jwt; nil none
	KeyAlg string           // that it must sign with; "" any
}

// grant is what a person allowed a client; its codes and tokens point to it.
type grant struct {
	client    string
	redirect  string
	challenge string
	resource  string
	scope     string
	expires   time.Time // of the access token
	spent     bool      // of a code or refresh token
	key       string    // thumbprint that its tokens are bound to; "" none
	family    *bool     // false once a spent one came again, or it was revoked
}

// New returns a server of this issuer and resource.
func New(issuer, resource string) *Server {
	return &Server{Issuer: issuer, Resource: resource, clients: make(map[string]*Client), codes: make(map[string]*grant),
		refresh: make(map[string]*grant), access: make(map[string]*grant),
		assertions: make(map[string]bool), proofs: make(map[string]bool), nonces: make(map[string]string), pushed: make(map[string]pushed)}
}

// Set changes the knobs.
func (s *Server) Set(change func(*Knobs)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.knobs)
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Authorized returns the parameters of the last authorize request.
func (s *Server) Authorized() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Registered returns the last registration request.
func (s *Server) Registered() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.lastReg)
}

// Secrets returns every token, code, verifier and client secret that ever was.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.secrets)
}

// AddClient registers a client beforehand.
func (s *Server) AddClient(c Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c.ID] = &c
	s.secrets = append(s.secrets, c.Secret)
}

// ForgetClients drops all registrations, as servers do when their database is lost.
func (s *Server) ForgetClients() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.clients)
}

// RevokeAccess ends all access tokens; refresh tokens live on.
func (s *Server) RevokeAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// RevokeAll ends all tokens.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
	clear(s.refresh)
}

// Refreshable reports whether a refresh token would be taken now.
func (s *Server) Refreshable(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.refresh[token]
	return g != nil && !g.spent && *g.family
}

// Check reports whether an access token is valid for the resource, and its scope.
func (s *Server) Check(token string) (scope string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.access[token]
	if g == nil || !*g.family || !s.now().Before(g.expires) || s.knobs.RefuseTokens {
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

// ServeHTTP is the authorization server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := s.path()
	endpoint, _ := strings.CutPrefix(r.URL.Path, base)
	k := s.knobs
	switch {
	case r.URL.Path == "/.well-known/oauth-authorization-server"+base && !k.NoMetadata && !k.OpenIDOnly,
		r.URL.Path == base+"/.well-known/openid-configuration" && !k.NoMetadata:
		reply(w, http.StatusOK, s.metadata())
	case endpoint == "/authorize" && r.Method == http.MethodGet:
		s.authorize(w, r)
	case endpoint == "/token" && r.Method == http.MethodPost:
		s.token(w, r)
	case endpoint == "/device_authorization" && r.Method == http.MethodPost:
		s.device(w, r)
	case endpoint == "/par" && r.Method == http.MethodPost && k.RequirePush:
		s.push(w, r)
	case endpoint == "/register" && r.Method == http.MethodPost && !k.NoRegistration:
		s.register(w, r)
	case endpoint == "/revoke" && r.Method == http.MethodPost && !k.NoRevocation:
		s.revoke(w, r)
	case endpoint == "/introspect" && r.Method == http.MethodPost:
		g := s.access[r.FormValue("token")]
		active := g != nil && *g.family && s.now().Before(g.expires)
		m := map[string]any{"active": active}
		if active {
			m["scope"], m["aud"] = g.scope, g.resource
		}
		reply(w, http.StatusOK, m)
	default:
		http.NotFound(w, r)
	}
}

// path is that of the issuer, without the slash at the end.
func (s *Server) path() string {
	u, err := url.Parse(s.Issuer)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.Path, "/")
}

func (s *Server) metadata() map[string]any {
	k, at := s.knobs, strings.TrimSuffix(s.Issuer, "/")
	m := map[string]any{
		"issuer":                                         either(k.WrongIssuer, s.Issuer),
		"authorization_endpoint":                         at + "/authorize",
		"token_endpoint":                                 at + "/token",
		"device_authorization_endpoint":                  at + "/device_authorization",
		"introspection_endpoint":                         at + "/introspect",
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token", "client_credentials"},
		"token_endpoint_auth_methods_supported":          s.authMethods(),
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": !k.NoIss,
		"client_id_metadata_document_supported":          k.MetadataDocument,
	}
	if k.DeviceOnly {
		delete(m, "authorization_endpoint")
	}
	if k.RequirePush {
		m["pushed_authorization_request_endpoint"], m["require_pushed_authorization_requests"] = at+"/par", true
	}
	if k.ProofAlgs != nil {
		m["dpop_signing_alg_values_supported"] = k.ProofAlgs
	}
	if !k.NoRegistration {
		m["registration_endpoint"] = at + "/register"
	}
	if !k.NoRevocation {
		m["revocation_endpoint"] = at + "/revoke"
	}
	if k.NoPKCE {
		delete(m, "code_challenge_methods_supported")
	}
	if k.Scopes != nil {
		m["scopes_supported"] = k.Scopes
	}
	return m
}

func (s *Server) authMethods() []string {
	if s.knobs.AuthMethods != nil {
		return s.knobs.AuthMethods
	}
	return []string{"none", "client_secret_basic", "client_secret_post"}
}

// either returns s, or alt if s is empty.
func either(s, alt string) string {
	if s == "" {
		return alt
	}
	return s
}

func (s *Server) secret(prefix string) string {
	v := prefix + rand.Text()
	s.secrets = append(s.secrets, v)
	return v
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	s.stats.Registrations++
	var m map[string]any
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&m) != nil {
		fail(w, http.StatusBadRequest, "invalid_client_metadata", "not JSON")
		return
	}
	s.lastReg = m
	var uris []string
	list, _ := m["redirect_uris"].([]any)
	for _, u := range list {
		uris = append(uris, fmt.Sprint(u))
	}
	if len(uris) == 0 && !strings.Contains(fmt.Sprint(m["grant_types"]), "device_code") || s.knobs.OneRedirect && len(uris) > 1 {
		fail(w, http.StatusBadRequest, "invalid_redirect_uri", "wrong number of redirect URIs")
		return
	}
	c := &Client{ID: "client-" + rand.Text(), RedirectURIs: uris, Method: fmt.Sprint(m["token_endpoint_auth_method"])}
	if !slices.Contains(s.authMethods(), c.Method) {
		fail(w, http.StatusBadRequest, "invalid_client_metadata", "token_endpoint_auth_method")
		return
	}
	m["client_id"] = c.ID
	if c.Method != "none" {
		c.Secret = s.secret("cs-%+ ") // characters that only proper form-encoding carries
		m["client_secret"], m["client_secret_expires_at"] = c.Secret, 0
	}
	s.clients[c.ID] = c
	reply(w, http.StatusCreated, m)
}

func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	s.stats.Authorizations++
	q := r.URL.Query()
	if s.knobs.RequirePush {
		if q = s.pushedLocked(q); q == nil {
			http.Error(w, "no such request_uri, or more than that", http.StatusBadRequest)
			return
		}
	}
	s.last = q
	c := s.clients[q.Get("client_id")]
	if id := q.Get("client_id"); c == nil && s.knobs.MetadataDocument && strings.HasPrefix(id, "https://") {
		c = &Client{ID: id, Method: "none", RedirectURIs: []string{q.Get("redirect_uri")}}
		s.clients[id] = c
	}
	if c == nil || !slices.Contains(c.RedirectURIs, q.Get("redirect_uri")) {
		http.Error(w, "unknown client or redirect URI", http.StatusBadRequest) // and never a redirect (RFC 6749 section 4.1.2.1)
		return
	}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "redirect URI", http.StatusBadRequest)
		return
	}
	a := url.Values{"state": {q.Get("state")}}
	if !s.knobs.NoIss {
		a.Set("iss", either(s.knobs.WrongIss, s.Issuer))
	}
	switch {
	case s.knobs.Deny != "":
		a.Set("error", s.knobs.Deny)
		a.Set("error_description", "the person said no to "+q.Get("state"))
	case q.Get("response_type") != "code", q.Get("code_challenge_method") != "S256", q.Get("code_challenge") == "", q.Get("state") == "":
		a.Set("error", "invalid_request")
	case q.Has("resource") && q.Get("resource") != s.resource():
		a.Set("error", "invalid_target")
	default:
		code, alive := s.secret("code-"), true
		s.codes[code] = &grant{client: c.ID, redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"),
			resource: q.Get("resource"), scope: q.Get("scope"), key: q.Get("dpop_jkt"), family: &alive}
		a.Set("code", code)
	}
	back.RawQuery = a.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// client authenticates the client of a token request.
func (s *Server) client(r *http.Request) *Client {
	if r.PostFormValue("client_assertion") != "" {
		return s.clientAssertion(r.PostForm)
	}
	id, secret, method := r.PostFormValue("client_id"), r.PostFormValue("client_secret"), "client_secret_post"
	if user, pass, ok := r.BasicAuth(); ok {
		var err1, err2 error
		id, err1 = url.QueryUnescape(user)
		secret, err2 = url.QueryUnescape(pass)
		if err1 != nil || err2 != nil || r.PostForm.Has("client_secret") {
			return nil
		}
		method = "client_secret_basic"
	} else if secret == "" {
		method = "none"
	}
	c := s.clients[id]
	if c == nil || c.Key != nil || c.Secret != secret || c.Method != "" && c.Method != method {
		return nil
	}
	return c
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if r.ParseForm() != nil {
		fail(w, http.StatusBadRequest, "invalid_request", "form")
		return
	}
	f := r.PostForm
	s.secrets = append(s.secrets, f["code_verifier"]...)
	grantType, k := f.Get("grant_type"), s.knobs
	switch grantType {
	case "authorization_code":
		s.stats.Codes++
	case "refresh_token":
		s.stats.Refreshes++
	case "client_credentials":
		s.stats.ClientCredentials++
	case grantTypeJWTBearer:
		s.stats.Assertions++
	}
	if k.TokenStatus != 0 {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(k.TokenStatus)
		fmt.Fprintf(w, "<p>broken: %s", f.Encode())
		return
	}
	if code := k.TokenError; code != "" || grantType == "refresh_token" && k.RefreshError != "" {
		fail(w, http.StatusBadRequest, either(code, k.RefreshError), "you sent "+f.Get("code")+f.Get("refresh_token")+f.Get("client_secret"))
		return
	}
	if grantType == grantTypeTokenExchange {
		s.exchange(w, f)
		return
	}
	key := ""
	if k.DPoP || r.Header.Get("DPoP") != "" {
		p, ok := s.proofLocked(w, r, strings.TrimSuffix(s.Issuer, "/")+"/token", "", func(code, why string) { fail(w, http.StatusBadRequest, code, why) })
		if !ok {
			return
		}
		key = p.Thumbprint
	}
	c := s.client(r)
	if c == nil && grantType == grantTypeJWTBearer && f.Get("client_id") == "" {
		c = &Client{} // the assertion says who it is (RFC 7521 section 4.1)
	}
	if c == nil {
		fail(w, http.StatusUnauthorized, "invalid_client", "unknown client or wrong authentication")
		return
	}
	if f.Has("resource") && f.Get("resource") != s.resource() {
		fail(w, http.StatusBadRequest, "invalid_target", "resource "+f.Get("resource"))
		return
	}
	switch grantType {
	case "authorization_code":
		g := s.codes[f.Get("code")]
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		if g == nil || g.spent || g.client != c.ID || g.redirect != f.Get("redirect_uri") || g.resource != f.Get("resource") ||
			g.key != key || g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) {
			fail(w, http.StatusBadRequest, "invalid_grant", "code")
			return
		}
		g.spent = true
		s.issue(w, *g, true)
	case "refresh_token":
		g := s.refresh[f.Get("refresh_token")]
		if g != nil && g.spent { // reuse ends the family (RFC 9700 section 4.14.2)
			*g.family = false
		}
		if g == nil || !*g.family || g.client != c.ID || g.key != key {
			fail(w, http.StatusBadRequest, "invalid_grant", "refresh token")
			return
		}
		g.spent = !k.KeepRefresh
		s.issue(w, *g, !k.KeepRefresh)
	case "client_credentials":
		alive := true
		s.issue(w, grant{client: c.ID, resource: f.Get("resource"), scope: f.Get("scope"), key: key, family: &alive}, false)
	case grantTypeJWTBearer:
		if !s.assertions[f.Get("assertion")] {
			fail(w, http.StatusBadRequest, "invalid_grant", "assertion "+f.Get("assertion"))
			return
		}
		alive := true
		s.issue(w, grant{client: c.ID, resource: f.Get("resource"), scope: f.Get("scope"), key: key, family: &alive}, false)
	case "urn:ietf:params:oauth:grant-type:device_code":
		s.deviceToken(w, c, f, key)
	default:
		fail(w, http.StatusBadRequest, "unsupported_grant_type", "")
	}
}

func (s *Server) issue(w http.ResponseWriter, g grant, refresh bool) {
	g.spent = false
	life := s.knobs.Lifetime
	if life == 0 {
		life = time.Hour
	}
	g.expires = s.now().Add(life)
	access := s.secret("at-")
	s.access[access] = &g
	m := map[string]any{"access_token": access, "token_type": "bearer", "scope": g.scope, "expires_in": int(life / time.Second)}
	if g.key != "" {
		m["token_type"] = "DPoP"
	}
	if x := s.knobs.ExpiresIn; x == "" {
		delete(m, "expires_in")
	} else if x != nil {
		m["expires_in"] = x
	}
	if refresh && !s.knobs.NoRefresh {
		rt, of := s.secret("rt-"), g
		s.refresh[rt] = &of
		m["refresh_token"] = rt
	}
	w.Header().Set("Cache-Control", "no-store")
	reply(w, http.StatusOK, m)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	s.stats.Revocations++
	if s.client(r) == nil {
		fail(w, http.StatusUnauthorized, "invalid_client", "")
		return
	}
	for _, m := range []map[string]*grant{s.refresh, s.access} {
		if g := m[r.PostFormValue("token")]; g != nil {
			*g.family = false
		}
	}
}

func (s *Server) resource() string { return either(s.knobs.ResourceName, s.Resource) }

// Guard protects next: it asks for a token and serves the resource's metadata (RFC
// 9728) at the well-known path. Mount it at the root of the resource's origin.
func (s *Server) Guard(next http.Handler) http.Handler {
	u, err := url.Parse(s.Resource)
	if err != nil {
		panic("oauthtest: resource is not a URL")
	}
	well := "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.Path, "/")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		k, resource := s.knobs, s.resource()
		s.mu.Unlock()
		if r.URL.Path == well && !k.NoResourceMetadata {
			m := map[string]any{"resource": resource, "authorization_servers": []string{s.Issuer}}
			if k.ResourceScopes != nil {
				m["scopes_supported"] = k.ResourceScopes
			}
			reply(w, http.StatusOK, m)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			http.NotFound(w, r)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		scope, ok := s.Check(token)
		want, code, why := "Bearer", "invalid_token", "no such token: "+token
		if k.DPoP {
			want = "DPoP"
		}
		if ok && scheme == "DPoP" {
			s.mu.Lock()
			var p Proof
			if p, ok = s.proofLocked(w, r, u.Scheme+"://"+r.Host+r.URL.Path, token, func(c, d string) { code, why = c, d }); ok {
				ok = p.Thumbprint == s.access[token].key
			}
			s.mu.Unlock()
		}
		link := ""
		if !k.NoResourceMetadata {
			link = fmt.Sprintf(", resource_metadata=%q", u.Scheme+"://"+u.Host+well)
		}
		switch {
		case !ok || scheme != want:
			s.mu.Lock()
			s.stats.Unauthorized++
			s.mu.Unlock()
			c := want + ` realm="mcp"` + link
			if k.ChallengeScope != "" {
				c += fmt.Sprintf(", scope=%q", k.ChallengeScope)
			}
			if token != "" {
				c += fmt.Sprintf(`, error=%q, error_description=%q`, code, why)
			}
			if !k.NoChallenge {
				w.Header().Set("WWW-Authenticate", c)
			}
			http.Error(w, "token wanted", http.StatusUnauthorized)
		case k.NeedScope != "" && !slices.Contains(strings.Fields(scope), k.NeedScope):
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(want+` error="insufficient_scope", scope=%q`, k.NeedScope)+link)
			http.Error(w, "more scope wanted", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, code, description string) {
	reply(w, status, map[string]string{"error": code, "error_description": description})
}
