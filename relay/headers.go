package relay

import (
	"net/http"
	"net/url"
	"strings"
)

// header returns the headers of one request in sess (streamable HTTP of 2025-03-26 and later). The user's own come
// first, so that they cannot break the protocol's.
func (l *legacy) header(method string, sess upstreamSession, lastEventID string) http.Header {
	h := make(http.Header, len(l.s.cfg.Header)+5)
	for k, v := range l.s.cfg.Header {
		h[k] = v
	}
	switch method {
	case http.MethodPost:
		h["Content-Type"] = []string{"application/json"}
		h["Accept"] = []string{"application/json, text/event-stream"}
	case http.MethodGet:
		h["Accept"] = []string{"text/event-stream"}
	}
	if sess.id != "" {
		h["Mcp-Session-Id"] = []string{sess.id}
	}
	if v := sess.version; v != "" {
		h["Mcp-Protocol-Version"] = []string{v}
	} else if v := l.s.cfg.ProtocolVersion; v != "" {
		h["Mcp-Protocol-Version"] = []string{v}
	}
	if lastEventID != "" {
		h["Last-Event-Id"] = []string{lastEventID}
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

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// where is u for people: without user, query and fragment.
func where(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
