package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/roots"
)

// TestRouteAuto shows that a request takes the tunnel only where the direct dial itself fails, and
// is never sent twice.
func TestRouteAuto(t *testing.T) {
	directHits, viaHits := make(chan string, 10), make(chan string, 10)
	record := func(hits chan<- string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			hits <- r.Host + " " + string(body)
			if status == 0 {
				panic(http.ErrAbortHandler) // the connection breaks after the request was read
			}
			w.WriteHeader(status)
		}
	}
	via := httptest.NewServer(record(viaHits, http.StatusOK))
	defer via.Close()
	flaky := httptest.NewServer(record(directHits, 0))
	defer flaky.Close()

	dials := 0
	dialTo := func(server *httptest.Server) dialFunc {
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
		}
	}
	failing := func(ctx context.Context, _, addr string) (net.Conn, error) {
		dials++
		if strings.HasPrefix(addr, "flaky.example") {
			return dialTo(flaky)(ctx, "", "")
		}
		return nil, &DialError{errors.New("no route")}
	}
	direct, route := newTransport(failing, nil, secure(systemRoots(t), nil)), newAutoRoute(newTransport(dialTo(via), nil, secure(systemRoots(t), nil)))

	post := func(host string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/token", strings.NewReader("code=1"))
		if err != nil {
			t.Fatal(err)
		}
		return route.send(req, direct, isDialError)
	}
	for range 2 {
		resp, err := post("as.example")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if hit := <-viaHits; dials != 1 || len(viaHits) != 1 || hit != "as.example code=1" {
		t.Errorf("%d direct dials; via got %q and %d more, want 1 dial and 2 requests", dials, hit, len(viaHits))
	}
	if resp, err := post("flaky.example"); err == nil {
		resp.Body.Close()
		t.Error("a broken connection is not reported")
	}
	if len(directHits) != 1 || len(viaHits) != 1 {
		t.Errorf("a request that had left was sent again: %d times directly, %d through SSH", len(directHits), len(viaHits)-1)
	}
}

func TestDirectTransportHonoursProxyVariables(t *testing.T) {
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.Method + " " + r.Host }))
	defer proxy.Close()
	env := environment.Fixed(map[string]string{"https_proxy": proxy.URL, "HTTP_PROXY": proxy.URL, "NO_PROXY": "plain.example"}, "")
	transport := directTransport(env, secure(systemRoots(t), nil))
	defer transport.CloseIdleConnections()

	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://mcp.example/", nil)
	if resp, err := transport.RoundTrip(req); err == nil {
		resp.Body.Close() // the fake proxy tunnels nothing, so TLS fails
	}
	if got, want := <-asked, "CONNECT mcp.example:443"; got != want {
		t.Errorf("the proxy was asked %q, want %q", got, want)
	}
	for target, want := range map[string]bool{"http://other.example/": true, "http://plain.example/": false, "http://127.0.0.1/": false} {
		u, _ := url.Parse(target)
		got, err := transport.Proxy(&http.Request{URL: u})
		if err != nil || (got != nil) != want {
			t.Errorf("%s: proxy %v, %v; want one: %t", target, got, err, want)
		}
	}
}

// systemRoots are those of this machine.
func systemRoots(t *testing.T) *roots.Roots {
	t.Helper()
	all, err := openRoots(environment.Fixed(nil, ""), "")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCAFile(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	for _, name := range []string{"missing.pem", "routes_test.go"} {
		if _, err := openRoots(environment.Fixed(nil, ""), name); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	transport := directTransport(environment.Fixed(nil, ""), secure(systemRoots(t), nil))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	_, err := transport.RoundTrip(req)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("without the CA file: %v, want an unknown authority", err)
	}
}

// TestTransportsVerifyServers asks a server of a private authority on each way that there is, by
// HTTP/2. The server's certificate is for 127.0.0.1 and not for localhost.
func TestTransportsVerifyServers(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		far, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil || r.Method != http.MethodConnect {
			panic(http.ErrAbortHandler)
		}
		near, _, _ := http.NewResponseController(w).Hijack()
		io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { // ends with either side
			io.Copy(far, near)
			far.Close()
		}()
		io.Copy(near, far)
		near.Close()
	}))
	defer proxy.Close()
	file := writeParts(t, filepath.Join(t.TempDir(), "ca.pem"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	toServer := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	proxied := map[string]string{"HTTPS_PROXY": proxy.URL}
	for name, open := range map[string]func(security) *transport{
		"direct": func(s security) *transport { return directTransport(environment.Fixed(nil, ""), s) },
		"via":    func(s security) *transport { return newTransport(toServer, nil, s) },
		"named": func(s security) *transport {
			direct := directTransport(environment.Fixed(nil, ""), s)
			return newNamedRoute(policy{}, &url.URL{Host: "127.0.0.1"}, nil, direct, nil).limited[loopback]
		},
		"proxy": func(s security) *transport { return directTransport(environment.Fixed(proxied, ""), s) },
	} {
		for _, c := range []struct{ file, host, want string }{
			{file, "127.0.0.1", ""},
			{file, "localhost", "x509.HostnameError"},
			{"", "127.0.0.1", "x509.UnknownAuthorityError"},
		} {
			all, err := openRoots(environment.Fixed(nil, ""), c.file)
			if err != nil {
				t.Fatal(err)
			}
			if name == "proxy" { // no proxy is used for loopback
				c.host = map[string]string{"127.0.0.1": "example.com", "localhost": "other.test"}[c.host]
			}
			_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
			transport := open(secure(all, nil))
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+net.JoinHostPort(c.host, port), nil)
			resp, err := transport.RoundTrip(req)
			got := ""
			if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
				got = fmt.Sprintf("%T", e.Err)
			} else if err != nil {
				t.Fatal(err)
			} else {
				resp.Body.Close()
				if resp.ProtoMajor != 2 {
					t.Errorf("%s: %s", name, resp.Proto)
				}
			}
			if got != c.want {
				t.Errorf("%s, %s with CA file %q: got %v, want %q", name, c.host, c.file, err, c.want)
			}
			transport.CloseIdleConnections()
		}
	}
}
