package session

import (
	"net/http"

	"sallyport/oauth"
)

// sender adds to requests what does not depend on their route: the User-Agent, the cookies of the
// upstream, the permission to present the client certificate, and compression. It may be used
// concurrently.
type sender struct {
	// next is the route.
	next http.RoundTripper
	// userAgent is for requests that name none.
	userAgent string
	// cookies are those of the upstream. It is nil in the sender of every other origin.
	cookies *cookieJar
	// certificate is the client certificate.
	certificate *clientCertificate
	// toUpstream says that every request goes to the upstream's origin.
	toUpstream bool
}

// RoundTrip implements http.RoundTripper.
func (s *sender) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	toServer := oauth.ToServer(req)
	out := req.WithContext(req.Context())
	out.Header = req.Header.Clone()
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", s.userAgent)
	}
	if askForGzip(out) {
		defer func() {
			if err == nil {
				inflate(resp)
			}
		}()
	}
	// An authorization server at the upstream's origin is no part of the MCP session. So it gets
	// none of the session's cookies and sets none.
	if s.cookies == nil || toServer {
		return s.certificate.send(out, s.next, s.toUpstream || toServer)
	}
	s.cookies.add(out)
	resp, err = s.certificate.send(out, s.next, true)
	if err == nil {
		s.cookies.store(out.URL, resp)
	}
	return resp, err
}
