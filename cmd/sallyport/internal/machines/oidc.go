//go:build linux

package machines

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// The client that every authorization server of the tests knows from the start, for the client
// credentials grant. Its secret holds characters that RFC 6749, 2.3.1 wants encoded.
const (
	MachineID     = "machine"
	MachineSecret = "secret of a machine: 100%+/&"
)

// CodeExchanged is, in OIDC.Log, the last request of a login.
const CodeExchanged = `POST /token 200 authorization_code\n`

// OIDCOptions says what an authorization server is like. The zero value speaks http on the loopback
// of the machine of the tests.
type OIDCOptions struct {
	// NS is where it runs. Only what runs there too can reach it.
	NS *Namespace
	// Host is the name in the issuer; empty means 127.0.0.1.
	Host string
	// Port is 0 for the system's choice.
	Port int
	// TLS signs its certificate; nil means http.
	TLS *Authority
	// AccessTokenTTL is how long its access tokens are good, in whole seconds; 0 means ten minutes.
	AccessTokenTTL time.Duration
	// LoginTTL is how long its login pages and its codes are good, in whole seconds; 0 means
	// oidc-provider's own times, an hour and a minute.
	LoginTTL time.Duration
	// Scopes are those that a resource knows; nil means mcp.
	Scopes []string
	// Clients are more clients that it knows from the start, with members as in RFC 7591.
	Clients []map[string]any
	// DPoPNonces has it take DPoP proofs, each with the nonce that it gave.
	DPoPNonces bool
	// Extension is what testdata/peers/idp.mjs adds: token exchange, or the grant jwt-bearer.
	Extension map[string]any
	// Features are oidc-provider's, laid over ours: {"registration": {"enabled": false}}.
	Features map[string]any
}

// OIDC is a real authorization server, npm's oidc-provider: PKCE, open dynamic registration,
// rotating refresh tokens, revocation, JWT access tokens for whatever resource is asked for.
type OIDC struct {
	*Process
	Issuer string
	TLS    *Authority
	// Log has a line each request: method, path, status, grant type.
	Log *Transcript

	key jose.JSONWebKey // signs the access tokens
}

// StartOIDC starts an authorization server. It ends with the test.
func StartOIDC(t testing.TB, o OIDCOptions) *OIDC {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &OIDC{TLS: o.TLS, key: jose.JSONWebKey{Key: private, KeyID: "test", Algorithm: "RS256", Use: "sig"}}
	text, err := json.Marshal(o.script(t, s.key))
	if err != nil {
		t.Fatal(err)
	}
	s.Process = StartProcess(t, o.NS.Command(t, Node(t), Peer(t, "oidc.mjs"), string(text)))
	s.Log = s.Process.Err
	s.Issuer = s.Process.Out.FirstLine(t)
	return s
}

// script is what oidc.mjs takes.
func (o *OIDCOptions) script(t testing.TB, key jose.JSONWebKey) map[string]any {
	t.Helper()
	machine := map[string]any{
		"client_id": MachineID, "client_secret": MachineSecret, "grant_types": []string{"client_credentials"},
		"redirect_uris": []string{}, "response_types": []string{}, "token_endpoint_auth_method": "client_secret_basic",
	}
	options := map[string]any{
		"jwks":       jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}},
		"port":       o.Port,
		"clients":    append([]map[string]any{machine}, o.Clients...),
		"dpopNonces": o.DPoPNonces,
	}
	names := []string{"127.0.0.1", "localhost"}
	if o.Host != "" {
		options["host"] = o.Host
		names = append(names, o.Host)
	}
	if o.TLS != nil {
		options["cert"], options["key"] = o.TLS.Issue(t, names...)
	}
	if o.AccessTokenTTL != 0 {
		options["accessTokenTTL"] = int(o.AccessTokenTTL.Seconds())
	}
	if o.LoginTTL != 0 {
		options["loginTTL"] = int(o.LoginTTL.Seconds())
	}
	if o.Scopes != nil {
		options["scopes"] = o.Scopes
	}
	if o.Extension != nil {
		options["extension"] = o.Extension
	}
	if o.Features != nil {
		options["features"] = o.Features
	}
	return options
}

// Asked counts the requests so far whose line in the log matches the regular expression.
func (s *OIDC) Asked(pattern string) int {
	return len(regexp.MustCompile(`(?m)^`+pattern+`$`).FindAllString(s.Log.String(), -1))
}

// Addr is host:port of the issuer.
func (s *OIDC) Addr() string { return s.Issuer[strings.Index(s.Issuer, "://")+3:] }

// PublicKeys returns the server's JSON Web Key Set, as its jwks_uri has it.
func (s *OIDC) PublicKeys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key.Public()}}
}

// MachineToken gets an access token for resource by client credentials.
func (s *OIDC) MachineToken(t testing.TB, resource string) string {
	t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	s.Token(t, url.Values{
		"grant_type": {"client_credentials"}, "resource": {resource}, "scope": {"mcp"}, "client_id": {MachineID},
	}, &answer)
	return answer.AccessToken
}

// Token makes a token request, which must succeed, and decodes the answer. The client MachineID
// authenticates with its secret.
func (s *OIDC) Token(t testing.TB, form url.Values, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.Issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if form.Get("client_id") == MachineID {
		req.SetBasicAuth(url.QueryEscape(MachineID), url.QueryEscape(MachineSecret))
	}
	s.do(t, req, answer)
}

// Forge signs an access token that the server never issued, for what a gate has to refuse.
func (s *OIDC) Forge(t testing.TB, claims jwt.Claims) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: s.key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// RegisterNative registers a public client by RFC 7591 and returns its id.
func (s *OIDC) RegisterNative(t testing.TB, redirectURI string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"application_type": "native", "redirect_uris": []string{redirectURI}, "response_types": []string{"code"},
		"grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none",
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.Issuer+"/reg", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	var answer struct {
		ClientID string `json:"client_id"`
	}
	s.do(t, req, &answer)
	return answer.ClientID
}

// do sends a request that must succeed and decodes the answer.
func (s *OIDC) do(t testing.TB, req *http.Request, answer any) {
	t.Helper()
	resp, err := s.TLS.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %v: %.500q", req.URL, resp.Status, err, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		t.Fatal(err)
	}
}

// StartZitadel builds and starts testdata/zitadel, an authorization server of another family than
// oidc-provider. It ends with the test.
func StartZitadel(t testing.TB) (issuer string, server *Process) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zitadel")
	err := goBuild(testdata(t, "zitadel"), "-o", path, ".")
	Need(t, err == nil, "github.com/zitadel/oidc", "go build in cmd/sallyport/testdata/zitadel, which says: "+errorText(err))
	server = StartProcess(t, exec.Command(path))
	return server.Out.FirstLine(t), server
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
