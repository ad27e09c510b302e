package session

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
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
	direct, route := newTransport(failing, nil, nil), newAutoRoute(newTransport(dialTo(via), nil, nil))

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
	transport := directTransport(env, nil)
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

func TestCAFile(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	for _, name := range []string{"missing.pem", "routes_test.go"} {
		if _, err := rootCAs(name); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	transport := directTransport(environment.Fixed(nil, ""), nil)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	_, err := transport.RoundTrip(req)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("without the CA file: %v, want an unknown authority", err)
	}
}
