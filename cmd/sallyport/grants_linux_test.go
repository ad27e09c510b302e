package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// newDirectSite is a site without SSH.
func newDirectSite(t testing.TB, o oidcOptions, dpop bool) *site {
	t.Helper()
	s := &site{ca: newAuthority(t)}
	o.TLS = s.ca
	s.oidc = startOIDC(t, o)
	s.gate = startGate(t, gateOptions{CA: s.ca, OIDC: s.oidc, Upstream: startMCP(t, nil), DPoP: dpop})
	return s
}

// echoOnce starts cmd as a host does and calls a tool.
func echoOnce(t testing.TB, cmd *exec.Cmd) *mcpHost {
	t.Helper()
	host := startHost(t, cmd, nil)
	session := host.Session(t)
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v; stderr:\n%s", err, host.Stderr)
	}
	return host
}

// TestDeviceGrant signs in where no callback can come to: the person types a code on any machine.
func TestDeviceGrant(t *testing.T) {
	s := newDirectSite(t, oidcOptions{}, false)
	home := t.TempDir()
	command := func() *exec.Cmd { return s.command(t, home, "--grant", "device_code", "--no-browser", s.gate.URL) }

	host := startHost(t, command(), nil)
	link := host.Stderr.await(t, offered)[1]
	code := host.Stderr.await(t, `open (\S+/device) and enter the code (\S+)\n`)
	if link != code[1]+"?user_code="+code[2] {
		t.Errorf("the link is %s, the code %s", link, code[2])
	}
	if page := (person{TrustsAll: true}).logsIn(t, link); !strings.Contains(page.Text, "Sign-in Success") {
		t.Errorf("the last page is %+v", page)
	}
	callEcho(t, host.Session(t))

	again := echoOnce(t, command())
	if strings.Contains(again.Stderr.String(), "enter the code") {
		t.Errorf("the second start asked again:\n%s", again.Stderr)
	}
}

// TestDPoP binds tokens to a key: sign-in, refresh and a second start, with nonces of both servers.
func TestDPoP(t *testing.T) {
	s := newDirectSite(t, oidcOptions{DPoPNonces: true, AccessTokenTTL: 2 * time.Second}, true)
	home := t.TempDir()
	command := func() *exec.Cmd {
		return s.command(t, home, "--browser", person{TrustsAll: true}.browserScript(t), s.gate.URL)
	}
	host := startHost(t, command(), nil)
	session := host.Session(t)
	refreshed := regexp.MustCompile(`POST /token 200 refresh_token`)
	for deadline := time.Now().Add(patience); !refreshed.MatchString(s.oidc.Log.String()); {
		if time.Now().After(deadline) {
			t.Fatalf("no refresh; the authorization server says:\n%s", s.oidc.Log)
		}
		callEcho(t, session)
	}
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v; stderr:\n%s", err, host.Stderr)
	}
	again := echoOnce(t, command())
	if strings.Contains(again.Stderr.String(), "open this link") {
		t.Errorf("the second start asked again:\n%s", again.Stderr)
	}
	if log := s.oidc.Log.String(); strings.Count(log, "POST /token 200 authorization_code") != 1 {
		t.Errorf("the authorization server says:\n%s", log)
	}
	nonces := 0
	for _, r := range s.gate.Requests(t) {
		switch r.Refused {
		case "", "no token of the kind DPoP", "go-jose/go-jose/jwt: validation failed, token is expired (exp)":
		case errNonce.Error():
			nonces++
		default:
			t.Errorf("the gate refused: %+v", r)
		}
	}
	if nonces == 0 || nonces > 4 { // before the first answer with a token: two starts, and the GET stream beside them
		t.Errorf("the gate asked for its nonce %d times", nonces)
	}
}

// TestPushedAuthorizationRequest signs in where the server takes no other: the link holds a reference,
// and the page on the proxy's own port leads to another once that was used.
func TestPushedAuthorizationRequest(t *testing.T) {
	for _, test := range []struct {
		name string
		dpop bool
	}{{"Bearer", false}, {"DPoP with nonces", true}} {
		t.Run(test.name, func(t *testing.T) {
			s := newDirectSite(t, oidcOptions{DPoPNonces: test.dpop, Features: map[string]any{
				"pushedAuthorizationRequests": map[string]any{"enabled": true, "requirePushedAuthorizationRequests": true},
			}}, test.dpop)
			home := t.TempDir()
			host := startHost(t, s.command(t, home, "--no-browser", s.gate.URL), nil)
			link, err := url.Parse(host.Stderr.await(t, offered)[1])
			if err != nil {
				t.Fatal(err)
			}
			if q := link.Query(); len(q) != 2 || q.Get("client_id") == "" || q.Get("request_uri") == "" {
				t.Errorf("the link is %s", link)
			}
			start := host.Stderr.await(t, `hint: that link is good until \d\d:\d\d:\d\d, and once; after that open (\S+)\n`)[1]
			if status, _ := visit(t, start, ""); status != http.StatusSeeOther {
				t.Errorf("%s: status %d", start, status)
			}
			second := startHost(t, s.command(t, home, "--no-browser", s.gate.URL), nil)
			if got := second.Stderr.await(t, elsewhere)[1]; got != start {
				t.Errorf("another proxy shows %s, want %s", got, start)
			}
			checkSuccessPage(t, person{TrustsAll: true}.logsIn(t, start), s.gate.URL)
			echoAll(t, []*mcpHost{host, second})
			if got := s.oidc.asked(`POST /request 201 `); got != 2 {
				t.Errorf("%d requests were pushed, want 2", got)
			}
		})
	}
}

// TestPrivateKeyJWT is a service that shows its key, never a secret.
func TestPrivateKeyJWT(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := newDirectSite(t, oidcOptions{Clients: []map[string]any{{
		"client_id": "robot", "grant_types": []string{"client_credentials"}, "redirect_uris": []string{}, "response_types": []string{},
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "PS256",
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "1", Use: "sig"}}},
	}}}, false)
	file := writeFile(t, openDir(t), "key.pem", pemText("PRIVATE KEY", der), 0o600)
	echoOnce(t, s.command(t, t.TempDir(), "--grant", "client_credentials", "--client-id", "robot", "--client-key", file, "--client-key-alg", "PS256", s.gate.URL))
}
