package asclient

import (
	"context"
	"net/http"
	"net/url"
)

// destinationKey is the key of a context's value: the destination of the request.
type destinationKey struct{}

// destination says what a request is for.
type destination struct {
	// server is the origin of the authorization server that the request goes to. It is empty for a
	// request for the metadata of the resource.
	server string
	// namedBy is the origin whose words led to the URL. It is nil if the person named it.
	namedBy *url.URL
}

// toServer marks a request to u as one to the authorization server: for its metadata, or to one of
// its endpoints. namedBy is the URL of the server that named u, or nil for the person.
func toServer(ctx context.Context, u, namedBy *url.URL) context.Context {
	return context.WithValue(ctx, destinationKey{}, destination{server: origin(u), namedBy: namedBy})
}

// ToServer reports whether a request that the RoundTrippers of a Client got goes to the
// authorization server. It is false for the metadata of the resource, and for what a redirect of
// another origin leads to.
func ToServer(req *http.Request) bool {
	d, ok := req.Context().Value(destinationKey{}).(destination)
	return ok && d.server == origin(req.URL)
}

// NamedBy says who named the URL of a request that the RoundTrippers of a Client got. It returns a
// URL of that server: the upstream, an authorization server whose metadata names an endpoint, or
// the server that redirects from another origin. It returns byPerson, and no URL, for a URL at an
// origin that was configured. For a request of no Client it returns neither.
func NamedBy(req *http.Request) (server *url.URL, byPerson bool) {
	if r := req.Response; r != nil { // this request follows the redirect r
		if r.Request == nil {
			return nil, false
		}
		if !SameOrigin(r.Request.URL, req.URL) {
			return r.Request.URL, false
		}
		return NamedBy(r.Request)
	}
	d, ok := req.Context().Value(destinationKey{}).(destination)
	return d.namedBy, ok && d.namedBy == nil
}

// namerOf returns who named an endpoint of s: a URL of the server that did, or nil for the person.
// An endpoint at the origin where the metadata of s lies was named by whoever named s.
func (w requester) namerOf(s Server, endpoint string) *url.URL {
	if s.Source == FromConfig {
		return nil
	}
	u, err1 := url.Parse(endpoint)
	home, err2 := url.Parse(s.ID())
	if s.Source == FromDefaults || err1 != nil || err2 != nil {
		return w.c.Upstream
	}
	if !SameOrigin(u, home) {
		return home
	}
	if w.isVouched(home) {
		return nil
	}
	return w.c.Upstream
}
