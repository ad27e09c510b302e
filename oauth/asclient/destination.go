package asclient

import (
	"context"
	"net/http"
	"net/url"
)

// destination is the key of a context's value: the origin of the authorization server that the
// request goes to.
type destination struct{}

// toServer marks a request to u as one to the authorization server: for its metadata, or to one of
// its endpoints.
func toServer(ctx context.Context, u *url.URL) context.Context {
	return context.WithValue(ctx, destination{}, origin(u))
}

// ToServer reports whether a request that the RoundTrippers of a Client got goes to the
// authorization server. It is false for the metadata of the resource, and for what a redirect of
// another origin leads to.
func ToServer(req *http.Request) bool {
	marked, ok := req.Context().Value(destination{}).(string)
	return ok && marked == origin(req.URL)
}
