package oauthtest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Guard protects next: it asks for a token, and serves the resource's metadata (RFC 9728) at the
// well-known path. Mount it at the root of the resource's origin.
func (s *Server) Guard(next http.Handler) http.Handler {
	u, err := url.Parse(s.Resource)
	if err != nil {
		panic("oauthtest: resource is not a URL")
	}
	g := &guard{server: s, next: next, scheme: u.Scheme, origin: u.Scheme + "://" + u.Host, path: u.Path}
	g.metadataPath = "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.Path, "/")
	return g
}

// guard is the protected resource.
type guard struct {
	server *Server
	next   http.Handler
	// scheme and origin are those of the resource.
	scheme, origin string
	// path is the resource's path, and metadataPath that of its metadata.
	path, metadataPath string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := Upstream
	switch {
	case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		at = ResourceMetadata
	case r.URL.Path != g.path:
		at = Elsewhere
	}
	played{g.server, at}.serve(w, r, g.serve)
}

func (g *guard) serve(w http.ResponseWriter, r *http.Request) {
	var k Knobs
	var resource string
	g.server.locked(func() { k, resource = g.server.knobs, g.server.resource() })
	if r.URL.Path == g.metadataPath && !k.NoResourceMetadata {
		m := map[string]any{"resource": resource, "authorization_servers": []string{g.server.Issuer}}
		if k.ResourceScopes != nil {
			m["scopes_supported"] = k.ResourceScopes
		}
		reply(w, http.StatusOK, m)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/.well-known/") {
		http.NotFound(w, r)
		return
	}
	scope, refusal := g.check(w, r, k)
	switch {
	case refusal != nil:
		g.server.locked(func() { g.server.stats.Unauthorized++ })
		if !k.NoChallenge {
			w.Header().Set("WWW-Authenticate", g.challenge(k, refusal))
		}
		http.Error(w, "token wanted", http.StatusUnauthorized)
	case k.NeedScope != "" && !slices.Contains(strings.Fields(scope), k.NeedScope):
		more := fmt.Sprintf(`%s error="insufficient_scope", scope=%q`, k.scheme(), k.NeedScope)
		w.Header().Set("WWW-Authenticate", more+g.metadataLink(k))
		http.Error(w, "more scope wanted", http.StatusForbidden)
	default:
		g.next.ServeHTTP(w, r)
	}
}

// refusal is why a token is not taken. Its code is empty for a request without a token.
type refusal struct{ code, why string }

// scheme is the kind of token that the resource takes.
func (k Knobs) scheme() string {
	if k.DPoP {
		return "DPoP"
	}
	return "Bearer"
}

// check returns the scope of the request's token, or why the token is not taken.
func (g *guard) check(w http.ResponseWriter, r *http.Request, k Knobs) (scope string, _ *refusal) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	scope, ok := g.server.Check(token)
	refused := &refusal{"invalid_token", "no such token: " + token}
	if token == "" {
		refused = &refusal{}
	}
	if ok && scheme == "DPoP" {
		g.server.mu.Lock()
		defer g.server.mu.Unlock()
		p, bad := checkProof(g.server, w, r, g.scheme+"://"+r.Host+r.URL.Path, token)
		if bad != nil {
			return "", bad
		}
		ok = p.Thumbprint == g.server.book.access[token].key
	}
	if !ok || scheme != k.scheme() {
		return "", refused
	}
	return scope, nil
}

// challenge is RFC 6750 section 3 and RFC 9728 section 5.1.
func (g *guard) challenge(k Knobs, refused *refusal) string {
	c := k.scheme() + ` realm="mcp"` + g.metadataLink(k)
	if k.ChallengeScope != "" {
		c += fmt.Sprintf(", scope=%q", k.ChallengeScope)
	}
	if refused.code != "" {
		c += fmt.Sprintf(`, error=%q, error_description=%q`, refused.code, refused.why)
	}
	return c
}

// metadataLink is the challenge's parameter that names the resource metadata.
func (g *guard) metadataLink(k Knobs) string {
	if k.NoResourceMetadata {
		return ""
	}
	return fmt.Sprintf(", resource_metadata=%q", g.origin+g.metadataPath)
}
