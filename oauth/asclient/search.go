package asclient

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// againTimeout is that of a metadata request to an origin that did not answer before.
const againTimeout = 5 * time.Second

// search is a discovery under way. It writes what it finds and tries to f.
type search struct {
	c *Client
	f *Finding
	// err is the first error of the network. It ends the discovery only if nothing is found.
	err error
	// silent has the origins that did not answer in time. The next wait for one of them is shorter.
	silent []string
}

// fetch fetches one document and notes the attempt. It reports false if there is none.
func (d *search) fetch(ctx context.Context, step, rawURL string) (document, bool) {
	u, err := url.Parse(rawURL)
	if err == nil {
		err = web{d.c}.allow(u)
	}
	if err != nil {
		// A server behind a TLS proxy names http URLs of itself. The well-known URLs are still
		// tried.
		d.f.Tried = append(d.f.Tried, Attempt{Step: step, URL: Quote(rawURL), Reason: "not requested: not an https URL"})
		return document{}, false
	}
	a := Attempt{Step: step, URL: cut(WithoutQuery(u))}
	if slices.Contains(d.silent, origin(u)) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, againTimeout)
		defer cancel()
	}
	doc, status, err := web{d.c}.getDocument(ctx, rawURL)
	a.Status = status
	if err != nil {
		a.Reason = err.Error()
	}
	d.f.Tried = append(d.f.Tried, a)
	d.c.log().Debug("metadata requested", "url", a.URL, "status", status, "err", err)
	if err != nil && status == 0 {
		d.err = cmp.Or(d.err, err)
		if isTimeout(err) {
			d.silent = append(d.silent, origin(u))
		}
	}
	return doc, err == nil && status/100 == 2
}

// failed makes the error of a discovery that found nothing. An error of the network is beneath it.
func (d *search) failed(what string) *DiscoveryError {
	e := &DiscoveryError{What: what, Tried: d.f.Tried, Err: d.err}
	if d.err != nil { // it stands at the end of the words
		e.Tried = slices.DeleteFunc(slices.Clone(e.Tried), func(a Attempt) bool { return a.Status == 0 && a.Reason == d.err.Error() })
	}
	return e
}

// reject says why the answer to the last attempt is not used.
func (f *Finding) reject(reason string) { f.Tried[len(f.Tried)-1].Reason = reason }

// voucher says who named an issuer that metadata is looked up by.
type voucher int

const (
	byResource voucher = iota // the resource metadata
	byPerson                  // the configuration
	byNobody                  // it is made of the upstream's origin
)

// findFirst sets f.Server to that of the first issuer whose metadata can be used. Servers that do
// not answer, and metadata that cannot be used, lead to the next one.
func (d *search) findFirst(ctx context.Context, issuers []string, by voucher) error {
	var refused error
	var partial Server // the first without a token endpoint
	issuers = slices.Compact(slices.Clone(issuers))
	for _, issuer := range issuers[:min(len(issuers), maxIssuers)] {
		s, err := d.findIssuer(ctx, issuer, by)
		if err == nil && s.TokenEndpoint != "" {
			d.f.Server = s
			return nil
		}
		if err == nil && partial.Issuer == "" {
			partial = s
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil && refused == nil {
			refused = err
		}
	}
	switch {
	case ctx.Err() != nil:
	case refused != nil:
		return refused
	case partial.Issuer != "":
		d.f.Server = partial
		return nil
	}
	return d.failed("authorization server metadata of " + cut(issuers[0]))
}

// findIssuer looks for the metadata of one issuer. The Server is zero if there is none. The error
// is a SignInError: there is some, but it is not used.
func (d *search) findIssuer(ctx context.Context, issuer string, by voucher) (Server, error) {
	u, err := url.Parse(issuer)
	if err == nil {
		err = web{d.c}.allow(u)
	}
	if err != nil {
		return Server{}, &SignInError{Stage: StageDiscovery, Server: cut(issuer), Code: CodeInsecureURL, Refused: true, Err: err}
	}
	namer := d.c.Upstream
	if by == byPerson {
		namer = nil
	}
	ctx = toServer(ctx, u, namer)
	var other, partial Server // the first with another issuer, and the first without a token endpoint
	for i, rawURL := range serverMetadataURLs(u) {
		doc, ok := d.fetch(ctx, StepServer, rawURL)
		if !ok {
			if ctx.Err() != nil {
				return Server{}, nil
			}
			continue
		}
		s, ok := readServer(doc, issuer, d.c.Certificate)
		doc.logOdd(d.c.log(), rawURL)
		if i == maxOwnPlaces && !sameIssuer(s.Issuer, issuer) { // the root belongs to another issuer
			d.f.reject("no metadata of this issuer")
			continue
		}
		if s.Issuer == "" && by != byResource {
			s.Issuer = issuer // nobody contradicts
		}
		switch {
		case !ok || s.Issuer == "":
			d.f.reject("no authorization server metadata")
		case sameIssuer(s.Issuer, issuer) && s.TokenEndpoint == "":
			partial = s
			d.f.reject("no token endpoint")
		case sameIssuer(s.Issuer, issuer):
			if s.Issuer != issuer {
				s.Named = issuer
			}
			err := d.checkEndpoints(&s, by)
			return s, err
		default:
			if other.Issuer == "" {
				other = s
			}
			d.f.reject("of issuer " + Quote(s.Issuer))
		}
	}
	if partial.Issuer != "" || other.Issuer == "" {
		return partial, nil
	}
	return d.underOtherName(issuer, other, by)
}

// underOtherName returns the server s if it may be used. It was looked up by issuer, and names
// another issuer.
func (d *search) underOtherName(issuer string, s Server, by voucher) (Server, error) {
	if !mayBeOf(s, by) {
		return Server{}, &SignInError{Stage: StageDiscovery, Server: cut(issuer), Code: CodeIssuerMismatch, Refused: true,
			Description: cut("metadata is of issuer " + s.Issuer)}
	}
	d.c.log().Info("the metadata names an issuer of its own", "url", cut(issuer), "issuer", cut(s.Issuer))
	if by == byPerson || isAt(s.TokenEndpoint, s.Issuer) {
		s.FoundAt = issuer
	} else { // the upstream must not pass for a server that does not get the code
		s.Issuer = issuer
	}
	err := d.checkEndpoints(&s, by)
	return s, err
}

// mayBeOf reports whether metadata may name another issuer than the one that it was looked up by.
// It may if the person vouches for where it lies.
//
// It also may if nobody named an issuer (MCP's revision of 2025-03-26). Then the upstream is free
// to name an issuer that is not its own, and the redirects of that issuer would pass for those of
// the upstream's server. So the code must at least not go elsewhere: the token endpoint is at the
// origin of that issuer. If it is at that of the authorization endpoint instead, the metadata may
// be used, but the issuer in it means nothing.
func mayBeOf(s Server, by voucher) bool {
	if by != byNobody {
		return by == byPerson
	}
	return !isTemplate(s.Issuer) && (isAt(s.TokenEndpoint, s.Issuer) || isAt(s.TokenEndpoint, s.AuthorizationEndpoint))
}

// checkEndpoints refuses metadata whose token endpoint is not to be requested, because every grant
// needs it. A revocation endpoint of that kind is dropped: a logout can do without. The other
// endpoints are checked when they are needed.
//
// An issuer at the upstream's origin is the upstream's own word, so nobody vouches for what it says
// of other servers. There the other endpoints that get secrets must be where the token endpoint is.
func (d *search) checkEndpoints(s *Server, by voucher) error {
	w := web{d.c}
	if by == byNobody || by == byResource && isAt(s.Issuer, d.c.Upstream.String()) {
		*s = s.Confined()
	}
	if s.RevocationEndpoint != "" && w.allowText(s.RevocationEndpoint) != nil {
		d.c.log().Debug("revocation endpoint is not used", "url", Quote(s.RevocationEndpoint))
		s.RevocationEndpoint = ""
	}
	if s.TokenEndpoint == "" {
		return nil
	}
	if err := w.allowText(s.TokenEndpoint); err != nil {
		return &SignInError{Stage: StageDiscovery, Server: s.Name(), Code: CodeInsecureURL, Refused: true,
			Err: fmt.Errorf("metadata: %w", err)}
	}
	return nil
}
