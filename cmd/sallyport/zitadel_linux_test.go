package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// startZitadel starts testdata/zitadel, an authorization server of another family.
func startZitadel(t testing.TB) (issuer string, server *process) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zitadel")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	build.Dir = filepath.Join("testdata", "zitadel")
	out, err := build.CombinedOutput()
	needPart(t, err == nil, "github.com/zitadel/oidc: "+string(out), "go build in cmd/sallyport/testdata/zitadel")
	server = startProcess(t, exec.Command(path))
	return server.Out.await(t, `(?m)^(.*)\n`)[1], server
}

// opaqueGate lets those through whose token the authorization server knows: its tokens say nothing to
// anybody else.
type opaqueGate struct {
	*httptest.Server
	issuer string

	mu    sync.Mutex
	last  string // the token of the last request
	stale string // a token that is refused all the same
}

func startOpaqueGate(t testing.TB, issuer, upstream string) *opaqueGate {
	t.Helper()
	backend, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: backend.Host}) }}
	g := &opaqueGate{issuer: issuer}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"resource": g.URL, "authorization_servers": []string{issuer}, "scopes_supported": []string{"openid"}})
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !g.known(r.Context(), token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	g.URL += backend.Path
	return g
}

// known asks the authorization server.
func (g *opaqueGate) known(ctx context.Context, token string) bool {
	g.mu.Lock()
	stale := token == g.stale
	g.mu.Unlock()
	if token == "" || stale {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.issuer+"userinfo", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = token
	return true
}

// expire has the gate refuse the token that it saw last, and returns that.
func (g *opaqueGate) expire() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stale = g.last
	return g.last
}

// TestAnotherFamily signs in, refreshes and signs out at an OpenID provider that knows nothing of MCP: no
// registration, no RFC 8414 metadata, an issuer that ends in a slash, opaque tokens.
func TestAnotherFamily(t *testing.T) {
	issuer, zitadel := startZitadel(t)
	gate := startOpaqueGate(t, issuer, startMCP(t, nil))
	home := t.TempDir()
	s := &site{ca: newAuthority(t)}
	args := []string{"--client-id", "native", "--callback-port", "0", gate.URL}
	requests := func(path string) int { return strings.Count(zitadel.Err.String(), "path="+path+" ") }

	host := startHost(t, s.command(t, home, append(args, "--browser", person{}.browserScript(t))...), nil)
	session := host.Session(t)
	callEcho(t, session)
	first := gate.expire()
	callEcho(t, session)
	second := gate.expire()
	if first == second || requests("/oauth/token") != 2 || requests("/auth") != 1 {
		t.Errorf("a new token: %t, %d token requests, %d logins; want a refresh", first != second, requests("/oauth/token"), requests("/auth"))
	}
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}

	gate.stale = ""
	if logout := startProcess(t, s.command(t, home, append([]string{"logout"}, args...)...)); logout.wait(t) != statusDone {
		t.Error("logout failed")
	}
	if requests("/revoke") != 1 || gate.known(t.Context(), second) {
		t.Errorf("%d revocations; the token is still good: %t", requests("/revoke"), gate.known(t.Context(), second))
	}
	login := startProcess(t, s.command(t, home, append([]string{"login", "--no-browser", "--callback-timeout", "1s"}, args...)...))
	if status := login.wait(t); status != statusSignIn {
		t.Errorf("login after logout: status %d, want %d", status, statusSignIn)
	}
}
