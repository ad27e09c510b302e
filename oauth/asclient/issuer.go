package asclient

import (
	"net/url"
	"strings"
)

// sameIssuer reports whether two issuers are the same but for a slash at the end. The case of the
// host and a default port make no difference either, because requests go to the same place.
func sameIssuer(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	if strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") {
		return true
	}
	u, err1 := url.Parse(a)
	v, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && SameOrigin(u, v) && u.Host != "" && plain(u) && plain(v) &&
		strings.TrimSuffix(u.EscapedPath(), "/") == strings.TrimSuffix(v.EscapedPath(), "/")
}

// plain reports whether u has nothing but a scheme, a host and a path.
func plain(u *url.URL) bool {
	return u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && u.Opaque == ""
}

// isTemplate reports whether an issuer has a placeholder, as Entra ID's has for all organizations:
// https://login.microsoftonline.com/{tenantid}/v2.0.
func isTemplate(issuer string) bool { return strings.Contains(issuer, "{") }

// fits reports whether an issuer is one of a template. Each placeholder is a whole segment of the
// path, and stands for one segment.
func fits(issuer, template string) bool {
	have := strings.Split(strings.TrimSuffix(issuer, "/"), "/")
	want := strings.Split(strings.TrimSuffix(template, "/"), "/")
	if len(have) != len(want) {
		return false
	}
	for i, segment := range want {
		placeholder := i > 2 && strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}")
		if placeholder && isName(have[i]) {
			continue
		}
		if have[i] != segment || strings.ContainsAny(segment, "{}") {
			return false
		}
	}
	return true
}

// isName reports whether text may stand in place of a placeholder: the name or the number of a
// tenant.
func isName(text string) bool {
	return text != "" && strings.Trim(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// IsTemplate reports whether the issuer of s has a placeholder for a tenant.
func (s Server) IsTemplate() bool { return isTemplate(s.Issuer) }

// isIssuer reports whether a redirect's iss names s. The iss of a server that promises one is
// compared as text (RFC 9207 section 2.4): with what its metadata says, and with what others call
// it.
// Otherwise a slash at the end makes no difference. A template counts only where a person vouches
// for the server, so discovery lets no other into a Server.
func (s Server) isIssuer(iss string) bool {
	same := sameIssuer
	if s.SendsIss {
		same = func(a, b string) bool { return a == b }
	}
	return same(iss, s.Issuer) || s.Named != "" && iss == s.Named || s.FoundAt != "" && (same(iss, s.FoundAt) || s.IsTemplate() && fits(iss, s.Issuer))
}

// SameAs reports whether other is the same server as s, with its token endpoint at the same origin.
// What a server has given, as a refresh token or the secret of a client, goes to no other. The
// origin counts as well, because an upstream may name itself as the issuer, and another server's
// token endpoint as its own.
func (s Server) SameAs(other Server) bool {
	return s.ID() == other.ID() && (s.TokenEndpoint == other.TokenEndpoint || isAt(s.TokenEndpoint, other.TokenEndpoint))
}

// Confined returns s without the endpoints for revocation, devices and pushed requests that are at
// another origin than the token endpoint. They get the same secrets.
func (s Server) Confined() Server {
	for _, endpoint := range []*string{&s.RevocationEndpoint, &s.DeviceEndpoint, &s.PushEndpoint} {
		if !isAt(*endpoint, s.TokenEndpoint) {
			*endpoint = ""
		}
	}
	return s
}

// isAt reports whether two URLs have the same origin.
func isAt(a, b string) bool {
	u, err1 := url.Parse(a)
	v, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && u.Host != "" && SameOrigin(u, v)
}
