package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// peersDir holds the npm programs and the scripts around them.
var peersDir = func() string {
	dir, err := filepath.Abs("testdata/peers")
	if err != nil {
		panic(err)
	}
	return dir
}()

// openPeers is peersDir again, where every account can read it: the checkout may lie in a directory
// as private as /root.
var openPeers = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-test-")
	if err != nil {
		return "", err
	}
	afterAll(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	// Hard links take no time and no room; they do not reach another file system.
	copied, err := exec.Command("sh", "-c", `cp -al "$0/." "$1" 2>/dev/null || cp -a "$0/." "$1"`, peersDir, dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("copy of %s: %w: %s", peersDir, err, copied)
	}
	return dir, nil
})

// peer returns the path of a file of testdata/peers.
func peer(t testing.TB, path string) string {
	t.Helper()
	dir, err := openPeers()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, path)
}

// peerFile returns the path of a file of an npm package of testdata/peers.
func peerFile(t testing.TB, path string) string {
	t.Helper()
	path = filepath.Join("node_modules", path)
	_, err := os.Stat(filepath.Join(peersDir, path))
	needPart(t, err == nil, "npm's "+path, "npm ci in cmd/sallyport/testdata/peers, or .ci/install-parts")
	return peer(t, path)
}

// nodePath returns the Node.js that the npm programs run on: the pinned one, or the machine's where
// npm has none for this processor.
func nodePath(t testing.TB) string {
	t.Helper()
	peerFile(t, "oidc-provider/package.json")
	// Not .bin/node: npm 9, Debian 12's, removes that link together with the other processor's package.
	processor := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if path := peer(t, "node_modules/node-linux-"+processor+"/bin/node"); exec.Command(path, "--version").Run() == nil {
		return path
	}
	return needProgram(t, "node", "nodejs")
}

// authority is a certificate authority of the test's own.
type authority struct {
	File string // its certificate, PEM
	Pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	ca := &authority{Pool: x509.NewCertPool(), dir: openDir(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, key := ca.sign(t, template)
	ca.cert, ca.key = template, key
	ca.File = writeFile(t, ca.dir, "ca.pem", pemText("CERTIFICATE", der), 0o644)
	ca.Pool.AppendCertsFromPEM([]byte(pemText("CERTIFICATE", der)))
	return ca
}

// Issue writes a server certificate for names, and its key, as PEM files.
func (ca *authority) Issue(t testing.TB, names ...string) (certFile, keyFile string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, key := ca.sign(t, template)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	return writeFile(t, dir, "cert.pem", pemText("CERTIFICATE", der), 0o644), writeFile(t, dir, "key.pem", pemText("PRIVATE KEY", keyDER), 0o600)
}

// sign makes a key and its certificate; self-signed where ca has none yet.
func (ca *authority) sign(t testing.TB, template *x509.Certificate) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		t.Fatal(err)
	}
	return der, key
}

// Client returns an HTTP client that trusts the authority.
func (ca *authority) Client() *http.Client {
	if ca == nil {
		return http.DefaultClient
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}}}
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// The client that every authorization server of the tests knows from the start, for the client
// credentials grant. Its secret holds what RFC 6749, 2.3.1 wants encoded.
const (
	machineID     = "machine"
	machineSecret = "secret of a machine: 100%+/&"
)

// oidcOptions says what an authorization server is like; the zero value is http on the machine's loopback.
type oidcOptions struct {
	NS             *netns           // where it runs; there only what runs there too can reach it
	Host           string           // name in the issuer; "" 127.0.0.1
	Port           int              // 0: the system's choice; anything else only in a namespace
	TLS            *authority       // https, with a certificate of this authority
	AccessTokenTTL time.Duration    // whole seconds; 0: ten minutes
	Scopes         []string         // that a resource knows; nil: mcp
	Clients        []map[string]any // more pre-registered clients, members as in RFC 7591
	DPoPNonces     bool             // DPoP, and each proof needs the nonce that the server gives
	Features       map[string]any   // of oidc-provider, laid over ours: {"registration": {"enabled": false}}
}

// oidcServer is a real authorization server, npm's oidc-provider: PKCE, open dynamic registration,
// rotating refresh tokens, revocation, JWT access tokens for whatever resource is asked for.
type oidcServer struct {
	Issuer string
	TLS    *authority
	Log    *transcript // a line each request: method, path, status, grant type
	*process

	key jose.JSONWebKey // signs the access tokens
}

// startOIDC starts an authorization server. It ends with the test.
func startOIDC(t testing.TB, o oidcOptions) *oidcServer {
	t.Helper()
	node := nodePath(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &oidcServer{TLS: o.TLS, key: jose.JSONWebKey{Key: private, KeyID: "test", Algorithm: "RS256", Use: "sig"}}
	options := map[string]any{
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key}},
		"port": o.Port,
		"clients": append([]map[string]any{{
			"client_id": machineID, "client_secret": machineSecret, "grant_types": []string{"client_credentials"},
			"redirect_uris": []string{}, "response_types": []string{}, "token_endpoint_auth_method": "client_secret_basic",
		}}, o.Clients...),
	}
	if o.Host != "" {
		options["host"] = o.Host
	}
	if o.TLS != nil {
		names := []string{"127.0.0.1", "localhost"}
		if o.Host != "" {
			names = append(names, o.Host)
		}
		options["cert"], options["key"] = o.TLS.Issue(t, names...)
	}
	if o.AccessTokenTTL != 0 {
		options["accessTokenTTL"] = int(o.AccessTokenTTL.Seconds())
	}
	if o.Scopes != nil {
		options["scopes"] = o.Scopes
	}
	if o.DPoPNonces {
		options["dpopNonces"] = true
	}
	if o.Features != nil {
		options["features"] = o.Features
	}
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	s.process = startProcess(t, o.NS.command(t, node, peer(t, "oidc.mjs"), string(text)))
	s.Log = s.process.Err
	s.Issuer = s.process.Out.await(t, `(?m)^(.*)\n`)[1]
	return s
}

// PublicKeys returns the server's JSON Web Key Set, as its jwks_uri has it.
func (s *oidcServer) PublicKeys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key.Public()}}
}

// MachineToken gets an access token for resource by client credentials.
func (s *oidcServer) MachineToken(t testing.TB, resource string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "resource": {resource}, "scope": {"mcp"}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.Issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(machineID), url.QueryEscape(machineSecret))
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	s.do(t, req, &answer)
	return answer.AccessToken
}

// Forge signs an access token that the server never issued, for what a gate has to refuse.
func (s *oidcServer) Forge(t testing.TB, claims jwt.Claims) string {
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
func (s *oidcServer) RegisterNative(t testing.TB, redirectURI string) string {
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
func (s *oidcServer) do(t testing.TB, req *http.Request, answer any) {
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

// person is somebody at a browser, headless Chromium. The zero value signs in and agrees.
type person struct {
	As         *account // on whose desktop; nil: the current user's
	NS         *netns   // the desktop's network; not together with As
	Denies     bool     // presses Cancel
	TrustsAll  bool     // takes any TLS certificate of the authorization server
	Screenshot string   // PNG file for the last page; "" none
}

// landing is the page that a sign-in ends on.
type landing struct {
	URL   string // without its query
	Title string
	Text  string
}

// personLogsIn opens an authorize URL in a real browser, signs in, agrees, and returns the last page.
func personLogsIn(t testing.TB, authorizeURL string) landing {
	t.Helper()
	return person{}.logsIn(t, authorizeURL)
}

func (p person) logsIn(t testing.TB, authorizeURL string) landing {
	t.Helper()
	browser := startProcess(t, p.command(t, authorizeURL))
	if status := browser.wait(t); status != 0 {
		t.Fatalf("the browser ended with status %d:\n%s", status, browser.Err)
	}
	var page landing
	if err := json.Unmarshal([]byte(browser.Out.String()), &page); err != nil {
		t.Fatalf("the browser printed %q: %v", browser.Out, err)
	}
	return page
}

// browserScript writes a command for --browser and BROWSER that is this person: called with an
// authorize URL it signs in. Its last page goes to stderr as a JSON line.
func (p person) browserScript(t testing.TB) string {
	t.Helper()
	cmd := p.command(t)
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, entry := range cmd.Env {
		if strings.HasPrefix(entry, "PERSON_") {
			b.WriteString("export '" + entry + "'\n")
		}
	}
	b.WriteString("exec")
	for _, arg := range cmd.Args {
		b.WriteString(" '" + arg + "'")
	}
	b.WriteString(` "$@" >&2` + "\n")
	return writeFile(t, openDir(t), "browser", b.String(), 0o755)
}

func (p person) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	node := nodePath(t)
	needProgram(t, "chromium", "chromium")
	args = append([]string{peer(t, "browser.mjs")}, args...)
	cmd := p.As.command(node, args...)
	if p.As == nil {
		env := cmd.Env
		cmd = p.NS.command(t, node, args...)
		cmd.Env = env
	}
	if p.Denies {
		cmd.Env = append(cmd.Env, "PERSON_DENIES=1")
	}
	if p.TrustsAll {
		cmd.Env = append(cmd.Env, "PERSON_TRUSTS_ALL=1")
	}
	if p.Screenshot != "" {
		cmd.Env = append(cmd.Env, "PERSON_SCREENSHOT="+p.Screenshot)
	}
	return cmd
}
