package relay

import (
	"net/http"
	"net/url"
	"strings"
)

// userHeader returns a copy of the header that the user wants in every request, with room for the protocol's own. These are set
// after it, so that the user's cannot break the protocol.
func (r *run) userHeader() http.Header {
	h := make(http.Header, len(r.cfg.Header)+8)
	for k, v := range r.cfg.Header {
		h[k] = v
	}
	return h
}

// mediaType returns the type of a body without its parameters, in lower case.
func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// sameOrigin compares scheme, host and port (RFC 6454, section 4).
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// port returns the port of u, also if that does not name it.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// where is u for people. User, query and fragment may be secret, and are left out.
func where(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
