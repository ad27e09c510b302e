//go:build linux

package machines

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// ConnectProxy is an HTTP proxy of an organization, which knows CONNECT alone, and no names but its own.
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
