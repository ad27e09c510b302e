package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// challenge is one challenge of a WWW-Authenticate header (RFC 9110 section 11.6.1).
type challenge struct {
	scheme string            // lower case
	params map[string]string // names in lower case; the first of a repeated one
}

// parseChallenges reads WWW-Authenticate values. It takes what it understands and
// passes over the rest: a malformed challenge beside ours must not hide ours.
func parseChallenges(values []string) []challenge {
	var all []challenge
	for _, v := range values {
		var cur *challenge
		for {
			v = strings.TrimLeft(v, " \t,")
			if v == "" {
				break
			}
			name, rest := cutToken(v)
			if name == "" { // not a token: skip to the next element
				_, v, _ = strings.Cut(v, ",")
				continue
			}
			after := strings.TrimLeft(rest, " \t")
			if cur != nil && strings.HasPrefix(after, "=") {
				var value string
				value, v = cutValue(strings.TrimLeft(after[1:], " \t"))
				if name = strings.ToLower(name); !hasKey(cur.params, name) {
					cur.params[name] = value
				}
				continue
			}
			all = append(all, challenge{strings.ToLower(name), make(map[string]string)})
			cur = &all[len(all)-1]
			v = skipToken68(rest)
		}
	}
	return all
}

func hasKey(m map[string]string, k string) bool { _, ok := m[k]; return ok }

// cutToken cuts a token (RFC 9110 section 5.6.2) off the front.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts a quoted string or, generously, everything up to a comma or space.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, ", \t"); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// skipToken68 passes over the token68 that may follow a scheme ("Negotiate YWJj==").
func skipToken68(s string) string {
	t := strings.TrimLeft(s, " \t")
	end := strings.IndexAny(t, ", \t")
	if end < 0 {
		end = len(t)
	}
	if strings.Contains(strings.TrimRight(t[:end], "="), "=") || strings.Contains(t[:end], `"`) {
		return s // name=value
	}
	if next := strings.TrimLeft(t[end:], " \t"); next != "" && next[0] != ',' {
		return s // name = value
	}
	return t[end:]
}

// tokenChallenge returns the parameters of the Bearer (RFC 6750 section 3) or DPoP (RFC
// 9449 section 7.1) challenge of an answer, the one that names metadata first; nil without one.
func tokenChallenge(h http.Header) map[string]string {
	var found map[string]string
	for _, c := range parseChallenges(h.Values("WWW-Authenticate")) {
		if (c.scheme == "bearer" || c.scheme == "dpop") && (found == nil || found["resource_metadata"] == "" && c.params["resource_metadata"] != "") {
			found = c.params
		}
	}
	return found
}

// resource is what we use of resource metadata (RFC 9728 section 2).
type resource struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`

	ProofAlgs     []string `json:"dpop_signing_alg_values_supported"`
	ProofRequired bool     `json:"dpop_bound_access_tokens_required"`
}

// server is what we use of authorization server metadata (RFC 8414 section 2).
type server struct {
	Issuer                string   `json:"issuer"` // of configured endpoints: "", then Key tells them apart
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	RegistrationEndpoint  string   `json:"registration_endpoint,omitempty"`
	RevocationEndpoint    string   `json:"revocation_endpoint,omitempty"`
	DeviceEndpoint        string   `json:"device_authorization_endpoint,omitempty"` // RFC 8628 section 4
	Scopes                []string `json:"scopes_supported,omitempty"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	AuthAlgs              []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	ProofAlgs             []string `json:"dpop_signing_alg_values_supported,omitempty"`     // RFC 9449 section 5.1
	PushEndpoint          string   `json:"pushed_authorization_request_endpoint,omitempty"` // RFC 9126 section 5
	PushRequired          bool     `json:"require_pushed_authorization_requests,omitempty"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported,omitempty"`
	SendsIss              bool     `json:"authorization_response_iss_parameter_supported,omitempty"`
	TakesMetadataDocument bool     `json:"client_id_metadata_document_supported,omitempty"`

	Source source `json:"sallyport_source,omitempty"` // never from a peer
}

// source is where a server's endpoints come from.
type source string

const (
	fromMetadata source = ""
	fromConfig   source = "config"
	fromDefaults source = "defaults" // the endpoints of 2025-03-26
)

// id tells servers apart; credentials of one are never used at another.
func (s server) id() string {
	if s.Source == fromConfig {
		return "endpoint " + s.TokenEndpoint
	}
	return s.Issuer
}

// name is for errors: the issuer, else the token endpoint.
func (s server) name() string {
	if s.Issuer != "" {
		return cut(s.Issuer)
	}
	if u, err := url.Parse(s.TokenEndpoint); err == nil {
		return cut(withoutQuery(u))
	}
	return "configured endpoints"
}

const (
	wellKnownResource = "/.well-known/oauth-protected-resource"
	wellKnownServer   = "/.well-known/oauth-authorization-server"
	wellKnownOpenID   = "/.well-known/openid-configuration"
)

// resourceMetadataURLs returns where the metadata of upstream may be: its well-known
// path, then the root (RFC 9728 section 3.1).
func resourceMetadataURLs(upstream *url.URL) []string {
	o := origin(upstream).String()
	path := strings.TrimSuffix(upstream.EscapedPath(), "/")
	if path == "" {
		return []string{o + wellKnownResource}
	}
	return []string{o + wellKnownResource + path, o + wellKnownResource}
}

// serverMetadataURLs returns where the metadata of issuer may be, in the order of the
// MCP specification (Authorization Server Metadata Discovery).
func serverMetadataURLs(issuer *url.URL) []string {
	o := origin(issuer).String()
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	if path == "" {
		return []string{o + wellKnownServer, o + wellKnownOpenID}
	}
	return []string{o + wellKnownServer + path, o + wellKnownOpenID + path, o + path + wellKnownOpenID}
}

// covers reports whether a resource identifier names upstream or a parent path of it.
func covers(resource string, upstream *url.URL) bool {
	r, err := url.Parse(resource)
	if err != nil || r.Fragment != "" || r.User != nil || !sameOrigin(r, upstream) {
		return false
	}
	if r.RawQuery != "" && r.RawQuery != upstream.RawQuery {
		return false
	}
	parent := strings.TrimSuffix(r.EscapedPath(), "/") + "/"
	return strings.HasPrefix(strings.TrimSuffix(upstream.EscapedPath(), "/")+"/", parent)
}

// finding is the outcome of discovery.
type finding struct {
	resource resource // zero for an upstream without resource metadata
	server   server
	tried    []Attempt
}

// discover finds the upstream's resource and authorization server. hint is the
// challenge's resource_metadata, "" none; code says that the authorization endpoint is
// needed as well.
func (t *Transport) discover(ctx context.Context, hint string, code bool) (finding, error) {
	c := &t.cfg
	given := c.Endpoints.TokenURL != "" && (c.Endpoints.AuthorizationURL != "" || !code) && c.Grant != GrantDeviceCode
	if c.Endpoints.NoDiscovery && !given {
		return finding{}, &DiscoveryError{What: "endpoints: discovery is off and they are not given"}
	}
	var f finding
	if !c.Endpoints.NoDiscovery {
		err := t.findResource(ctx, hint, &f)
		if given && err != nil && ctx.Err() == nil {
			// Only scope and resource are missed, and these may well not be needed.
			c.Log.Info("resource metadata is not used", "host", c.Upstream.Host, "err", err)
		} else if err != nil {
			return f, err
		}
	}
	if !given {
		if err := t.findServer(ctx, &f); err != nil {
			return f, err
		}
	} else {
		f.server.Source = fromConfig
	}
	if c.Endpoints.TokenURL != "" {
		f.server.TokenEndpoint = c.Endpoints.TokenURL
	}
	if c.Endpoints.AuthorizationURL != "" {
		f.server.AuthorizationEndpoint = c.Endpoints.AuthorizationURL
	}
	return f, nil
}

// findResource fills f.resource, which stays zero if there is no resource metadata at all.
func (t *Transport) findResource(ctx context.Context, hint string, f *finding) error {
	links := resourceMetadataURLs(t.cfg.Upstream)
	if hint != "" && !slices.Contains(links[:1], hint) {
		links = append([]string{hint}, links...)
	}
	for _, link := range links {
		var r resource
		ok, err := t.try(ctx, link, &r, f)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if !covers(r.Resource, t.cfg.Upstream) {
			return &SignInError{Stage: StageDiscovery, Server: withoutQuery(t.cfg.Upstream), Code: CodeResourceMismatch, Refused: true,
				Description: "metadata names the resource " + r.Resource}
		}
		f.resource = r
		return nil
	}
	return nil
}

// findServer fills f.server from the metadata of the resource's authorization
// servers, or, without resource metadata, as 2025-03-26 has it.
func (t *Transport) findServer(ctx context.Context, f *finding) error {
	old := len(f.resource.Servers) == 0
	issuers := f.resource.Servers
	if old {
		issuers = []string{origin(t.cfg.Upstream).String()}
	}
	mismatch := ""
	for _, issuer := range issuers[:min(len(issuers), 4)] {
		u, err := url.Parse(issuer)
		if err == nil {
			err = t.wire.allow(u)
		}
		if err != nil {
			return &SignInError{Stage: StageDiscovery, Server: cut(issuer), Code: CodeInsecureURL, Refused: true, Err: err}
		}
		for _, link := range serverMetadataURLs(u) {
			var s server
			ok, err := t.try(ctx, link, &s, f)
			if err != nil {
				return err
			}
			// An issuer that we derived from an origin has no slash to be identical with.
			same := s.Issuer == issuer || old && s.Issuer == issuer+"/"
			if ok && !same {
				mismatch = s.Issuer
				f.tried[len(f.tried)-1].Reason = "of issuer " + quote(s.Issuer)
			}
			if ok && same {
				s.Source = fromMetadata
				f.server = s
				return t.checkServer(s)
			}
		}
	}
	if mismatch != "" {
		return &SignInError{Stage: StageDiscovery, Server: cut(issuers[0]), Code: CodeIssuerMismatch, Refused: true,
			Description: "metadata is of issuer " + mismatch}
	}
	failed := slices.ContainsFunc(f.tried, func(a Attempt) bool { return a.Status >= 500 })
	if !old || f.resource.Resource != "" || failed {
		return &DiscoveryError{What: "authorization server metadata of " + cut(issuers[0]), Tried: f.tried}
	}
	o := origin(t.cfg.Upstream).String()
	f.server = server{Issuer: o, Source: fromDefaults,
		AuthorizationEndpoint: o + "/authorize", TokenEndpoint: o + "/token", RegistrationEndpoint: o + "/register"}
	return nil
}

// try fetches one document and notes the attempt in f. ok: it is there. The error is
// of the network, and ends discovery: another place would only hide it.
func (t *Transport) try(ctx context.Context, link string, v any, f *finding) (ok bool, err error) {
	u, err := url.Parse(link)
	if err == nil {
		err = t.wire.allow(u)
	}
	if err != nil { // servers behind a TLS proxy name http URLs of themselves; the well-known ones may do
		f.tried = append(f.tried, Attempt{URL: quote(link), Reason: "not requested: not an https URL"})
		return false, nil
	}
	status, err := t.wire.getJSON(ctx, link, v)
	a := Attempt{URL: cut(withoutQuery(u)), Status: status}
	if err != nil {
		a.Reason = err.Error()
	}
	f.tried = append(f.tried, a)
	t.cfg.Log.Debug("metadata requested", "url", a.URL, "status", status, "err", err)
	if err != nil && status == 0 {
		return false, &DiscoveryError{What: "metadata", Tried: f.tried[:len(f.tried)-1], Err: err}
	}
	return err == nil && status == http.StatusOK, nil
}

// checkServer refuses metadata that names endpoints we will not use.
func (t *Transport) checkServer(s server) error {
	for _, link := range []string{s.AuthorizationEndpoint, s.TokenEndpoint, s.RegistrationEndpoint, s.RevocationEndpoint, s.DeviceEndpoint, s.PushEndpoint} {
		if link == "" {
			continue
		}
		u, err := url.Parse(link)
		if err == nil {
			err = t.wire.allow(u)
		}
		if err != nil {
			return &SignInError{Stage: StageDiscovery, Server: s.name(), Code: CodeInsecureURL, Refused: true, Err: fmt.Errorf("metadata: %w", err)}
		}
	}
	return nil
}

// checkPKCE refuses a server that does not promise S256 (MCP, Authorization Code Protection).
func (t *Transport) checkPKCE(s server) error {
	if s.Source != fromMetadata || slices.Contains(s.ChallengeMethods, "S256") || s.ChallengeMethods == nil && t.cfg.Endpoints.AssumePKCE {
		return nil
	}
	e := &SignInError{Stage: StageDiscovery, Server: s.name(), Code: CodePKCE, Refused: true,
		Description: "metadata lists no code_challenge_methods_supported"}
	if s.ChallengeMethods != nil {
		e.Description = "code_challenge_methods_supported lacks S256"
	}
	return e
}
