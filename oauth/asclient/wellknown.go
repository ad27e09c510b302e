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
// specification (Authorization Server Metadata Discovery). For an issuer with a path, more places
// follow, which the package comment explains. The last of them is the root, where the metadata may
// be that of another issuer.
func serverMetadataURLs(issuer *url.URL) []string {
	root := origin(issuer)
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	if path == "" {
		return []string{root + wellKnownServer, root + wellKnownOpenID}
	}
	list := []string{root + wellKnownServer + path, root + wellKnownOpenID + path,
		root + path + wellKnownOpenID, root + path + wellKnownServer}
	if strings.HasSuffix(issuer.EscapedPath(), "/") {
		list = append(list, root+wellKnownServer+path+"/", root+wellKnownOpenID+path+"/")
	}
	return append(list, root+wellKnownServer)
}

// absolute returns a URL that a peer named, for a request. Where it is no absolute URL, it is taken
// for one below base, or at base's origin if it begins with a slash. It is empty if that leads to
// another origin.
func absolute(rawURL, base string) string {
	u, err1 := url.Parse(rawURL)
	b, err2 := url.Parse(base)
	if rawURL == "" || err1 == nil && u.Scheme != "" || err2 != nil || b.Host == "" {
		return rawURL
	}
	if strings.HasPrefix(rawURL, b.Host+"/") { // the scheme was forgotten
		rawURL = "//" + rawURL
	}
	if u, err1 = url.Parse(rawURL); err1 != nil {
		return rawURL // which is refused by its name
	}
	b.Path, b.RawPath = strings.TrimSuffix(b.Path, "/")+"/", ""
	if u = b.ResolveReference(u); !SameOrigin(u, b) {
		return ""
	}
	return u.String()
}

// issuerAt returns the issuer that a resource names by the URL of its metadata. Any other URL is
// the issuer itself.
func issuerAt(rawURL string) string {
	for _, place := range []string{wellKnownServer, wellKnownOpenID} {
		if root, path, ok := strings.Cut(rawURL, place); ok && (path == "" || path[0] == '/') {
			return root + path
		}
	}
	return rawURL
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
