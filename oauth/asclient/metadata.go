package asclient

import (
	"cmp"
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
	Issuer string `json:"issuer"`
	// FoundAt is the issuer that this metadata was looked up by. It is empty if that is Issuer, but
	// for a slash at the end. Otherwise nothing but this metadata vouches for Issuer.
	FoundAt string `json:"sallyport_found_at,omitempty"`
	// Named is Issuer as others write it, if they write it with a slash more or less at its end.
	Named                 string `json:"sallyport_named,omitempty"`
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
	// ChallengeMethods are the methods of PKCE. The metadata of some servers names none.
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

// ID tells servers apart. The credentials of one server are never used at another. A slash at the
// end of an issuer makes no difference.
func (s Server) ID() string {
	switch {
	case s.Source == FromConfig:
		return "endpoint " + s.TokenEndpoint
	case s.FoundAt != "":
		return strings.TrimSuffix(s.FoundAt, "/")
	}
	return strings.TrimSuffix(s.Issuer, "/")
}

// Audience is how an assertion for s names it: by the issuer, or by FoundAt if nothing but the
// metadata vouches for the issuer. For endpoints that were given by configuration it is the token
// endpoint.
func (s Server) Audience() string { return cmp.Or(s.FoundAt, s.Issuer, s.TokenEndpoint) }

// IssIsProof reports whether the parameter iss of a redirect (RFC 9207) proves which server the
// browser was at: each redirect has it, and the issuer was named by somebody else than the metadata
// itself. Without such a proof, a code may be one of another server (RFC 9700 section 4.4).
func (s Server) IssIsProof() bool { return s.SendsIss && s.Source == FromMetadata && s.FoundAt == "" }

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
	isS256 := func(method string) bool { return strings.EqualFold(method, "S256") }
	if s.Source != FromMetadata || slices.ContainsFunc(s.ChallengeMethods, isS256) || len(s.ChallengeMethods) == 0 && assume {
		return nil
	}
	e := &SignInError{Stage: StageDiscovery, Server: s.Name(), Code: CodePKCE, Refused: true,
		Description: "metadata lists no code_challenge_methods_supported"}
	if len(s.ChallengeMethods) > 0 {
		e.Description = "code_challenge_methods_supported lacks S256"
	}
	return e
}

// readResource reads resource metadata of the URL base. It reports false for a document that is
// none.
func readResource(d document, base string) (Resource, bool) {
	r := Resource{
		ID:            d.link("resource"),
		Servers:       d.servers("authorization_servers", base),
		Scopes:        d.list("scopes_supported"),
		ProofAlgs:     d.list("dpop_signing_alg_values_supported"),
		ProofRequired: d.flag("dpop_bound_access_tokens_required"),
	}
	if strings.HasPrefix(r.ID, "/") {
		r.ID = absolute(r.ID, base)
	}
	return r, r.ID != ""
}

// readServer reads authorization server metadata. It reports false for a document that is none.
// With aliases, the endpoints for clients with a TLS certificate (RFC 8705 section 5) replace the
// others. An endpoint that is no absolute URL is one of the issuer that the document was looked up
// by.
func readServer(d document, issuer string, aliases bool) (Server, bool) {
	s := Server{
		Issuer:                d.link("issuer"),
		Scopes:                d.list("scopes_supported"),
		AuthMethods:           d.list("token_endpoint_auth_methods_supported"),
		AuthAlgs:              d.list("token_endpoint_auth_signing_alg_values_supported"),
		ProofAlgs:             d.list("dpop_signing_alg_values_supported"),
		PushRequired:          d.flag("require_pushed_authorization_requests"),
		ChallengeMethods:      d.list("code_challenge_methods_supported"),
		SendsIss:              d.flag("authorization_response_iss_parameter_supported"),
		TakesMetadataDocument: d.flag("client_id_metadata_document_supported"),
		AuthorizationEndpoint: absolute(d.link("authorization_endpoint"), issuer),
	}
	alias, ok := readDocument(d.member("mtls_endpoint_aliases"))
	aliases = aliases && ok
	endpoint := func(name string) string {
		if aliases {
			return absolute(cmp.Or(alias.link(name), d.link(name)), issuer)
		}
		return absolute(d.link(name), issuer)
	}
	s.TokenEndpoint = endpoint("token_endpoint")
	s.RegistrationEndpoint = endpoint("registration_endpoint")
	s.RevocationEndpoint = endpoint("revocation_endpoint")
	s.DeviceEndpoint = endpoint("device_authorization_endpoint")
	s.PushEndpoint = endpoint("pushed_authorization_request_endpoint")
	return s, s.Issuer != "" || s.TokenEndpoint != ""
}
