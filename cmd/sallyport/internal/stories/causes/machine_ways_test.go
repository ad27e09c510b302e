//go:build linux

package causes_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// networkWays fail on the way to the servers.
var networkWays = []way{
	{name: "upstream refuses connections", server: func(w *world) { w.upstream = "http://127.0.0.1:" + machines.ClosedPort(w.t) + "/mcp" },
		cause: `connection refused`, hint: `nothing listens`, kind: "unreachable", login: 6},
	{name: "upstream's name is unknown", server: func(w *world) { w.upstream = "https://mcp.invalid/mcp" },
		cause: `lookup mcp\.invalid`, hint: `spelling of "mcp.invalid"`, kind: "unreachable", login: 6},
	{name: "upstream is no TLS server", server: func(w *world) { w.upstream = "https" + w.upstream[len("http"):] },
		cause: `HTTP response to HTTPS client|tls`, hint: `does not speak TLS`, kind: "tls", login: 6},
	{name: "proxy not there", server: func(w *world) { w.upstream = "http://mcp.example/mcp" },
		args: []string{"--allow-insecure-http"}, env: []string{"HTTP_PROXY=http://127.0.0.1:9"},
		cause: `proxyconnect`, hint: `HTTPS_PROXY or HTTP_PROXY names cannot be reached`, kind: "unreachable", login: 6},
	{name: "unknown authority", server: func(w *world) { w.startTLS(tlsOptions{}) },
		cause: `certificate`, hint: `--ca-file FILE`, kind: "tls", login: 6},
	{name: "authority not in the file", args: []string{"--ca-file", "FILES/other.pem"}, server: func(w *world) {
		w.startTLS(tlsOptions{})
		w.write("other.pem", machines.ReadFile(w.t, machines.NewAuthority(w.t).File))
	}, cause: `certificate`, hint: `none of the authorities in --ca-file`, never: `--ca-file FILE`, kind: "tls", login: 6},
	{name: "certificate expired", args: []string{"--ca-file", "FILES/ca.pem"}, server: func(w *world) { w.startTLS(tlsOptions{expired: true}) },
		cause: `the certificate is good from`, hint: `must renew its certificate`, kind: "tls", login: 6},
	{name: "certificate of another name", args: []string{"--ca-file", "FILES/ca.pem"}, server: func(w *world) { w.startTLS(tlsOptions{name: "other.example"}) },
		cause: `certificate`, hint: `the certificate is for other\.example`, kind: "tls", login: 6},
	{name: "client certificate wanted", args: []string{"--ca-file", "FILES/ca.pem"}, server: func(w *world) { w.startTLS(tlsOptions{wantsClient: true}) },
		cause: `certificate required`, hint: `--client-cert FILE`, kind: "tls", login: 6},
}

// machineWays are faults of the machine that the proxy runs on.
var machineWays = []way{
	{name: "store cannot be written", works: true, args: []string{"--state-dir", "FILES/file/below"}, server: func(w *world) { w.write("file", "") },
		cause: `the tokens could not be stored`, hint: `--state-dir`, login: 1},
	{name: "no keyring", args: []string{"--token-store", "keyring"},
		cause: `--token-store keyring`, hint: `unlock it|--token-store auto`, login: 2},
}

// write makes a file in the home.
func (w *world) write(name, text string) {
	if err := os.WriteFile(filepath.Join(w.files, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// tlsOptions are what is odd about a server's TLS.
type tlsOptions struct {
	// name is the only host of the certificate. Empty is the right one.
	name string
	// expired makes the certificate one of yesterday.
	expired bool
	// wantsClient makes the server demand a client certificate.
	wantsClient bool
}

// startTLS replaces the upstream by one that speaks TLS. Its certificate is the file ca.pem.
func (w *world) startTLS(o tlsOptions) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if o.name != "" {
		template.IPAddresses, template.DNSNames = nil, []string{o.name}
	}
	if o.expired {
		template.NotAfter = time.Now().Add(-24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(w)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if o.wantsClient {
		server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	w.write("ca.pem", machines.PEM("CERTIFICATE", der))
	w.upstream = server.URL + "/mcp"
}
