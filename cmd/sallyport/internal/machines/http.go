//go:build linux

package machines

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// Curl runs curl inside ns and returns the body. It takes no proxy.
func Curl(t testing.TB, ns *Namespace, args ...string) string {
	t.Helper()
	NeedProgram(t, "curl", "curl")
	cmd := ns.Command(t, "curl", append([]string{"-s", "-S", "--noproxy", "*", "--max-time", "60"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("curl %q: %v: %s", args, err, out)
	}
	return string(out)
}

// Visit makes one request as a browser that follows no redirect. An empty host is that of the URL.
func Visit(t testing.TB, link, host string) (status int, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// ParseURL parses a URL, which has to be one.
func ParseURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// PassOn is a handler that passes requests on to the origin of a URL, event streams too.
func PassOn(t testing.TB, to string) http.Handler {
	t.Helper()
	origin := &url.URL{Scheme: "http", Host: ParseURL(t, to).Host}
	return &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(origin) }}
}

// Serve serves a handler in this process, until the end of the test. It returns its origin.
func Serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func init() { Role("catcher", playCatcher) }

// StartCatcher starts a listener of an account's own on an address: another program that waits for
// a callback. Its Out is "ready", then a line for each request that it was handed: method, URL,
// host, cookies. It answers "caught".
func StartCatcher(t testing.TB, as *Account, addr string) *Process {
	t.Helper()
	p, _ := StartRoleAs(t, as, "catcher", addr)
	return p
}

func playCatcher(text []byte) error {
	var addr string
	if err := json.Unmarshal(text, &addr); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL, r.Host, r.Header["Cookie"])
		fmt.Fprint(w, "caught")
	}))
}

// ConnectProxy is an HTTP proxy of an organization, which knows CONNECT alone, and no names but its
// own.
type ConnectProxy struct {
	// URL has a user, "person", and a password, "hush".
	URL string

	mu    sync.Mutex
	asked []string
}

// StartConnectProxy starts a proxy that connects to routes[host:port]. It ends with the test.
func StartConnectProxy(t testing.TB, routes map[string]string) *ConnectProxy {
	t.Helper()
	p := &ConnectProxy{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.URL = "http://person:hush@" + listener.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn, routes) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return p
}

// Asked returns what the proxy was asked for so far, each "host:port user:password".
func (p *ConnectProxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *ConnectProxy) serve(conn net.Conn, routes map[string]string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	basic := http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}
	name, password, _ := basic.BasicAuth()
	p.mu.Lock()
	p.asked = append(p.asked, req.Host+" "+name+":"+password)
	p.mu.Unlock()
	target, err := net.Dial("tcp", routes[req.Host])
	if req.Method != http.MethodConnect || routes[req.Host] == "" || err != nil {
		io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer target.Close()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { // ends with the client
		io.Copy(target, in)
		target.Close()
	}()
	io.Copy(conn, target)
}
