package farbrowser

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
)

// farNet is a far side: names that only it resolves, and what was asked of it.
type farNet struct {
	// addrs are the servers, by host:port.
	addrs map[string]string

	mu    sync.Mutex
	asked []string
	// dead says that the connection is gone.
	dead  bool
	conns []net.Conn
}

func (f *farNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, addr)
	to, ok := f.addrs[addr]
	if !ok || f.dead {
		return nil, errors.New("the far side does not know " + addr)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, to)
	if err == nil {
		f.conns = append(f.conns, conn)
	}
	return conn, err
}

// cut ends the far side and all of its connections.
func (f *farNet) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for _, conn := range f.conns {
		conn.Close()
	}
}

func (f *farNet) wasAsked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// served is a proxy and where it listens.
type served struct {
	*proxy
	addr string
}

// serve starts a proxy for a login at host, which ends with ctx.
func serve(t *testing.T, ctx context.Context, f *farNet, host string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	p := newProxy(ctx, newSides(f.dial, host, testLog(t)), time.Now().Add(time.Hour), testLog(t))
	addr, _, err := p.serve(0)
	if err != nil {
		t.Fatal(err)
	}
	return &served{p, addr}
}

// startTest starts a proxy for a login at host, and a client that uses it.
func startTest(t *testing.T, f *farNet, host string) (*served, *http.Client) {
	t.Helper()
	p := serve(t, t.Context(), f, host)
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: p.addr}),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificates of httptest
	}
	t.Cleanup(transport.CloseIdleConnections)
	return p, &http.Client{Transport: transport}
}

// hello answers with its host and query.
var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello %s %s %s", r.Host, r.URL.RawQuery, r.Header.Get("X-Forwarded-For")+r.Header.Get("Via"))
})

func fetch(t *testing.T, client *http.Client, page string) (status int, body string) {
	t.Helper()
	resp, err := client.Get(page)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// TestHosts visits servers that are reached through the far side alone.
func TestHosts(t *testing.T) {
	secure, plain := httptest.NewTLSServer(hello), httptest.NewServer(hello)
	defer secure.Close()
	defer plain.Close()
	tlsAddr, plainAddr := secure.Listener.Addr().String(), plain.Listener.Addr().String()
	f := &farNet{addrs: map[string]string{
		"login.test.invalid:443": tlsAddr, "login.test.invalid:80": plainAddr, "idp.test.invalid:8443": tlsAddr,
		"idp.test.invalid:80": plainAddr, "192.0.2.7:443": tlsAddr, "127.0.0.1:80": plainAddr, "localhost:80": plainAddr,
	}}
	_, client := startTest(t, f, "login.test.invalid")
	for _, test := range []struct {
		name, page string
		want       int // 0: no answer of a server
		body       string
	}{
		{"the login server", "https://login.test.invalid/?a=1", 200, "hello login.test.invalid a=1 "},
		{"the login server in the clear", "http://login.test.invalid/?a=1;b&%zz", 200, "hello login.test.invalid a=1;b&%zz "},
		{"in other letters, with a dot", "http://LOGIN.test.invalid./", 200, "hello LOGIN.test.invalid. "},
		{"a host that its pages lead to", "https://idp.test.invalid:8443/", 200, "hello idp.test.invalid:8443 "},
		{"that host in the clear", "http://idp.test.invalid/", 403, errPlain.Error()},
		{"a host that nobody reaches", "https://nowhere.test.invalid/", 0, "Bad Gateway"},
		{"an address that the far side reaches", "https://192.0.2.7/", 0, "Forbidden"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := fetch(t, client, test.page)
			if status != test.want || !strings.Contains(body, test.body) {
				t.Errorf("got %d %q, want %d %q", status, body, test.want, test.body)
			}
		})
	}
}

// TestThisMachine asks for this machine in every form, by CONNECT and in the clear. Neither is
// anything dialed here nor is the far side asked.
func TestThisMachine(t *testing.T) {
	var visited atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited.Add(1) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	hosts := []string{
		"127.0.0.1", "127.0.0.2", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "[::1]", "[::]",
		"[::ffff:127.0.0.1]", "[fe80::1]", "169.254.169.254", "224.0.0.1", "localhost", "LOCALHOST", "localhost.", "a.localhost",
		"localhost.localdomain", "ip6-localhost", "%31%32%37.0.0.1", "a b", "", "-", "a..b", "x@127.0.0.1", "192.0.2.1", "a.0x7f",
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range own {
		ip := addr.(*net.IPNet).IP.String()
		if strings.Contains(ip, ":") {
			ip = "[" + ip + "]"
		}
		hosts = append(hosts, ip)
	}
	f := &farNet{}
	p, _ := startTest(t, f, "login.test.invalid")
	for _, host := range hosts {
		for _, request := range []string{
			"CONNECT %[1]s:%[2]s HTTP/1.1\r\nHost: login.test.invalid\r\n\r\n",
			"GET http://%[1]s:%[2]s/ HTTP/1.1\r\nHost: login.test.invalid\r\n\r\n",
		} {
			if got := raw(t, p.addr, fmt.Sprintf(request, host, port)); got < 400 && host != "-" {
				t.Errorf("%q: status %d to %q", host, got, request)
			}
		}
	}
	if asked := f.wasAsked(); visited.Load() != 0 || len(asked) > 1 || len(asked) == 1 && !strings.HasPrefix(asked[0], "-:") {
		t.Errorf("this machine was visited %d times, and the far side asked for %q", visited.Load(), asked)
	}
}

// raw sends bytes to the proxy and returns the status of the answer, which is 599 if there is none.
func raw(t *testing.T, addr, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 599
	}
	defer conn.Close()
	go io.WriteString(conn, request) // ends with conn
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 599
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestNameOfThisMachine has names that resolve to loopback: they are neither dialed nor asked for.
func TestNameOfThisMachine(t *testing.T) {
	server := httptest.NewServer(hello)
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	f := &farNet{}
	s := newSides(f.dial, "login.test.invalid", testLog(t))
	p, err := s.place("rebound.test.invalid")
	if err != nil {
		t.Fatal(err)
	}
	// The name was judged; the address is what a name server answers. dialNear sees the address.
	conn, err := s.dialSide(t.Context(), p, "127.0.0.1:"+port)
	if e, ok := errors.AsType[*AddressError](err); !ok || e.Reason != thisMachine {
		t.Errorf("got %v, %v; want an AddressError", conn, err)
	}
	if asked := f.wasAsked(); len(asked) > 0 {
		t.Errorf("the far side was asked for %q", asked)
	}
}

// TestSideIsKept shows that neither a host that was reached from here goes to the far side later,
// nor the reverse.
func TestSideIsKept(t *testing.T) {
	f := &farNet{}
	s := newSides(f.dial, "login.test.invalid", testLog(t))
	p, err := s.place("host.test.invalid")
	if err != nil {
		t.Fatal(err)
	}
	p.set(near, true)
	if conn, err := s.dial(t.Context(), "tcp", "host.test.invalid:443"); err == nil {
		conn.Close()
		t.Error("a host that does not exist was reached")
	}
	if asked := f.wasAsked(); len(asked) > 0 {
		t.Errorf("the far side was asked for %q", asked)
	}
	// A name server that says first a public address and then a private one is not followed.
	_, err = s.dialSide(t.Context(), p, "10.255.255.1:9")
	if e, ok := errors.AsType[*AddressError](err); !ok || e.Reason != turnedPrivate {
		t.Errorf("got %v, want an AddressError", err)
	}
	server := httptest.NewServer(hello)
	defer server.Close()
	f.addrs = map[string]string{"inner.test.invalid:443": server.Listener.Addr().String()}
	conn, err := s.dial(t.Context(), "tcp", "inner.test.invalid:443")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if inner, err := s.place("inner.test.invalid"); err != nil || inner.side != far {
		t.Errorf("a host of the far side is not remembered: %v, %v", inner, err)
	}
	if got := s.learned(); len(got) != 1 || got[0] != "inner.test.invalid" {
		t.Errorf("learned %q", got)
	}
	for i := range maxHosts {
		s.place(fmt.Sprintf("host%d.test.invalid", i))
	}
	if _, err := s.dial(t.Context(), "tcp", "onemore.test.invalid:443"); !errors.Is(err, errManyHosts) {
		t.Errorf("got %v, want %v", err, errManyHosts)
	}
}

// TestOrganizationProxy has a proxy in the environment that alone reaches a host, and another one
// that it refuses.
func TestOrganizationProxy(t *testing.T) {
	server := httptest.NewTLSServer(hello)
	defer server.Close()
	addr := server.Listener.Addr().String()
	organization := &farNet{addrs: map[string]string{"cdn.test.invalid:443": addr}}
	through := serve(t, t.Context(), organization, "cdn.test.invalid")
	f := &farNet{addrs: map[string]string{"login.test.invalid:443": addr, "cdn.test.invalid:443": addr}}
	p, client := startTest(t, f, "login.test.invalid")
	env := environment.Fixed(map[string]string{"https_proxy": "http://ada:secret@" + through.addr}, "")
	p.sides.proxies = env.Proxies()
	for _, host := range []string{"cdn.test.invalid", "login.test.invalid"} {
		if status, body := fetch(t, client, "https://"+host+"/"); status != 200 {
			t.Errorf("%s: %d %s", host, status, body)
		}
	}
	if got := f.wasAsked(); len(got) != 1 || got[0] != "login.test.invalid:443" {
		t.Errorf("the far side was asked for %q", got)
	}
}

// TestLinks opens links that are nothing for this package, or for no browser. Neither is the far
// side asked.
func TestLinks(t *testing.T) {
	for link, want := range map[string]error{
		"https://127.0.0.1/": nil, "http://localhost:1/": nil, "https://[::1]/": nil, "https://a_b..c/": nil, "https://127.1/": nil,
		"javascript:alert(1)": ErrLink, "file:///etc/passwd": ErrLink, "--flag": ErrLink, "https:///x": ErrLink, "https://bank@evil.test/": ErrLink,
	} {
		f := &farNet{}
		result, err := Open(t.Context(), Config{Link: link, Far: f.dial, Env: environment.Fixed(nil, ""), Log: testLog(t)})
		if !errors.Is(err, want) || result.Way != Direct || len(f.wasAsked()) > 0 {
			t.Errorf("%q: got %+v, %v; want %v; the far side was asked for %q", link, result, err, want, f.wasAsked())
		}
	}
}

// TestNotEncrypted connects by CONNECT and sends no TLS, as a WebSocket of ws: does.
func TestNotEncrypted(t *testing.T) {
	server := httptest.NewServer(hello)
	defer server.Close()
	addr := server.Listener.Addr().String()
	f := &farNet{addrs: map[string]string{"idp.test.invalid:80": addr, "login.test.invalid:80": addr}}
	p, _ := startTest(t, f, "login.test.invalid")
	for host, want := range map[string]bool{"idp.test.invalid:80": false, "login.test.invalid:80": true} {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", host)
		text, _ := io.ReadAll(conn)
		conn.Close()
		if got := strings.Contains(string(text), "hello"); got != want || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
			t.Errorf("%s answers: %t, want %t (%q)", host, got, want, text)
		}
	}
}

// TestTooMuch sends what is too much for the proxy. Afterwards it still serves.
func TestTooMuch(t *testing.T) {
	server := httptest.NewTLSServer(hello)
	defer server.Close()
	f := &farNet{addrs: map[string]string{"login.test.invalid:443": server.Listener.Addr().String()}}
	p, client := startTest(t, f, "login.test.invalid")
	for name, request := range map[string]string{
		"a header":       "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"many headers":   "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: a\r\n", 1<<18) + "\r\n",
		"a request line": "CONNECT " + strings.Repeat("a", 1<<20) + ":443 HTTP/1.1\r\n\r\n",
		"a name":         "CONNECT " + strings.Repeat("a", 300) + ":443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"a port":         "CONNECT login.test.invalid:99999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
		"no port":        "CONNECT login.test.invalid HTTP/1.1\r\nHost: x\r\n\r\n",
		"another scheme": "GET ftp://login.test.invalid/ HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if got := raw(t, p.addr, request); got < 400 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	// Thousands of connections that say nothing: they wait, and hold nobody up when they are gone.
	var idle []net.Conn
	for range 3000 {
		conn, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err != nil {
			break // the kernel's queue is full
		}
		idle = append(idle, conn)
	}
	if len(idle) <= maxConns {
		t.Errorf("only %d connections", len(idle))
	}
	for _, conn := range idle {
		conn.Close()
	}
	if status, body := fetch(t, client, "https://login.test.invalid/"); status != 200 {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// TestEnds cuts the far side in the middle of a connection, and then ends the login.
func TestEnds(t *testing.T) {
	server := httptest.NewTLSServer(hello)
	defer server.Close()
	f := &farNet{addrs: map[string]string{"login.test.invalid:443": server.Listener.Addr().String()}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := serve(t, ctx, f, "login.test.invalid")
	open := func() net.Conn {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, "CONNECT login.test.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		return conn
	}
	ended := func(conn net.Conn, when string) {
		t.Helper()
		defer conn.Close()
		if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection goes on", when)
		}
	}
	first, second := open(), open()
	f.cut()
	ended(first, "after the far side was cut")
	ended(second, "after the far side was cut")
	if got := raw(t, p.addr, "CONNECT login.test.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\n"); got != http.StatusBadGateway {
		t.Errorf("without a far side: status %d", got)
	}
	f.mu.Lock()
	f.dead = false
	f.mu.Unlock()
	third := open()
	cancel()
	ended(third, "after the login")
	if got := raw(t, p.addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); got != 599 {
		t.Errorf("after the login the proxy answers with status %d", got)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// TestPACFiles asks for the files under the proxy's own name and under others.
func TestPACFiles(t *testing.T) {
	p, _ := startTest(t, &farNet{}, "login.test.invalid")
	for _, test := range []struct {
		name, path, host string
		want             int
	}{
		{"of the person", p.pacPath, p.addr, 200},
		{"under another name", p.pacPath, "evil.example", 404},
		{"another path", "/proxy.pac", p.addr, 404},
		{"no path", "/", p.addr, 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := raw(t, p.addr, "GET "+test.path+" HTTP/1.1\r\nHost: "+test.host+"\r\n\r\n"); got != test.want {
				t.Errorf("status %d, want %d", got, test.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "0.0.0.0": true, "0.1.2.3": true, "::": true,
		"169.254.1.1": true, "fe80::1%eth0": true, "224.0.0.251": true, "ff02::1": true,
		"10.1.2.3": false, "192.0.2.1": false, "2001:db8::1": false,
	} {
		if got := isThisMachine(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}
