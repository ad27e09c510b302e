package oauthtest

import "time"

// Quirk is one way in which a login server, or the upstream in front of it, differs from a correct
// one: a row of [Quirks].
type Quirk struct {
	// Name says what is odd, in a few words.
	Name string
	// Seen says what kind of server does so.
	Seen string
	// Rules change answers. For each request, the first rule that fits counts.
	Rules []Rule
	// Knobs turns knobs of the server. It may be nil.
	Knobs func(*Knobs)
	// Home says where the authorization server lives.
	Home Home
	// Want is the right outcome. The zero Want means that all is well.
	Want Want
}

// Home says where the authorization server of a Quirk lives. The zero Home is an origin of its own,
// with an issuer without a path.
type Home struct {
	// Upstream puts the server at the upstream's origin.
	Upstream bool
	// Path is the path of the issuer, as in "/tenant" or "/".
	Path string
}

// Want is the right outcome of a Quirk.
type Want struct {
	// Refused is the code that the sign-in ends with. Empty means that the person is served: they
	// sign in, call, call after the token's expiry, call from a new process, sign out and in again.
	Refused string
	// With holds settings, as in "--resource none", with which the person is served. It stands
	// beside Refused: nothing is served without them.
	With string
	// Pages is how many login pages may be shown before the sign-out, or for one sign-in that is
	// refused. Zero means 1 for a person who is served, and none for a refusal.
	Pages int
	// Failures is how many of these calls may fail, because the server is broken for a moment.
	Failures int
}

// Place is what a request asks for.
type Place string

// The values of Rule.At.
const (
	// Anywhere is any place.
	Anywhere Place = ""
	// ResourceMetadata is each well-known path of RFC 9728 at the upstream's origin.
	ResourceMetadata Place = "resource metadata"
	// ServerMetadata is each path of RFC 8414 and of OpenID Connect Discovery at the authorization
	// server.
	ServerMetadata Place = "server metadata"
	// Register is dynamic registration (RFC 7591).
	Register Place = "register"
	// Push is the endpoint for pushed authorization requests (RFC 9126).
	Push Place = "push"
	// Authorize is the login page.
	Authorize Place = "authorize"
	// Token is the token endpoint, but for refreshes.
	Token Place = "token"
	// Refresh is the token endpoint, for refreshes.
	Refresh Place = "refresh"
	// Device is the endpoint for device authorization (RFC 8628).
	Device Place = "device"
	// Revoke is the endpoint for revocation (RFC 7009).
	Revoke Place = "revoke"
	// Upstream is the protected resource.
	Upstream Place = "upstream"
	// Elsewhere is every other path.
	Elsewhere Place = "elsewhere"
)

// Rule changes the answer to the requests that fit At, When, Skip and Times.
//
// A rule with Status, Body, Redirect or Reset answers instead of the server. With Acts, Set, Drop,
// or $answer in the Body, the server acts first, and the rule changes its answer.
//
// Body, Redirect and the values of Header and Set may hold variables, as in $issuer or
// ${request.state}:
//
//	issuer        the issuer of the authorization server
//	home          its origin
//	upstream      the URL of the upstream
//	origin        the upstream's origin
//	down          the origin of a host that refuses connections
//	metadata      the right metadata of the authorization server
//	request.NAME  the parameter, JSON member or fact NAME of the request
//	answer        the document that the server answered
//	answer.NAME   a member of it: a string without quotes, everything else as JSON
type Rule struct {
	// At is the place. The zero Place is any.
	At Place `json:",omitempty"`
	// When holds conditions. All of them must hold. A condition is "NAME" (the request has a
	// parameter or JSON member of that name, which is not empty), "NAME=VALUE" or "NAME~PART" (it
	// holds that part), each with "!" in front for the opposite. These names are facts of the
	// request:
	//
	//	http          the method
	//	host          the host, as in as.test
	//	path, query   those of the URL
	//	header.X      the header field X
	//	bearer        none, live, young (live, and less than 2 seconds old) or dead: the token sent
	//	access        live or dead: at Refresh, the last access token of the login
	//	registered.X  the member X of the last registration
	//	authorized.X  the parameter X of the last authorization request
	When []string `json:",omitempty"`
	// Skip is how many fitting requests are left alone before the rule counts. Times is for how
	// many it then counts; zero is for all.
	Skip  int `json:",omitempty"`
	Times int `json:",omitempty"`

	// Acts lets the server act first.
	Acts bool `json:",omitempty"`
	// Status is the status of the answer. Zero is the server's, or 200, or 302 for a Redirect.
	Status int `json:",omitempty"`
	// Header holds fields. An empty value removes a field.
	Header map[string]string `json:",omitempty"`
	// Type is the Content-Type. Empty is the server's, or JSON if the Body begins with a brace or a
	// bracket, or else HTML.
	Type string `json:",omitempty"`
	// Body is the body.
	Body string `json:",omitempty"`
	// Set sets JSON members of the answer: a path with dots, and the member as JSON.
	Set map[string]string `json:",omitempty"`
	// Drop removes JSON members of the answer: paths with dots.
	Drop []string `json:",omitempty"`
	// Redirect is the Location.
	Redirect string `json:",omitempty"`
	// Delay is how long the answer takes.
	Delay time.Duration `json:",omitempty"`
	// Truncate cuts the body after so many bytes, and closes the connection. Zero cuts nothing.
	Truncate int `json:",omitempty"`
	// Reset closes the connection without an answer.
	Reset bool `json:",omitempty"`
}

// Play makes the server follow rules, and no others. Play without rules heals it.
func (s *Server) Play(rules ...Rule) {
	s.locked(func() { s.script = script{rules: rules, met: make([]int, len(rules)), asked: s.script.asked} })
}

// Asked returns how many requests were made at a place, answered by the server or by a rule.
func (s *Server) Asked(at Place) (n int) {
	s.locked(func() { n = s.script.asked[at] })
	return n
}
