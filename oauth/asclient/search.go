package asclient

import (
	"context"
	"net/url"
	"slices"
	"strings"
)

// search is a discovery under way. It writes what it finds and tries to f.
type search struct {
	c *Client
	f *Finding
	// err is the first error of the network. It ends the discovery only if nothing is found.
	err error
	// silent has the origins that did not answer in time. The next wait for one of them is shorter.
	silent []string
	// pauses are those for servers that were busy.
	pauses pauses
	// hurried says that there is another server to ask, so that this one is not waited for long.
	hurried bool
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
	issuers = d.usable(issuers)
	for i, issuer := range issuers {
		d.hurried = i+1 < len(issuers)
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

// usable returns the distinct issuers that may be asked, maxIssuers at most. If there is none, it
// returns the first, whose error says why.
func (d *search) usable(issuers []string) []string {
	var list []string
	for _, issuer := range issuers {
		if (requester{d.c}).allowText(issuer) == nil && !slices.Contains(list, issuer) {
			list = append(list, issuer)
		}
	}
	if len(list) == 0 {
		return issuers[:1]
	}
	return list[:min(len(list), maxIssuers)]
}

// findIssuer looks for the metadata of one issuer. The Server is zero if there is none. The error
// is a SignInError: there is some, but it is not used.
func (d *search) findIssuer(ctx context.Context, issuer string, by voucher) (Server, error) {
	u, err := url.Parse(issuer)
	if err == nil {
		err = requester{d.c}.allow(u)
	}
	if err != nil {
		return Server{}, &SignInError{Stage: StageDiscovery, Server: cut(issuer), Code: CodeInsecureURL, Refused: true,
			Cleartext: isCleartext(issuer), Err: err}
	}
	namer := d.c.Upstream
	if by == byPerson {
		namer = nil
	}
	ctx = toServer(ctx, u, namer)
	var other, partial Server // the first with another issuer, and the first without a token endpoint
	places := serverMetadataURLs(u)
	for r := range d.ask(ctx, StepServer, places) {
		s, ok := d.readServer(r, issuer)
		if !r.ok {
			continue
		}
		if r.rawURL == places[len(places)-1] && len(places) > 2 && !sameIssuer(s.Issuer, issuer) { // the root belongs to another issuer
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
			d.complete(ctx, &s, r.rawURL, places)
			err := d.checkEndpoints(&s, by)
			return s, err
		default:
			if other.Issuer == "" {
				other = s
			}
			d.f.reject("of issuer " + Quote(s.Issuer))
		}
	}
	if ctx.Err() != nil {
		return Server{}, nil
	}
	if partial.Issuer != "" || other.Issuer == "" {
		return partial, nil
	}
	return d.underOtherName(issuer, other, by)
}

// readServer reads authorization server metadata from the answer of a place.
func (d *search) readServer(r placeAnswer, issuer string) (Server, bool) {
	if !r.ok {
		return Server{}, false
	}
	s, ok := readServer(r.document, issuer, d.c.Certificate)
	r.document.logOdd(d.c.log(), r.rawURL)
	return s, ok
}

// complete adds to s what its metadata at the URL from lacks, if it is in the OpenID document of
// the same issuer with the same token endpoint: a registration endpoint at the same origin, and the
// methods of PKCE. Neither leads a secret anywhere else.
func (d *search) complete(ctx context.Context, s *Server, from string, places []string) {
	if s.RegistrationEndpoint != "" && len(s.ChallengeMethods) > 0 || strings.Contains(from, wellKnownOpenID) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stallTime)
	defer cancel()
	for _, rawURL := range places {
		if !strings.Contains(rawURL, wellKnownOpenID) {
			continue
		}
		r := d.fetch(ctx, StepServer, rawURL, replyTimeout)
		r.err = nil // nothing depends on it
		d.note(r)
		more, ok := d.readServer(r, s.Issuer)
		if !ok || !sameIssuer(more.Issuer, s.Issuer) || more.TokenEndpoint != s.TokenEndpoint {
			continue
		}
		if s.RegistrationEndpoint == "" && (isAt(more.RegistrationEndpoint, s.TokenEndpoint) || isAt(more.RegistrationEndpoint, s.Issuer)) {
			s.RegistrationEndpoint = more.RegistrationEndpoint
		}
		if len(s.ChallengeMethods) == 0 {
			s.ChallengeMethods = more.ChallengeMethods
		}
		return
	}
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
	w := requester{d.c}
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
	return w.usable(StageDiscovery, *s, s.TokenEndpoint)
}
