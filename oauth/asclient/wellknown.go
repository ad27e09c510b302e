package asclient

import (
	"net/url"
	"strings"
)

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
// specification (Authorization Server Metadata Discovery). The last place of an issuer with a path
// is not there. Gateways that forward a path, and nothing beside it, have the metadata there.
func serverMetadataURLs(issuer *url.URL) []string {
	root := origin(issuer)
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	if path == "" {
		return []string{root + wellKnownServer, root + wellKnownOpenID}
	}
	return []string{root + wellKnownServer + path, root + wellKnownOpenID + path,
		root + path + wellKnownOpenID, root + path + wellKnownServer}
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
