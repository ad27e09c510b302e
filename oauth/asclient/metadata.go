package asclient

import (
	"net/url"
	"slices"
	"strings"
)

// Resource is what we use of resource metadata (RFC 9728 section 2).
type Resource struct {
	// ID is the resource's identifier. It is empty for an upstream without metadata.
	ID string `json:"resource"`
	// Servers are the issuers of the authorization servers that the resource takes tokens of.
	Servers []string `json:"authorization_servers"`
	// Scopes are all scopes that the resource knows.
	Scopes []string `json:"scopes_supported"`
	// ProofAlgs are the algorithms of DPoP proofs that the resource takes.
	ProofAlgs []string `json:"dpop_signing_alg_values_supported"`
	// ProofRequired says that the resource takes no Bearer token.
	ProofRequired bool `json:"dpop_bound_access_tokens_required"`
}

// Server is what we use of authorization server metadata (RFC 8414 section 2). The many fields are
// the document's own: each is one keyword of it, and the whole is stored as it came.
type Server struct {
	// Issuer is empty for endpoints that were given by configuration; then ID tells servers apart.
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	RegistrationEndpoint  string `json:"registration_endpoint,omitempty"`
	RevocationEndpoint    string `json:"revocation_endpoint,omitempty"`
	// DeviceEndpoint is that of RFC 8628 section 4.
	DeviceEndpoint string   `json:"device_authorization_endpoint,omitempty"`
	Scopes         []string `json:"scopes_supported,omitempty"`
	// AuthMethods and AuthAlgs say how a client may authenticate at the token endpoint.
	AuthMethods []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	AuthAlgs    []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	// ProofAlgs are the algorithms of DPoP proofs that the server takes (RFC 9449 section 5.1).
	ProofAlgs []string `json:"dpop_signing_alg_values_supported,omitempty"`
	// PushEndpoint and PushRequired are those of RFC 9126 section 5.
	PushEndpoint string `json:"pushed_authorization_request_endpoint,omitempty"`
	PushRequired bool   `json:"require_pushed_authorization_requests,omitempty"`
	// ChallengeMethods are the methods of PKCE. Nil means that the metadata does not name any.
	ChallengeMethods []string `json:"code_challenge_methods_supported,omitempty"`
	// SendsIss says that each redirect names the issuer (RFC 9207).
	SendsIss bool `json:"authorization_response_iss_parameter_supported,omitempty"`
	// TakesMetadataDocument says that a client ID may be the URL of a client ID metadata document.
	TakesMetadataDocument bool `json:"client_id_metadata_document_supported,omitempty"`

	// Source is never taken from a peer.
	Source Source `json:"sallyport_source,omitempty"`
}

// Source says where a server's endpoints come from.
type Source string

const (
	// FromMetadata: the server's own metadata names them.
	FromMetadata Source = ""
	// FromConfig: they were given by configuration.
	FromConfig Source = "config"
	// FromDefaults: they are the endpoints that MCP's revision of 2025-03-26 assumes.
	FromDefaults Source = "defaults"
)

// ID tells servers apart. The credentials of one server are never used at another.
func (s Server) ID() string {
	if s.Source == FromConfig {
		return "endpoint " + s.TokenEndpoint
	}
	return s.Issuer
}

// Name returns the issuer, or else the token endpoint, for errors.
func (s Server) Name() string {
	if s.Issuer != "" {
		return cut(s.Issuer)
	}
	if u, err := url.Parse(s.TokenEndpoint); err == nil {
		return cut(WithoutQuery(u))
	}
	return "configured endpoints"
}

// Host returns the host and port of the token endpoint, for logs.
func (s Server) Host() string { return hostOf(s.TokenEndpoint) }

// CheckPKCE refuses a server that does not promise S256 (MCP, Authorization Code Protection). With
// assume, a server whose metadata does not mention PKCE will do.
func (s Server) CheckPKCE(assume bool) error {
	if s.Source != FromMetadata || slices.Contains(s.ChallengeMethods, "S256") || s.ChallengeMethods == nil && assume {
		return nil
	}
	e := &SignInError{Stage: StageDiscovery, Server: s.Name(), Code: CodePKCE, Refused: true,
		Description: "metadata lists no code_challenge_methods_supported"}
	if s.ChallengeMethods != nil {
		e.Description = "code_challenge_methods_supported lacks S256"
	}
	return e
}

// endpoints returns all endpoints that the metadata names.
func (s Server) endpoints() []string {
	all := []string{s.AuthorizationEndpoint, s.TokenEndpoint, s.RegistrationEndpoint, s.RevocationEndpoint,
		s.DeviceEndpoint, s.PushEndpoint}
	return slices.DeleteFunc(all, func(rawURL string) bool { return rawURL == "" })
}

const (
	wellKnownResource = "/.well-known/oauth-protected-resource"
	wellKnownServer   = "/.well-known/oauth-authorization-server"
	wellKnownOpenID   = "/.well-known/openid-configuration"
)

// resourceMetadataURLs returns where the metadata of upstream may be: at its well-known path, then
// at the well-known root (RFC 9728 section 3.1).
func resourceMetadataURLs(upstream *url.URL) []string {
	root := origin(upstream)
	path := strings.TrimSuffix(upstream.EscapedPath(), "/")
	if path == "" {
		return []string{root + wellKnownResource}
	}
	return []string{root + wellKnownResource + path, root + wellKnownResource}
}

// serverMetadataURLs returns where the metadata of issuer may be, in the order of the MCP
// specification (Authorization Server Metadata Discovery).
func serverMetadataURLs(issuer *url.URL) []string {
	root := origin(issuer)
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	if path == "" {
		return []string{root + wellKnownServer, root + wellKnownOpenID}
	}
	return []string{root + wellKnownServer + path, root + wellKnownOpenID + path, root + path + wellKnownOpenID}
}

// covers reports whether a resource identifier names upstream or a parent path of it.
func covers(resource string, upstream *url.URL) bool {
	r, err := url.Parse(resource)
	if err != nil || r.Fragment != "" || r.User != nil || !SameOrigin(r, upstream) {
		return false
	}
	if r.RawQuery != "" && r.RawQuery != upstream.RawQuery {
		return false
	}
	parent := strings.TrimSuffix(r.EscapedPath(), "/") + "/"
	return strings.HasPrefix(strings.TrimSuffix(upstream.EscapedPath(), "/")+"/", parent)
}
