package session

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

func TestIsPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"1.1.1.1": true, "2606:4700::1111": true, "64:ff9b::101:101": true,
		"127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false,
		"10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "::ffff:10.1.2.3": false, "fd00::1": false, "100.64.0.1": false,
		"169.254.169.254": false, "fe80::1%eth0": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false,
		"192.0.2.1": false, "198.18.0.1": false, "2001:db8::1": false, "2001::1": false, "64:ff9b:1::1": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "2002:7f00:1::": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}

// TestSSRFGuard asks for a server on loopback in the name of upstreams that are elsewhere, and of
// some that are not. localhost stands for a name that somebody has turned to 127.0.0.1.
func TestSSRFGuard(t *testing.T) {
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
			direct := directTransport(environment.Fixed(variables, ""), nil)
			defer direct.CloseIdleConnections()
			upstream, err := url.Parse(test.upstream)
			if err != nil {
				t.Fatal(err)
			}
			guard := newSSRFGuard(direct, upstream, test.trusted)
			defer guard.public.CloseIdleConnections()
			for _, addr := range test.reached {
				guard.reached(addr)
			}
			asked = 0
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := guard.RoundTrip(req)
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

// TestSSRFGuardLearnsWhereTheUpstreamIs from the connections that the upstream's own requests make.
func TestSSRFGuardLearnsWhereTheUpstreamIs(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	direct := directTransport(environment.Fixed(nil, ""), nil)
	defer direct.CloseIdleConnections()
	guard := newSSRFGuard(direct, upstream, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := direct.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !guard.reachedPrivate.Load() || guard.reachedPublic.Load() {
		t.Errorf("private %t, public %t; want the upstream known to be here", guard.reachedPrivate.Load(), guard.reachedPublic.Load())
	}
}
