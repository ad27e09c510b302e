// Package world is everything around a sallyport that somebody looks at: two bastions, a login
// server, and an MCP server that only the second bastion can reach, all in this process and on
// loopback. `make demo` shows it, and `sallyport try` offers it to practise on.
package world

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

	"golang.org/x/crypto/ssh"
)

// Config describes a world.
type Config struct {
	// Dir is the directory for the files that a person would have in ~/.ssh, and for the
	// certificate of the authority to trust.
	Dir string
	// MCP is the MCP server.
	MCP http.Handler
	// HasPages says that the login server speaks http, so that a browser shows its pages without a
	// warning, and has a page with a button. Without it, it speaks https and agrees to everything.
	HasPages bool
	// Say is told what happens: where, and what.
	Say func(where, format string, args ...any)
}

// World is two bastions, a login server on the open network, and an MCP server in a network of its
// own. The caller must Close it.
type World struct {
	// Upstream is the URL of the MCP server.
	Upstream string
	// SSHConfig and CAFile are the files that the proxy is to use.
	SSHConfig, CAFile string
	// Login is the login server.
	Login *oauthtest.Server

	// cfg is what New was given.
	cfg Config
	// closers end the servers.
	closers []func()
}

// New starts a world, and writes its files.
func New(cfg Config) (_ *World, err error) {
	w := &World{
		Upstream: "https://mcp.internal/mcp", SSHConfig: filepath.Join(cfg.Dir, "ssh_config"), CAFile: filepath.Join(cfg.Dir, "ca.pem"), cfg: cfg,
	}
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
	if cfg.HasPages {
		w.Login = oauthtest.New("http://"+front.Addr().String(), w.Upstream)
		w.serve(front, w.announced("login", withPages(w.Login)))
	} else {
		w.Login = oauthtest.New("https://"+front.Addr().String(), w.Upstream)
		w.serve(tls.NewListener(front, tlsConfig(certificate)), w.announced("login", w.Login))
	}
	// Its pages are on loopback, so a code that is typed on another machine would lead nowhere.
	w.Login.Set(func(k *oauthtest.Knobs) { k.NoDevice = true })
	cfg.Say("login", "%s: OAuth 2.1 with PKCE, dynamic registration", w.Login.Issuer)

	private := newInnerNetwork()
	w.serve(tls.NewListener(private, tlsConfig(certificate)), w.announced("mcp", w.Login.Guard(cfg.MCP)))
	cfg.Say("mcp", "%s: takes only this login server's tokens; no address of this machine leads to it", w.Upstream)
	return w, w.startBastions(cfg.Dir, private)
}

// tlsConfig is that of a server with a certificate.
func tlsConfig(certificate tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate}}
}

// startBastions starts the chain laptop, outer, inner. It writes ssh_config, known_hosts and a
// key.
func (w *World) startBastions(dir string, private *innerNetwork) error {
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
			w.cfg.Say("inner", "logged in; opens a channel to %s, a name that only this side knows", addr)
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
			w.cfg.Say("outer", "logged in; opens a channel to %s", addr)
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
	if err := os.WriteFile(w.SSHConfig, []byte(config), 0o600); err != nil {
		return err
	}
	w.cfg.Say("bastions", "outer at %s; inner.internal behind it, which outer alone resolves", outer.Addr())
	w.cfg.Say("files", "a throw-away ssh_config, known_hosts and key:")
	for line := range strings.Lines(config) {
		w.cfg.Say("", "    %s", strings.ReplaceAll(strings.TrimRight(line, "\n"), dir+"/", "~/.ssh/"))
	}
	return nil
}

// Close ends all servers of the world.
func (w *World) Close() {
	for _, c := range w.closers {
		c()
	}
}

// serve starts an HTTP server, which ends with Close.
func (w *World) serve(l net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go server.Serve(l) // ends with Close
	w.closers = append(w.closers, func() { server.Close() })
}

// announced says what reaches the server next, and passes it on.
func (w *World) announced(who string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The line is printed before the server answers. A request without a token always gets a
		// 401.
		note := ""
		if r.URL.Path == "/mcp" && r.Header.Get("Authorization") == "" {
			note = ", without a token: 401"
		}
		w.cfg.Say(who, "%s %s%s", r.Method, r.URL.Path, note)
		next.ServeHTTP(rw, r)
	})
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

// certificate makes a self-signed certificate, and writes it to CAFile as the authority to trust.
func (w *World) certificate(names ...string) (tls.Certificate, error) {
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(w.CAFile, text, 0o600)
}
