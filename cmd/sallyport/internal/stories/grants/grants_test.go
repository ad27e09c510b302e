//go:build linux

// The stories of those who get their tokens in another way than by a browser's callback, or get
// tokens of another kind: a code typed on any machine, tokens bound to a key, pushed requests, a
// service with a private key, an authorization server of another family. Real: oidc-provider,
// zitadel's example, Chromium.
package grants_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/go-jose/go-jose/v4"
)

func TestMain(m *testing.M) { machines.Main(m) }

// No callback can come: the person types a code on any machine. The second start asks nothing.
func TestDeviceGrant(t *testing.T) {
	t.Parallel()
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	home := t.TempDir()
	command := func() *exec.Cmd {
		return s.Command(t, home, "--grant", "device_code", "--no-browser", s.Gate.URL)
	}

	host := machines.StartHost(t, command(), nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	code := host.Stderr.Await(t, `open (\S+/device) and enter the code (\S+)\n`)
	if link != code[1]+"?user_code="+code[2] {
		t.Errorf("the URL is %s, the code %s", link, code[2])
	}
	if page := (machines.Person{TrustsAll: true}).LogsIn(t, link); !strings.Contains(page.Text, "Sign-in Success") {
		t.Errorf("the last page is %+v", page)
	}
	host.Echo(t)

	again := machines.EchoOnce(t, command())
	if strings.Contains(again.Stderr.String(), "enter the code") {
		t.Errorf("the second start asked again:\n%s", again.Stderr)
	}
}

// Tokens are bound to a key (DPoP), and both servers want nonces: login, refresh, and a second
// start.
func TestDPoP(t *testing.T) {
	t.Parallel()
	s := machines.NewDirectSite(t, machines.OIDCOptions{DPoPNonces: true, AccessTokenTTL: 2 * time.Second})
	home := t.TempDir()
	command := func() *exec.Cmd {
		return s.Command(t, home, "--callback-port", "0", "--browser", machines.Person{TrustsAll: true}.BrowserScript(t),
			s.Gate.URL)
	}
	host := machines.StartHost(t, command(), nil)
	host.Echo(t)
	refreshed := regexp.MustCompile(`POST /token 200 refresh_token`)
	machines.Poll(t, func() bool {
		host.Echo(t)
		return refreshed.MatchString(s.OIDC.Log.String())
	}, "a refresh")
	host.Echo(t)
	host.Close(t)
	again := machines.EchoOnce(t, command())
	if strings.Contains(again.Stderr.String(), "open this link") {
		t.Errorf("the second start asked again:\n%s", again.Stderr)
	}
	if got := s.OIDC.Asked(`POST /token 200 authorization_code`); got != 1 {
		t.Errorf("%d codes were exchanged", got)
	}
	nonces := 0
	for _, r := range s.Gate.Requests(t) {
		switch r.Refused {
		case "", "no token of the kind DPoP", "go-jose/go-jose/jwt: validation failed, token is expired (exp)":
		case machines.ErrNonce.Error():
			nonces++
		default:
			t.Errorf("the gate refused: %+v", r)
		}
	}
	if nonces == 0 || nonces > 4 { // before the first answer with a token: two starts, and the GET stream beside them
		t.Errorf("the gate asked for its nonce %d times", nonces)
	}
}

// The authorization server takes pushed requests only: the URL holds a reference, which is good
// once, and the page on the proxy's own port leads to another one after that.
func TestPushedAuthorizationRequest(t *testing.T) {
	for _, test := range []struct {
		name string
		dpop bool
	}{{"Bearer", false}, {"DPoP with nonces", true}} {
		t.Run(test.name, func(t *testing.T) {
			s := machines.NewDirectSite(t, machines.OIDCOptions{DPoPNonces: test.dpop, Features: map[string]any{
				"pushedAuthorizationRequests": map[string]any{"enabled": true, "requirePushedAuthorizationRequests": true},
			}})
			home := t.TempDir()
			host := machines.StartHost(t, s.Command(t, home, "--no-browser", s.Gate.URL), nil)
			link := machines.ParseURL(t, host.Stderr.Await(t, machines.Offered)[1])
			if q := link.Query(); len(q) != 2 || q.Get("client_id") == "" || q.Get("request_uri") == "" {
				t.Errorf("the URL is %s", link)
			}
			start := host.Stderr.Await(t, `hint: that link is good until \d\d:\d\d:\d\d, and once; after that open (\S+)\n`)[1]
			if status, _ := machines.Visit(t, start, ""); status != http.StatusSeeOther {
				t.Errorf("%s: status %d", start, status)
			}
			second := machines.StartHost(t, s.Command(t, home, "--no-browser", s.Gate.URL), nil)
			if got := second.Stderr.Await(t, machines.Elsewhere)[1]; got != start {
				t.Errorf("another proxy shows %s, want %s", got, start)
			}
			page := machines.Person{TrustsAll: true}.LogsIn(t, start)
			machines.CheckSuccessPage(t, page, machines.DefaultCallback, s.Gate.URL)
			machines.EchoAll(t, host, second)
			if got := s.OIDC.Asked(`POST /request 201 `); got != 2 {
				t.Errorf("%d requests were pushed, want 2", got)
			}
		})
	}
}

// A service shows its private key's signature, never a secret.
func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s := machines.NewDirectSite(t, machines.OIDCOptions{Clients: []map[string]any{{
		"client_id": "robot", "grant_types": []string{"client_credentials"}, "redirect_uris": []string{},
		"response_types":             []string{},
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "PS256",
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "1", Use: "sig"}}},
	}}})
	file := machines.WriteFile(t, machines.OpenDir(t), "key.pem", machines.PEM("PRIVATE KEY", der), 0o600)
	machines.EchoOnce(t, s.Command(t, t.TempDir(), "--grant", "client_credentials", "--client-id", "robot",
		"--client-key", file, "--client-key-alg", "PS256", s.Gate.URL))
}
