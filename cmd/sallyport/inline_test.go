package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// inlinePeer answers each request with the next of raw, as many on one connection as come, and counts connections. "" closes.
type inlinePeer struct {
	transport *inlineTransport
	url       string

	mu    sync.Mutex
	raw   []string
	conns int
	asked []*http.Request // with their bodies read
}

func newInlinePeer(t *testing.T, raw ...string) *inlinePeer {
	t.Helper()
	if !asksSockets {
		t.Skip("sockets cannot be asked here, and are not carried so")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &inlinePeer{url: "http://" + listener.Addr().String() + "/mcp?x=1", raw: raw}
	p.transport = newInlineTransport(newTransport((&net.Dialer{}).DialContext, nil, nil))
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			p.mu.Unlock()
			wg.Go(func() { defer conn.Close(); p.serve(conn) }) // ends with the connection
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.transport.CloseIdleConnections()
		wg.Wait()
	})
	return p
}

func (p *inlinePeer) serve(conn net.Conn) {
	for r := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		p.mu.Lock()
		p.asked = append(p.asked, req)
		answer := ""
		if len(p.raw) > 0 {
			answer, p.raw = p.raw[0], p.raw[1:]
		}
		p.mu.Unlock()
		if answer == "" {
			return
		}
		answer, closes := strings.CutSuffix(answer, "[close]")
		answer, silent := strings.CutSuffix(answer, "[silence]")
		io.WriteString(conn, answer)
		if silent {
			io.Copy(io.Discard, conn)
		}
		if closes {
			return
		}
	}
}

func (p *inlinePeer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns
}

func (p *inlinePeer) post(ctx context.Context, body string) (status int, header http.Header, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b), err
}

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

// Every way to say where a body ends, and whether the connection can be used again after it.
func TestInlineAnswers(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, tt := range []struct {
		name, raw string
		status    int
		answer    string
		conns     int // for this answer and the next
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", 1},
		{"long", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), 200, long, 1},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, "hello", 1},
		{"no body", "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, "", 1},
		{"never a body", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", 1},
		{"to the end of the connection", "HTTP/1.1 200 OK\r\n\r\nhello[close]", 200, "hello", 2},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", 2},
		{"Connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", 2},
		{"on the way first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", 1},
		{"gzip", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(packed("hello")), packed("hello")), 200, "hello", 1},
		{"status", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 7\r\n\r\nbusy", 503, "busy", 1},
		{"something after it", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 500 no\r\n", 200, "hello", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newInlinePeer(t, tt.raw, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
			status, header, answer, err := p.post(t.Context(), "{}")
			if status != tt.status || answer != tt.answer || err != nil || header.Get("Content-Encoding") != "" {
				t.Errorf("got %d %.50q %v %v", status, answer, err, header)
			}
			if status, _, answer, err := p.post(t.Context(), "{}"); status != 200 || answer != "next" || err != nil {
				t.Errorf("then %d %q %v", status, answer, err)
			}
			if n := p.connections(); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
		})
	}
}

// What the server sees is what it sees of net/http.
func TestInlineRequestIsThatOfNetHTTP(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	p := newInlinePeer(t, ok, ok)
	for _, rt := range []http.RoundTripper{p.transport, p.transport.rest} {
		req, _ := http.NewRequest(http.MethodPost, p.url, strings.NewReader(`{"a":1}`))
		req.Host = "mcp.internal:81"
		req.Header = http.Header{"Accept": {"a", "b"}, "X-Odd": {" spaces around "}, "Mcp-Session-Id": {"7"}}
		before := req.Header.Clone()
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if fmt.Sprint(req.Header) != fmt.Sprint(before) {
			t.Errorf("the caller's header became %v", req.Header)
		}
	}
	shown := func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		return fmt.Sprint(r.Method, r.RequestURI, r.Proto, r.Host, r.ContentLength, r.Header, string(body))
	}
	if got, want := shown(p.asked[0]), shown(p.asked[1]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What goes wrong is an error at once, tells whether the request can have run, and leaves no connection.
func TestInlineFaults(t *testing.T) {
	for _, tt := range []struct{ name, raw, want string }{
		{"closed without an answer", "", "EOF"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n[close]", "malformed HTTP"},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-Le[close]", "malformed MIME header"},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 2000), "longer than 1048576 bytes"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switches protocols"},
		{"body too short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello[close]", "unexpected EOF"},
		{"chunk cut off", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhe[close]", "unexpected EOF"},
		{"no gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n0123456789[close]", "gzip: invalid header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newInlinePeer(t, tt.raw)
			var wrote bool
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteHeaders: func() { wrote = true }})
			_, _, _, err := p.post(ctx, "{}")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if strings.HasSuffix(tt.want, "EOF") && explain(err).kind != kindUnreachable {
				t.Errorf("the end of the connection is explained as %q", explain(err).kind)
			}
			if !wrote {
				t.Error("WroteHeaders was not called")
			}
			if n := p.transport.kept(); n != 0 {
				t.Errorf("%d connections are kept", n)
			}
		})
	}
}

func (t *inlineTransport) kept() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// A connection that the server has closed at rest is noticed before it is used, and what it cannot have seen is sent again.
func TestInlineClosedAtRest(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	p := newInlinePeer(t, ok+"[close]", ok)
	if _, _, _, err := p.post(t.Context(), "{}"); err != nil {
		t.Fatal(err)
	}
	c := p.transport.idle[0]
	for deadline := time.Now().Add(time.Minute); quiet(c.Conn); time.Sleep(time.Millisecond) { // nothing tells when its end has come
		if time.Now().After(deadline) {
			t.Fatal("the end of the connection is not seen")
		}
	}
	if _, _, answer, err := p.post(t.Context(), "{}"); answer != "ok" || err != nil {
		t.Errorf("got %q, %v", answer, err)
	}
	if n := p.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// The end of the request's context ends it wherever it is, with the cause.
func TestInlineCancel(t *testing.T) {
	gone := errors.New("gone")
	for _, raw := range []string{"[silence]", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello[silence]"} {
		p := newInlinePeer(t, raw)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
		if _, _, _, err := p.post(ctx, "{}"); err != gone {
			t.Errorf("%q: error %v, want %v", raw, err, gone)
		}
	}
}

func TestInlineTakes(t *testing.T) {
	proxy, _ := url.Parse("http://proxy.internal:3128")
	none := newInlineTransport(&http.Transport{})
	proxied := newInlineTransport(&http.Transport{Proxy: http.ProxyURL(proxy)})
	body := func(n int) io.Reader { return bytes.NewReader(make([]byte, n)) }
	for _, tt := range []struct {
		name, method, url string
		body              io.Reader
		header            string
		transport         *inlineTransport
		want              bool
	}{
		{"small", "POST", "http://h/mcp", body(2), "", none, true},
		{"large", "POST", "http://h/mcp", body(inlineBody + 1), "", none, false},
		{"stream", "GET", "http://h/mcp", nil, "", none, false},
		{"unknown length", "POST", "http://h/mcp", io.MultiReader(body(2)), "", none, false},
		{"TLS", "POST", "https://h/mcp", body(2), "", none, false},
		{"upgrade", "POST", "http://h/mcp", body(2), "Upgrade", none, false},
		{"header that is none", "POST", "http://h/mcp", body(2), "X\nY", none, false},
		{"name to be rewritten", "POST", "http://bücher.example/mcp", body(2), "", none, false},
		{"proxy", "POST", "http://h/mcp", body(2), "", proxied, false},
	} {
		req, err := http.NewRequest(tt.method, tt.url, tt.body)
		if err != nil {
			t.Fatal(err)
		}
		if tt.header != "" {
			req.Header[tt.header] = []string{"x"}
		}
		if got := tt.transport.takes(req); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Connections are closed when they have rested for IdleConnTimeout.
func TestInlineRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		dial := func(context.Context, string, string) (net.Conn, error) {
			opened++
			near, far := net.Pipe()
			go func() { // ends with near
				defer far.Close()
				for r := bufio.NewReader(far); ; {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
			return readyConn{near}, nil
		}
		transport := newInlineTransport(&http.Transport{DialContext: dial, IdleConnTimeout: time.Minute})
		post := func() {
			t.Helper()
			req, _ := http.NewRequest(http.MethodPost, "http://h/mcp", strings.NewReader("{}"))
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		post()
		time.Sleep(59 * time.Second)
		post()
		if opened != 1 {
			t.Errorf("%d connections within the time, want 1", opened)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := transport.kept(); n != 0 {
			t.Errorf("%d connections are kept", n)
		}
		post()
		transport.CloseIdleConnections()
		if n := transport.kept(); opened != 2 || n != 0 {
			t.Errorf("%d connections, %d kept", opened, n)
		}
	})
}

// After a sleep of the machine, in which only the wall clock goes on, no connection is used again.
func TestInlineAfterSleep(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	p := newInlinePeer(t, ok, ok)
	for i := range 2 {
		if _, _, _, err := p.post(t.Context(), "{}"); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			c := p.transport.idle[0]
			c.since = c.since.Round(0).Add(-time.Hour)
		}
	}
	if n := p.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A server that answers and closes at once, without saying so, loses no request: the end is seen before the next one is sent.
func TestInlineClosedAtOnce(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	var raw []string
	for range 20 {
		raw = append(raw, ok+"[close]")
	}
	p := newInlinePeer(t, raw...)
	for range 20 {
		if _, _, answer, err := p.post(t.Context(), "{}"); answer != "ok" || err != nil {
			t.Fatalf("got %q, %v", answer, err)
		}
		if kept := p.transport.kept(); kept == 1 {
			for deadline := time.Now().Add(time.Minute); quiet(p.transport.idle[0].Conn); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the end of the connection is not seen")
				}
			}
		}
	}
}

// pipeConn is a connection through a command, as that of a ProxyCommand or a ControlMaster: a pipe to it and another one back.
type pipeConn struct {
	net.Conn
	r, w *os.File
}

func (c *pipeConn) Read(p []byte) (int, error)            { return c.r.Read(p) }
func (c *pipeConn) Write(p []byte) (int, error)           { return c.w.Write(p) }
func (c *pipeConn) Close() error                          { c.r.Close(); return c.w.Close() }
func (c *pipeConn) SyscallConn() (syscall.RawConn, error) { return c.r.SyscallConn() }

// Connections through a command are kept, too: each is a process.
func TestInlineKeepsCommands(t *testing.T) {
	if !asksSockets {
		t.Skip("pipes cannot be asked here")
	}
	opened := 0
	dial := func(context.Context, string, string) (net.Conn, error) {
		opened++
		r, answers, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		requests, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		go func() { // ends with the connection
			defer answers.Close()
			for in := bufio.NewReader(requests); ; {
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				io.WriteString(answers, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}()
		return &pipeConn{r: r, w: w}, nil
	}
	transport := newInlineTransport(&http.Transport{DialContext: dial, IdleConnTimeout: time.Minute})
	defer transport.CloseIdleConnections()
	for range 5 {
		req, _ := http.NewRequest(http.MethodPost, "http://h/mcp", strings.NewReader("{}"))
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if opened != 1 {
		t.Errorf("%d connections, want 1", opened)
	}
}

// readyConn is a connection whose peer never ends it.
type readyConn struct{ net.Conn }

func (readyConn) Idle() bool { return true }
