// Package relaytest is a scripted MCP server: a list of requests to expect and what to answer each.
// A request that the script does not expect, and one that it expects and never sees, fail the test.
// It works on a socket (it is an http.Handler) and, for tests inside a synctest bubble, in memory.
package relaytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// URL is the endpoint that Transport leads to.
const URL = "http://mcp.test/mcp"

// T is the part of testing.TB that is used here.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Cleanup(func())
}

// Exchange is one expected request and its answer. A request takes the first exchange of the script
// that fits it and is not used yet. So the script is an order only among requests that fit the same
// exchanges; Seen tells the real order.
type Exchange struct {
	// Method is the HTTP method. "" means POST.
	Method string
	// Path is the path of the URL. "" means any.
	Path string
	// Call is the JSON-RPC method in the body. "" means any, and ResponseCall a response.
	Call string
	// Header are headers that must have these values. "" means that a header must be absent.
	Header map[string]string
	// Body is the whole body, byte for byte. "" means any.
	Body string
	// Repeat says that the exchange fits any number of requests, or none.
	Repeat bool

	// Status is that of the answer. The default is 200 if there is a Reply, and else 202.
	Status int
	// Type is the Content-Type of the answer. The default is application/json.
	Type string
	// Set are further headers of the answer.
	Set map[string]string
	// Reply is the body of the answer.
	Reply string
	// Handle, if not nil, answers instead of all these. It can read the body of the request again.
	Handle http.HandlerFunc
}

// ResponseCall is the Call of a message without a method.
const ResponseCall = "(response)"

// Server plays a script.
type Server struct {
	t T

	mu     sync.Mutex
	script []Exchange
	used   []bool
	seen   []string
	heads  []http.Header
	bodies []string
}

// New returns a server that plays script until the test ends.
func New(t T, script ...Exchange) *Server {
	s := &Server{t: t, script: script, used: make([]bool, len(script))}
	t.Cleanup(func() {
		t.Helper()
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, e := range s.script {
			if !s.used[i] && !e.Repeat {
				t.Errorf("relaytest: expected and never seen: %s %s", e.method(), e.Call)
			}
		}
	})
	return s
}

// Seen returns all requests so far, in the order they came, each as "POST tools/call".
func (s *Server) Seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// Bodies returns the bodies that belong to Seen.
func (s *Server) Bodies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.bodies...)
}

// Headers returns the headers that belong to Seen.
func (s *Server) Headers() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]http.Header(nil), s.heads...)
}

// ServeHTTP answers one request by the script.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 128<<20))
	if err != nil {
		return // the client has gone away in the middle
	}
	call := ""
	if r.Method == http.MethodPost {
		var m struct{ Method *string }
		switch err := json.Unmarshal(body, &m); {
		case err != nil:
			s.t.Errorf("relaytest: a body that is not JSON: %v", err)
		case m.Method == nil:
			call = ResponseCall
		default:
			call = *m.Method
		}
	}
	e := s.take(r, call, string(body))
	if e == nil {
		s.t.Errorf("relaytest: not expected: %s %s %.200s", r.Method, call, body)
		http.Error(w, "not in the script", http.StatusTeapot)
		return
	}
	for k, want := range e.Header {
		if got := r.Header.Get(k); got != want {
			s.t.Errorf("relaytest: %s %s: header %s is %q, want %q", r.Method, call, k, got, want)
		}
	}
	if e.Body != "" && string(body) != e.Body {
		s.t.Errorf("relaytest: %s %s: body\n got %.500s\nwant %.500s", r.Method, call, body, e.Body)
	}
	for k, v := range e.Set {
		w.Header().Set(k, v)
	}
	if e.Handle != nil {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		e.Handle(w, r)
		return
	}
	status := e.Status
	if status == 0 && e.Reply == "" {
		status = http.StatusAccepted
	}
	if e.Reply != "" {
		w.Header().Set("Content-Type", "application/json")
		if e.Type != "" {
			w.Header().Set("Content-Type", e.Type)
		}
	}
	if status != 0 {
		w.WriteHeader(status)
	}
	io.WriteString(w, e.Reply)
}

func (e *Exchange) method() string {
	if e.Method == "" {
		return http.MethodPost
	}
	return e.Method
}

func (s *Server) take(r *http.Request, call, body string) *Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+call))
	s.bodies = append(s.bodies, body)
	s.heads = append(s.heads, r.Header.Clone())
	for i := range s.script {
		e := &s.script[i]
		if (!s.used[i] || e.Repeat) && e.method() == r.Method &&
			(e.Call == "" || e.Call == call) && (e.Path == "" || e.Path == r.URL.Path) {
			s.used[i] = true
			return e
		}
	}
	return nil
}

// Transport returns a client's way to s through memory. It ends with the test.
func (s *Server) Transport() *http.Transport {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: s}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }() // ends with srv.Close
	tr := &http.Transport{DialContext: l.dial}
	s.t.Cleanup(func() {
		tr.CloseIdleConnections()
		srv.Close()
		<-served
	})
	return tr
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// Hold is a Handle that answers nothing until the client goes away.
func Hold(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Stream is a Handle that opens an event stream, sends the events and then holds it open until the
// client goes away.
func Stream(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		Events(events...)(w, r)
		<-r.Context().Done()
	}
}

// Events is a Handle that sends the events, each as its lines without the empty one at its end, and
// ends the stream.
func Events(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		for _, e := range events {
			fmt.Fprintf(w, "%s\n\n", e)
		}
		http.NewResponseController(w).Flush()
	}
}

// Cut is a Handle that writes raw bytes instead of an HTTP answer and breaks the connection.
func Cut(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // only HTTP/1.1 is served here
		}
		io.WriteString(conn, raw)
		conn.Close()
	}
}

// Opening is the usual beginning of a script: initialize (session "s1", the given protocol
// version), initialized, and no server stream.
func Opening(version string) []Exchange {
	return []Exchange{
		{Call: "initialize", Header: map[string]string{"Mcp-Session-Id": "", "Accept": "application/json, text/event-stream"},
			Set:   map[string]string{"Mcp-Session-Id": "s1"},
			Reply: `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"` + version + `","capabilities":{},"serverInfo":{"name":"scripted","version":"1"}}}`},
		{Call: "notifications/initialized", Header: map[string]string{"Mcp-Session-Id": "s1", "Mcp-Protocol-Version": version}},
		{Method: http.MethodGet, Header: map[string]string{"Mcp-Session-Id": "s1", "Accept": "text/event-stream"}, Status: http.StatusMethodNotAllowed},
	}
}

// Goodbye is the DELETE of the session.
func Goodbye() Exchange {
	return Exchange{Method: http.MethodDelete, Header: map[string]string{"Mcp-Session-Id": "s1"}, Status: http.StatusNoContent}
}
