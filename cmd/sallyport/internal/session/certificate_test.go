package session

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/roots"
	"sallyport/oauth/oauthtest"
)

// certificateParts are the pieces that the tests make files of.
type certificateParts struct {
	authority *oauthtest.Authority
	cert, key []byte
}

func newCertificateParts(t *testing.T) certificateParts {
	t.Helper()
	authority, err := oauthtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, key := issue(t, authority, "ada")
	return certificateParts{authority, cert, key}
}

func issue(t *testing.T, authority *oauthtest.Authority, name string) (cert, key []byte) {
	t.Helper()
	cert, key, err := authority.Issue(name)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// writeParts writes the parts one after the other into a file of mode 0600.
func writeParts(t *testing.T, path string, parts ...[]byte) string {
	t.Helper()
	if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// as returns the PEM text under another type, with the headers given.
func as(t *testing.T, text []byte, kind string, headers map[string]string) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: block.Bytes})
}

func TestOpenCertificate(t *testing.T) {
	p := newCertificateParts(t)
	_, strange := issue(t, p.authority, "eve")
	rsaKey, err := rsa.GenerateKey(nil, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})
	for _, test := range []struct {
		name      string
		cert, key [][]byte // nil: no such file is named
		want      string   // part of the error; "" none
		hint      string
	}{
		{"two files", [][]byte{p.cert}, [][]byte{p.key}, "", ""},
		{"one file", [][]byte{p.cert, p.key}, nil, "", ""},
		{"the key first", [][]byte{p.key, p.cert}, nil, "", ""},
		{"a chain", [][]byte{p.cert, p.authority.PEM}, [][]byte{p.key}, "", ""},
		{"a chain from the root", [][]byte{p.authority.PEM, p.cert}, [][]byte{p.key}, "", ""},
		{"text around it", [][]byte{[]byte("Bag Attributes\n  friendlyName: ada\n"), p.cert, []byte("\nKey:\n"), p.key}, nil, "", ""},
		{"a byte order mark", [][]byte{[]byte("\ufeff\n"), p.cert, p.key}, nil, "", ""},
		{"an old type", [][]byte{as(t, p.cert, "X509 CERTIFICATE", nil), p.key}, nil, "", ""},
		{"key without certificate", nil, [][]byte{p.key}, "--client-cert-key needs --client-cert", "--client-cert FILE"},
		{"certificate without key", [][]byte{p.cert}, nil, "holds no private key", "--client-cert-key FILE"},
		{"not PEM", [][]byte{{0x30, 0x82, 0x01}}, nil, "holds no PEM certificate", "openssl pkcs12"},
		{"empty", [][]byte{}, nil, "holds no PEM certificate", "openssl x509"},
		{"another key", [][]byte{p.cert}, [][]byte{strange}, "does not belong to", "must name a pair"},
		{"a key of another kind", [][]byte{p.cert}, [][]byte{pkcs1}, "does not belong to", "must name a pair"},
		{"encrypted PKCS #8", [][]byte{p.cert}, [][]byte{as(t, p.key, "ENCRYPTED PRIVATE KEY", nil)}, "is encrypted", "openssl pkey"},
		{"encrypted of old", [][]byte{p.cert}, [][]byte{as(t, p.key, "RSA PRIVATE KEY",
			map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"})}, "is encrypted", "openssl pkey"},
		{"an SSH key", [][]byte{p.cert}, [][]byte{as(t, p.key, "OPENSSH PRIVATE KEY", nil)}, "is an SSH key", "--client-cert-key"},
		{"a broken certificate", [][]byte{as(t, []byte("-----BEGIN A-----\nAAAA\n-----END A-----\n"), "CERTIFICATE", nil)}, [][]byte{p.key}, "client certificate file", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var settings cli.Upstream
			dir := t.TempDir()
			if test.cert != nil {
				settings.ClientCert = writeParts(t, filepath.Join(dir, "cert.pem"), test.cert...)
			}
			if test.key != nil {
				settings.ClientCertKey = writeParts(t, filepath.Join(dir, "key.pem"), test.key...)
			}
			c, err := openCertificate(settings, slog.New(slog.DiscardHandler))
			if test.want == "" {
				if err != nil || c.loaded.Leaf.Subject.CommonName != "ada" {
					t.Errorf("got %v", err)
				}
				return
			}
			usage, ok := errors.AsType[*cli.UsageError](err)
			if !ok || !strings.Contains(usage.Text, test.want) || !strings.Contains(strings.Join(usage.Hints, "; "), test.hint) {
				t.Errorf("error %v, want %q with the hint %q", err, test.want, test.hint)
			}
			if err != nil && strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("the error shows the file: %v", err)
			}
		})
	}
	t.Run("no such file", func(t *testing.T) {
		_, err := openCertificate(cli.Upstream{ClientCert: filepath.Join(t.TempDir(), "missing")}, slog.New(slog.DiscardHandler))
		if _, ok := errors.AsType[*cli.UsageError](err); !ok || !strings.Contains(err.Error(), "client certificate file: open") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		if c, err := openCertificate(cli.Upstream{}, slog.New(slog.DiscardHandler)); err != nil || c.loaded != nil {
			t.Errorf("got %v, %v", c, err)
		}
	})
}

// TestOpenCertificateWarns tells of a key that others can read.
func TestOpenCertificateWarns(t *testing.T) {
	p := newCertificateParts(t)
	path := writeParts(t, filepath.Join(t.TempDir(), "both.pem"), p.cert, p.key)
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := openCertificate(cli.Upstream{ClientCert: path}, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "chmod 600"); got != want {
			t.Errorf("mode %#o: warned %t, want %t", mode, got, want)
		}
	}
}

// nameServer answers with the common name of the client's certificate, or "nobody".
func nameServer(t *testing.T, authority *oauthtest.Authority, want tls.ClientAuthType) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		io.WriteString(w, name)
	}))
	config, err := authority.MutualTLS("server")
	if err != nil {
		t.Fatal(err)
	}
	config.ClientAuth = want
	server.TLS, server.Config.ErrorLog = config, log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// whoAsks returns what a nameServer answers to a request through the sender.
func whoAsks(t *testing.T, via *sender, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// rootsOf adds an authority to the roots of this machine.
func rootsOf(t *testing.T, authority *oauthtest.Authority) *roots.Roots {
	t.Helper()
	all, err := roots.New(os.Getenv, authority.PEM)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCertificateIsPresentedToOurServersOnly asks servers that only wish for a certificate.
func TestCertificateIsPresentedToOurServersOnly(t *testing.T) {
	p := newCertificateParts(t)
	path := writeParts(t, filepath.Join(t.TempDir(), "both.pem"), p.cert, p.key)
	c, err := openCertificate(cli.Upstream{ClientCert: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	transport := newTransport(directDialer().DialContext, nil, secure(rootsOf(t, p.authority), c))
	defer transport.CloseIdleConnections()
	upstream, other := nameServer(t, p.authority, tls.RequestClientCert), nameServer(t, p.authority, tls.RequestClientCert)
	toUpstream := &sender{next: transport, userAgent: "x", certificate: c, toUpstream: true}
	toOthers := &sender{next: transport, userAgent: "x", certificate: c}
	if got := whoAsks(t, toUpstream, upstream.URL); got != "ada" {
		t.Errorf("the upstream sees %q", got)
	}
	if got := whoAsks(t, toOthers, other.URL); got != "nobody" {
		t.Errorf("an origin that metadata names sees %q", got)
	}
	// A connection that presented no certificate is not used again once the origin may see one.
	permitted := &sender{next: transport, userAgent: "x", certificate: c, toUpstream: true}
	if got := whoAsks(t, permitted, other.URL); got != "ada" {
		t.Errorf("the same origin as our server sees %q", got)
	}
}

// TestCertificateRefused tells whether the server wants a certificate, or another one.
func TestCertificateRefused(t *testing.T) {
	p, stranger := newCertificateParts(t), newCertificateParts(t)
	server := nameServer(t, p.authority, tls.RequireAndVerifyClientCert)
	path := writeParts(t, filepath.Join(t.TempDir(), "both.pem"), stranger.cert, stranger.key)
	for _, test := range []struct {
		settings  cli.Upstream
		presented bool
	}{
		{cli.Upstream{}, false},
		{cli.Upstream{ClientCert: path}, true},
	} {
		c, err := openCertificate(test.settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		transport := newTransport(directDialer().DialContext, nil, secure(rootsOf(t, p.authority), c))
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		// The alert may come before the request or after it.
		_, err = (&sender{next: transport, userAgent: "x", certificate: c, toUpstream: true}).RoundTrip(req)
		refusal, ok := errors.AsType[*CertificateError](err)
		if !ok || refusal.Presented != test.presented || refusal.Host != server.Listener.Addr().String() {
			t.Errorf("got %v, want a refusal, presented %t", err, test.presented)
		}
	}
}

// TestCertificateIsReadAgain renews the certificate under a running proxy, also by halves.
func TestCertificateIsReadAgain(t *testing.T) {
	p := newCertificateParts(t)
	dir := t.TempDir()
	settings := cli.Upstream{
		ClientCert:    writeParts(t, filepath.Join(dir, "cert.pem"), p.cert),
		ClientCertKey: writeParts(t, filepath.Join(dir, "key.pem"), p.key),
	}
	var out bytes.Buffer
	c, err := openCertificate(settings, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	server := nameServer(t, p.authority, tls.RequireAndVerifyClientCert)
	transport := newTransport(directDialer().DialContext, nil, secure(rootsOf(t, p.authority), c))
	via := &sender{next: transport, userAgent: "x", certificate: c, toUpstream: true}
	ask := func(want string) {
		t.Helper()
		transport.CloseIdleConnections() // the server did, or a new call needs one more
		if got := whoAsks(t, via, server.URL); got != want {
			t.Errorf("the server sees %q, want %q", got, want)
		}
	}
	// The clock of a file system may be too coarse to tell two writes apart.
	later := time.Now()
	write := func(path string, part []byte) {
		t.Helper()
		later = later.Add(time.Minute)
		writeParts(t, path, part)
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	ask("ada")
	cert, key := issue(t, p.authority, "bob")
	write(settings.ClientCert, cert)
	ask("ada")
	if !strings.Contains(out.String(), "stays in use") {
		t.Errorf("the log has %q", out.String())
	}
	write(settings.ClientCertKey, key)
	ask("bob")
	if err := os.Remove(settings.ClientCert); err != nil {
		t.Fatal(err)
	}
	ask("bob")
	transport.CloseIdleConnections()
}
