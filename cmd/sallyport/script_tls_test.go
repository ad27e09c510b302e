package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"sallyport/oauth/oauthtest"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptMutual is `mutual`: an upstream and its login server, at two origins that both refuse a
// client without a certificate. It sets UPSTREAM and ISSUER, and VISITOR, which is the file of the
// browser's own certificate. It writes ca.pem, client.pem with certificate and key, client.crt and
// client.key, and stranger.pem, a pair of another authority.
//
// After `mutual aliases` the upstream and the login server take everybody. The login server's
// metadata names a third origin for clients with a certificate (RFC 8705 section 5), and its token
// endpoint is there only.
func scriptMutual(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	authority, err := oauthtest.NewAuthority()
	ts.Check(err)
	stranger, err := oauthtest.NewAuthority()
	ts.Check(err)
	write := func(name string, parts ...[]byte) string {
		path := filepath.Join(w.dir, name)
		ts.Check(os.WriteFile(path, bytes.Join(parts, nil), 0o600))
		return path
	}
	issue := func(a *oauthtest.Authority, name string) (cert, key []byte) {
		cert, key, err := a.Issue(name)
		ts.Check(err)
		return cert, key
	}
	write("ca.pem", authority.PEM)
	cert, key := issue(authority, "ada")
	write("client.pem", cert, key)
	write("client.crt", cert)
	write("client.key", key)
	cert, key = issue(stranger, "eve")
	write("stranger.pem", cert, key)
	cert, key = issue(authority, "browser")
	ts.Setenv("VISITOR", write("visitor.pem", cert, key, authority.PEM))

	login, mcp := http.NewServeMux(), http.NewServeMux()
	start := func(mux http.Handler, auth tls.ClientAuthType) string {
		server := httptest.NewUnstartedServer(mux)
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // a refused certificate is what the script is about
		server.TLS, err = authority.MutualTLS("server")
		ts.Check(err)
		server.TLS.ClientAuth = auth
		server.StartTLS()
		w.closers = append(w.closers, func() { server.CloseClientConnections(); server.Close() })
		return server.URL
	}
	auth := tls.RequireAndVerifyClientCert
	if len(args) == 1 && args[0] == "aliases" {
		auth = tls.NoClientCert
		alias := start(login, tls.RequireAndVerifyClientCert)
		login.HandleFunc("POST /token", func(rw http.ResponseWriter, r *http.Request) {
			if len(r.TLS.PeerCertificates) == 0 {
				http.Error(rw, "no certificate", http.StatusForbidden)
				return
			}
			w.login.ServeHTTP(rw, r)
		})
		defer func() {
			w.login.Play(oauthtest.Rule{At: oauthtest.ServerMetadata, Acts: true, Set: map[string]string{
				"token_endpoint_auth_methods_supported": `["tls_client_auth", "none"]`,
				"mtls_endpoint_aliases":                 `{"token_endpoint": "` + alias + `/token"}`,
			}})
		}()
	}
	issuer, upstream := start(login, auth), start(mcp, auth)
	w.login = oauthtest.New(issuer, upstream+"/mcp")
	w.login.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	login.Handle("/", w.login)
	guard := w.login.Guard(mcpServer())
	mcp.Handle("/mcp", guard)
	mcp.Handle("/.well-known/oauth-protected-resource/", guard)
	ts.Setenv("UPSTREAM", upstream+"/mcp")
	ts.Setenv("ISSUER", issuer)
}

// visitor returns what the program visit sends requests by: with the certificate of the file that
// VISITOR names, which also holds the authority, or the default.
func visitor() http.RoundTripper {
	path := os.Getenv("VISITOR")
	if path == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		panic(err)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, // the browser is not what is tested
	}}
}
