package session

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// TestNamedRoute asks for a server on loopback in the name of upstreams that are elsewhere, and of
// some that are not. localhost stands for a name that somebody has turned to 127.0.0.1.
func TestNamedRoute(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer server.Close()
	port := server.URL[len("http://127.0.0.1:"):]
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer proxy.Close()
	loopback, public := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(1, 1, 1, 1), Port: 443}
	for _, test := range []struct {
		name, upstream, target string
		reached                []net.Addr // where the upstream was, in turn
		trusted                []string
		proxied                bool
		want                   int // 0: refused
	}{
		{"public upstream", "https://1.1.1.1/mcp", server.URL, []net.Addr{public}, nil, false, 0},
		{"public upstream, a name", "https://1.1.1.1/mcp", "http://localhost:" + port, []net.Addr{public}, nil, false, 0},
		{"public upstream, not reached yet", "https://1.1.1.1/mcp", server.URL, nil, nil, false, 0},
		{"upstream of no address", "https://none.invalid/mcp", server.URL, nil, nil, false, 0},
		{"upstream that moved in later", "https://1.1.1.1/mcp", server.URL, []net.Addr{public, loopback}, nil, false, 0},
		{"upstream that claims to be here", "https://localhost/mcp", server.URL, []net.Addr{public}, nil, false, 0},
		{"link-local", "https://1.1.1.1/mcp", "http://169.254.169.254/latest", []net.Addr{public}, nil, false, 0},
		{"private", "https://1.1.1.1/mcp", "http://[fd00::1]/", []net.Addr{public}, nil, false, 0},
		{"upstream here", "https://localhost/mcp", server.URL, nil, nil, false, 200},
		{"upstream reached here", "https://mcp.internal/mcp", server.URL, []net.Addr{loopback}, nil, false, 200},
		{"named by the settings", "https://1.1.1.1/mcp", server.URL, []net.Addr{public}, []string{server.URL}, false, 200},
		{"through a proxy", "https://1.1.1.1/mcp", "http://as.example/", []net.Addr{public}, nil, true, 418},
		{"through a proxy to an address", "https://1.1.1.1/mcp", "http://10.0.0.1/", []net.Addr{public}, nil, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			variables := map[string]string{}
			if test.proxied {
				variables["HTTP_PROXY"] = proxy.URL
			}
			direct := directTransport(environment.Fixed(variables, ""), secure(systemRoots(t), nil))
			defer direct.CloseIdleConnections()
			upstream, err := url.Parse(test.upstream)
			if err != nil {
				t.Fatal(err)
			}
			route := newNamedRoute(policy{}, upstream, test.trusted, direct, nil)
			for _, addr := range test.reached {
				route.note(dialAddr(upstream), addr)
			}
			asked = 0
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := route.RoundTrip(req)
			if test.want == 0 {
				_, ok := errors.AsType[*PrivateAddressError](err)
				if !ok || asked != 0 {
					t.Errorf("got %v, %v after %d requests, want it refused", resp, err, asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.want {
				t.Errorf("status %d, want %d", resp.StatusCode, test.want)
			}
		})
	}
}

// TestNamedRouteLearnsWhereTheUpstreamIs from the connections of the upstream's own requests.
func TestNamedRouteLearnsWhereTheUpstreamIs(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	direct := directTransport(environment.Fixed(nil, ""), secure(systemRoots(t), nil))
	defer direct.CloseIdleConnections()
	route := newNamedRoute(policy{}, upstream, nil, direct, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := direct.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := route.standingOf(t.Context(), upstream), (standing{Here, loopback}); got != want {
		t.Errorf("got %v, want %v: the upstream is known to be here", got, want)
	}
}
