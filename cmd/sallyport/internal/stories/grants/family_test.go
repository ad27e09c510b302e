//go:build linux

package grants_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// opaqueGate stands in front of an MCP server and lets those through whose token the authorization
// server knows: these tokens say nothing to anybody else.
type opaqueGate struct {
	issuer   string
	resource string // its URL

	mu    sync.Mutex
	last  string // the token of the last request
	stale string // a token that is refused all the same
}

func startOpaqueGate(t *testing.T, issuer, upstream string) *opaqueGate {
	t.Helper()
	g := &opaqueGate{issuer: issuer}
	passOn := machines.PassOn(t, upstream)
	origin := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"resource": g.resource, "authorization_servers": []string{issuer},
				"scopes_supported": []string{"openid"}})
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !g.takes(r.Context(), token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		passOn.ServeHTTP(w, r)
	}))
	g.resource = origin + machines.ParseURL(t, upstream).Path
	return g
}

// takes tells whether a token is good.
func (g *opaqueGate) takes(ctx context.Context, token string) bool {
	g.mu.Lock()
	stale := token == g.stale
	g.mu.Unlock()
	if token == "" || stale || !g.serverKnows(ctx, token) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = token
	return true
}

// serverKnows asks the authorization server.
func (g *opaqueGate) serverKnows(ctx context.Context, token string) bool {
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
	return resp.StatusCode == http.StatusOK
}

// expire has the gate refuse the token that it saw last, and returns that.
func (g *opaqueGate) expire() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stale = g.last
	return g.last
}

// The authorization server is an OpenID provider that knows nothing of MCP: no registration, no RFC
// 8414 metadata, an issuer that ends in a slash, opaque tokens. Login, refresh and logout work
// there, too.
func TestAuthorizationServerOfAnotherFamily(t *testing.T) {
	t.Parallel()
	issuer, zitadel := machines.StartZitadel(t)
	gate := startOpaqueGate(t, issuer, machines.StartMCP(t, nil))
	home := t.TempDir()
	command := func(args ...string) *exec.Cmd {
		return machines.Command(t, home, append(args, "--client-id", "native", "--callback-port", "0", gate.resource)...)
	}
	requests := func(path string) int { return strings.Count(zitadel.Err.String(), "path="+path+" ") }

	host := machines.StartHost(t, command("--browser", machines.Person{}.BrowserScript(t)), nil)
	host.Echo(t)
	first := gate.expire()
	host.Echo(t)
	second := gate.expire()
	if first == second || requests("/oauth/token") != 2 || requests("/auth") != 1 {
		t.Errorf("a new token: %t, %d token requests, %d logins; want a refresh", first != second,
			requests("/oauth/token"), requests("/auth"))
	}
	host.Close(t)

	if status := machines.StartProcess(t, command("logout")).Wait(t); status != machines.StatusDone {
		t.Errorf("logout: status %d", status)
	}
	if requests("/revoke") != 1 || gate.serverKnows(t.Context(), second) {
		t.Errorf("%d revocations; the token is still good: %t", requests("/revoke"), gate.serverKnows(t.Context(), second))
	}
	login := machines.StartProcess(t, command("login", "--no-browser", "--callback-timeout", "1s"))
	if status := login.Wait(t); status != machines.StatusSignIn {
		t.Errorf("login after logout: status %d, want %d", status, machines.StatusSignIn)
	}
}
