package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/sshtunnel/sshtest"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/crypto/ssh"
)

// world is everything around the proxy: two bastions, a login server on the open network, and an
// MCP server in a network of its own.
type world struct {
	// upstream is the URL of the MCP server.
	upstream string
	// sshConfig and caFile are the files that the proxy is to use.
	sshConfig, caFile string
	// login is the login server.
	login *oauthtest.Server

	// transcript gets what reaches the servers.
	transcript *transcript
	// closers end the servers.
	closers []func()
}

// newWorld starts the world, and writes the files that a person would have in ~/.ssh into dir. The
// caller must close the world.
func newWorld(dir string, transcript *transcript) (_ *world, err error) {
	w := &world{upstream: "https://mcp.internal/mcp", sshConfig: filepath.Join(dir, "ssh_config"), caFile: filepath.Join(dir, "ca.pem"), transcript: transcript}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	certificate, err := w.certificate("mcp.internal", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.login = oauthtest.New("https://"+front.Addr().String(), w.upstream)
	w.serve(front, certificate, w.announced("login", w.login))
	transcript.say("login", "%s: OAuth 2.1 with PKCE, dynamic registration", w.login.Issuer)

	private := newInnerNetwork()
	w.serve(private, certificate, w.announced("mcp", w.login.Guard(mcpHandler())))
	transcript.say("mcp", "%s: takes only this login server's tokens; no address of this machine leads to it", w.upstream)
	return w, w.startBastions(dir, private)
}

// startBastions starts the chain laptop, outer, inner. It writes ssh_config, known_hosts and a
// key.
func (w *world) startBastions(dir string, private *innerNetwork) error {
	// The key is in a file, as a person's is.
	key, err := writeKey(filepath.Join(dir, "id_ed25519"))
	if err != nil {
		return err
	}
	// inner reaches the MCP server and nothing else.
	inner, err := sshtest.Start(sshtest.Config{
		AuthorizedKeys: []ssh.PublicKey{key},
		Dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
			if addr != "mcp.internal:443" {
				return nil, fmt.Errorf("no route to %s", addr)
			}
			w.transcript.say("inner", "logged in; opens a channel to %s, a name that only this side knows", addr)
			return private.dial(ctx)
		},
	})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, inner.Close)
	// outer gives the name inner.internal its meaning, as the DNS of a private network does.
	outer, err := sshtest.Start(sshtest.Config{
		AuthorizedKeys: []ssh.PublicKey{key},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "inner.internal:22" {
				return nil, fmt.Errorf("no route to %s", addr)
			}
			w.transcript.say("outer", "logged in; opens a channel to %s", addr)
			return (&net.Dialer{}).DialContext(ctx, network, inner.Addr())
		},
	})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, outer.Close)

	host, port, err := net.SplitHostPort(outer.Addr())
	if err != nil {
		return err
	}
	// The proxy verifies the host keys here too, so known_hosts has both.
	known := filepath.Join(dir, "known_hosts")
	config := fmt.Sprintf("Host outer\n  HostName %s\n  Port %s\nHost inner\n  HostName inner.internal\n  ProxyJump outer\nHost *\n  User ada\n  IdentityFile %s\n  UserKnownHostsFile %s\n",
		host, port, filepath.Join(dir, "id_ed25519"), known)
	if err := os.WriteFile(known, []byte(outer.KnownHosts("")+inner.KnownHosts("inner.internal")), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(w.sshConfig, []byte(config), 0o600); err != nil {
		return err
	}
	w.transcript.say("bastions", "outer at %s; inner.internal behind it, which outer alone resolves", outer.Addr())
	w.transcript.say("files", "a throw-away ssh_config, known_hosts and key:")
	for line := range strings.Lines(config) {
		w.transcript.say("", "    %s", strings.ReplaceAll(strings.TrimRight(line, "\n"), dir+"/", "~/.ssh/"))
	}
	return nil
}

// Close ends all servers of the world.
func (w *world) Close() {
	for _, c := range w.closers {
		c()
	}
}

// serve starts an HTTPS server, which ends with Close.
func (w *world) serve(l net.Listener, certificate tls.Certificate, handler http.Handler) {
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, ErrorLog: log.New(io.Discard, "", 0)}
	go server.ServeTLS(l, "", "") // ends with Close
	w.closers = append(w.closers, func() { server.Close() })
}

// announced says what reaches the server next, and passes it on.
func (w *world) announced(who string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The line is printed before the server answers. A request without a token always gets a
		// 401.
		note := ""
		if r.URL.Path == "/mcp" && r.Header.Get("Authorization") == "" {
			note = ", without a token: 401"
		}
		w.transcript.say(who, "%s %s%s", r.Method, r.URL.Path, note)
		next.ServeHTTP(rw, r)
	})
}

// greeting is the answer of the tool greet.
func greeting(name string) string { return "Hello " + name + ", from behind two bastions" }

// mcpHandler is an MCP server of the Go SDK with one tool.
func mcpHandler() http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "internal-tools", Version: "1.0.0"}, nil)
	type person struct {
		Name string `json:"name"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "greet", Description: "Greets somebody"}, func(_ context.Context, _ *mcp.CallToolRequest, in person) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: greeting(in.Name)}}}, nil, nil
	})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}

// innerNetwork is a listener without an address. Only its dial method can connect.
type innerNetwork struct {
	// conns passes the server's end of each pipe from dial to Accept.
	conns chan net.Conn
	// closed ends with Close.
	closed context.Context
	// close ends closed.
	close context.CancelFunc
}

// newInnerNetwork returns a network with one listener, which the HTTP server closes.
func newInnerNetwork() *innerNetwork {
	n := &innerNetwork{conns: make(chan net.Conn)}
	n.closed, n.close = context.WithCancel(context.Background())
	return n
}

// dial connects to the listener. It waits until the server accepts, until Close, or until ctx ends.
func (n *innerNetwork) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case n.conns <- far:
		return near, nil
	case <-n.closed.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (n *innerNetwork) Accept() (net.Conn, error) {
	select {
	case conn := <-n.conns:
		return conn, nil
	case <-n.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *innerNetwork) Close() error { n.close(); return nil }

// Addr implements net.Listener.
func (n *innerNetwork) Addr() net.Addr { return &net.UnixAddr{Name: "inner network", Net: "pipe"} }

// writeKey makes a key pair and writes the private key. OpenSSH refuses a key file that others may
// read, hence the mode.
func writeKey(path string) (ssh.PublicKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "demo")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(private.Public())
}

// certificate makes a self-signed certificate, and writes it to caFile as the authority to trust.
func (w *world) certificate(names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sallyport demo"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(w.caFile, text, 0o600)
}
