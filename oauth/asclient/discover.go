package asclient

import (
	"context"
	"net/url"
	"slices"
	"strings"
)

// maxIssuers is how many of a resource's authorization servers are looked up.
const maxIssuers = 4

// Finding is what discovery found. It comes beside an error too: then Tried says how far it got.
type Finding struct {
	// Resource is zero for an upstream without resource metadata.
	Resource Resource
	// Server is zero until FindServer has found it.
	Server Server
	// Tried holds each URL that was asked for, in order.
	Tried []Attempt
}

// Missing returns the error for something that the server's metadata does not have.
func (f Finding) Missing(what string) error {
	return &DiscoveryError{What: what + " in the metadata of " + f.Server.Name(), Tried: f.Tried}
}

// FindResource looks for the upstream's resource metadata (RFC 9728). hint is the URL that a
// challenge named; it may be empty. An upstream without any metadata is no error: then Resource is
// zero. Metadata of a resource that does not cover the upstream is passed over, and if there is no
// other, it is refused with CodeResourceMismatch. It is no error if the person named the resource
// (ResourceGiven), or vouches for a server (Issuer) that needs no resource metadata.
func (c *Client) FindResource(ctx context.Context, hint string) (Finding, error) {
	var f Finding
	d := &search{c: c, f: &f}
	hint = absolute(strings.TrimSpace(hint), origin(c.Upstream))
	places := resourceMetadataURLs(c.Upstream)
	own := places[0] // no other place can know better
	if hint != "" && !slices.Contains(places[:1], hint) {
		places = append([]string{hint}, slices.DeleteFunc(places, func(place string) bool { return place == hint })...)
	}
	var other Resource // one that does not cover the upstream
	for reply := range d.ask(ctx, StepResource, places) {
		if !reply.ok {
			continue
		}
		rawURL := reply.rawURL
		r, ok := readResource(reply.document, rawURL)
		reply.document.logOdd(c.log(), rawURL)
		if u, err := url.Parse(rawURL); !ok && len(r.Servers) > 0 && err == nil && SameOrigin(u, c.Upstream) {
			r.ID, ok = WithoutQuery(c.Upstream), true // the upstream's own word, and it can only mean itself
		}
		switch {
		case !ok:
			f.reject("no resource metadata")
		case covers(r.ID, c.Upstream):
			f.Resource = r
			return f, nil
		default:
			f.reject("of resource " + Quote(r.ID))
			other = r
		}
		if other.ID != "" && rawURL == own {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return f, d.failed("metadata")
	case other.ID != "" && c.ResourceGiven:
		f.Resource = other
	case c.Issuer != "":
		if other.ID != "" {
			c.log().Warn("resource metadata of another resource is not used", "resource", cut(other.ID))
		}
	case other.ID != "":
		return f, &SignInError{Stage: StageDiscovery, Server: WithoutQuery(c.Upstream), Code: CodeResourceMismatch,
			Description: cut("metadata names the resource " + other.ID), Refused: true}
	case d.err != nil:
		return f, d.failed("metadata")
	}
	return f, nil
}

// FindServer continues f with the metadata of an authorization server (RFC 8414, then OpenID
// Connect Discovery). It is that of Client.Issuer if that is set, else the first of the resource's
// servers that has any. The issuer in it must be the one that it was looked up by; a slash at the
// end makes no difference.
//
// A resource that names no server is one of MCP's revision of 2025-03-26: its server's metadata is
// at the upstream's origin, and may name any issuer. Without metadata, the server is at that
// origin, with the default endpoints.
func (c *Client) FindServer(ctx context.Context, f Finding) (Finding, error) {
	f.Server, f.Tried = Server{}, slices.Clone(f.Tried)
	d := &search{c: c, f: &f}
	switch {
	case c.Issuer != "":
		err := d.findFirst(ctx, []string{c.Issuer}, byPerson)
		return f, err
	case len(f.Resource.Servers) > 0:
		err := d.findFirst(ctx, f.Resource.Servers, byResource)
		return f, err
	}
	root := origin(c.Upstream)
	err := d.findFirst(ctx, []string{root}, byNobody)
	if _, missing := err.(*DiscoveryError); !missing || d.err != nil {
		return f, err
	}
	failed := slices.ContainsFunc(f.Tried, func(a Attempt) bool { return a.Status >= 500 })
	if f.Resource.ID != "" || failed {
		return f, err
	}
	f.Server = Server{Issuer: root, Source: FromDefaults,
		AuthorizationEndpoint: root + "/authorize", TokenEndpoint: root + "/token", RegistrationEndpoint: root + "/register"}
	return f, nil
}
