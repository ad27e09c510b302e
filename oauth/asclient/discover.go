package asclient

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
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
// zero. A resource that does not cover the upstream is refused with CodeResourceMismatch.
func (c *Client) FindResource(ctx context.Context, hint string) (Finding, error) {
	var f Finding
	places := resourceMetadataURLs(c.Upstream)
	if hint != "" && !slices.Contains(places[:1], hint) {
		places = append([]string{hint}, places...)
	}
	for _, rawURL := range places {
		var r Resource
		ok, err := search{c, &f}.try(ctx, StepResource, rawURL, &r)
		if err != nil {
			return f, err
		}
		if !ok {
			continue
		}
		if !covers(r.ID, c.Upstream) {
			f.reject("of resource " + Quote(r.ID))
			return f, &SignInError{Stage: StageDiscovery, Server: WithoutQuery(c.Upstream), Code: CodeResourceMismatch,
				Description: cut("metadata names the resource " + r.ID), Refused: true}
		}
		f.Resource = r
		return f, nil
	}
	return f, nil
}

// FindServer continues f with the metadata of the resource's first authorization server that has
// any (RFC 8414, then OpenID Connect Discovery). Its issuer must be identical to the one that it
// was looked up by.
//
// A resource that names no server is one of MCP's revision of 2025-03-26: its server is at the
// upstream's origin, with the default endpoints if there is no metadata either.
func (c *Client) FindServer(ctx context.Context, f Finding) (Finding, error) {
	f.Server, f.Tried = Server{}, slices.Clone(f.Tried)
	issuers := f.Resource.Servers
	firstRevision := len(issuers) == 0
	if firstRevision {
		issuers = []string{origin(c.Upstream)}
	}
	mismatch := ""
	for _, issuer := range issuers[:min(len(issuers), maxIssuers)] {
		other, err := search{c, &f}.findIssuer(ctx, issuer, firstRevision)
		if err != nil || f.Server.Issuer != "" {
			return f, err
		}
		if other != "" {
			mismatch = other
		}
	}
	if mismatch != "" {
		return f, &SignInError{Stage: StageDiscovery, Server: cut(issuers[0]), Code: CodeIssuerMismatch, Refused: true,
			Description: cut("metadata is of issuer " + mismatch)}
	}
	failed := slices.ContainsFunc(f.Tried, func(a Attempt) bool { return a.Status >= 500 })
	if !firstRevision || f.Resource.ID != "" || failed {
		return f, &DiscoveryError{What: "authorization server metadata of " + cut(issuers[0]), Tried: f.Tried}
	}
	root := origin(c.Upstream)
	f.Server = Server{Issuer: root, Source: FromDefaults,
		AuthorizationEndpoint: root + "/authorize", TokenEndpoint: root + "/token", RegistrationEndpoint: root + "/register"}
	return f, nil
}

// search is a discovery under way. It writes what it finds and tries to f.
type search struct {
	c *Client
	f *Finding
}

// findIssuer looks for the metadata of one issuer. mismatch is the issuer of
// metadata that was found but is another's.
func (d search) findIssuer(ctx context.Context, issuer string, firstRevision bool) (mismatch string, err error) {
	u, err := url.Parse(issuer)
	if err == nil {
		err = web{d.c}.allow(u)
	}
	if err != nil {
		return "", &SignInError{Stage: StageDiscovery, Server: cut(issuer), Code: CodeInsecureURL, Refused: true, Err: err}
	}
	ctx = toServer(ctx, u)
	for _, rawURL := range serverMetadataURLs(u) {
		var s Server
		ok, err := d.try(ctx, StepServer, rawURL, &s)
		if err != nil {
			return "", err
		}
		if !ok {
			continue
		}
		// An issuer that we made of an origin has no slash to be identical with.
		if s.Issuer != issuer && !(firstRevision && s.Issuer == issuer+"/") {
			mismatch = s.Issuer
			d.f.reject("of issuer " + Quote(s.Issuer))
			continue
		}
		s.Source = FromMetadata
		d.f.Server = s
		return "", d.checkEndpoints(s)
	}
	return mismatch, nil
}

// reject says why the answer to the last attempt is not used.
func (f *Finding) reject(reason string) { f.Tried[len(f.Tried)-1].Reason = reason }

// try fetches one document and notes the attempt. ok says that it is there. The error is one
// of the network; it ends discovery, because another place would only hide it.
func (d search) try(ctx context.Context, step, rawURL string, v any) (ok bool, err error) {
	u, err := url.Parse(rawURL)
	if err == nil {
		err = web{d.c}.allow(u)
	}
	if err != nil {
		// A server behind a TLS proxy names http URLs of itself. The well-known ones may do.
		d.f.Tried = append(d.f.Tried, Attempt{Step: step, URL: Quote(rawURL), Reason: "not requested: not an https URL"})
		return false, nil
	}
	status, err := web{d.c}.getJSON(ctx, rawURL, v)
	a := Attempt{Step: step, URL: cut(WithoutQuery(u)), Status: status}
	if err != nil {
		a.Reason = err.Error()
	}
	d.f.Tried = append(d.f.Tried, a)
	d.c.log().Debug("metadata requested", "url", a.URL, "status", status, "err", err)
	if err != nil && status == 0 {
		return false, &DiscoveryError{What: "metadata", Tried: d.f.Tried[:len(d.f.Tried)-1], Err: err}
	}
	return err == nil && status == http.StatusOK, nil
}

// checkEndpoints refuses metadata that names endpoints that we will not use.
func (d search) checkEndpoints(s Server) error {
	for _, rawURL := range s.endpoints() {
		u, err := url.Parse(rawURL)
		if err == nil {
			err = web{d.c}.allow(u)
		}
		if err != nil {
			return &SignInError{Stage: StageDiscovery, Server: s.Name(), Code: CodeInsecureURL, Refused: true,
				Err: fmt.Errorf("metadata: %w", err)}
		}
	}
	return nil
}
