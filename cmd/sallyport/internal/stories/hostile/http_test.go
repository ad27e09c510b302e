//go:build linux

package hostile_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// hijack answers a call with whatever write writes to the connection.
func hijack(write func(w io.Writer)) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		sent := w.(counter).n
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		write(counted{conn, sent})
	}
}

type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}

const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

// endless is more than anybody would take.
const endless = 320 * mib

// What surrounds an answer is bounded as well.
func TestHeaders(t *testing.T) {
	for _, row := range []struct {
		name  string
		write func(w io.Writer)
	}{
		{"one of 10 MB", func(w io.Writer) { repeat(w, 10*mib, ok+"X: ", "x", "", "\r\n\r\n{}") }},
		{"one without an end", func(w io.Writer) { repeat(w, endless, ok+"X: ", "x", "", "\r\n\r\n{}") }},
		{"a challenge of 10 MB", func(w io.Writer) {
			repeat(w, 10*mib, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer ", `a="b"`, ",", "\r\n\r\n")
		}},
		{"a challenge of 200 kB", func(w io.Writer) {
			repeat(w, 200<<10, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer ", `a="b"`, ",", "\r\n\r\n")
		}},
		{"challenges", func(w io.Writer) {
			repeat(w, 200<<10, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n", "WWW-Authenticate: Bearer a=\"b\"\r\n", "", "\r\n")
		}},
		{"many", func(w io.Writer) { repeat(w, endless, ok, "a:\r\n", "", "\r\n{}") }},
		{"many cookies", func(w io.Writer) { repeat(w, endless, ok, "Set-Cookie: a=b\r\n", "", "\r\n{}") }},
		{"many cookies in time", func(w io.Writer) {
			io.WriteString(w, ok)
			for i := range 10000 {
				fmt.Fprintf(w, "Set-Cookie: %d=%d\r\n", i, i)
			}
			io.WriteString(w, "Content-Length: 2\r\n\r\n{}")
		}},
		{"interim responses", func(w io.Writer) {
			repeat(w, endless, "", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "", ok+"\r\n{}")
		}},
		{"status line", func(w io.Writer) { repeat(w, endless, "HTTP/1.1 200 ", "x", "", "\r\n\r\n{}") }},
		{"trailers", func(w io.Writer) {
			repeat(w, endless, ok+"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "a:b\r\n", "", "\r\n")
		}},
		{"extensions of chunks", func(w io.Writer) {
			repeat(w, endless, ok+"Transfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("x", 4000)+"\r\n \r\n", "", "0\r\n\r\n")
		}},
		{"small chunks", func(w io.Writer) {
			repeat(w, endless, ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", "", "0\r\n\r\n")
		}},
		{"redirects", func(w io.Writer) {
			repeat(w, 200<<10, "HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\nLocation: /mcp?", "x", "", "\r\n\r\n")
		}},
		{"session of 200 kB", func(w io.Writer) {
			repeat(w, 200<<10, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nMcp-Session-Id: ", "x", "", "\r\n\r\n")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			u.tool = hijack(row.write)
			h := start(t, false, "--grant", "none", u.URL+"/mcp")
			h.open()
			h.send(request(2, "tools/call"))
			l := h.answer("2")
			h.send(request(3, "ping"))
			h.answer("3")
			letIn := int64(0)
			if row.name == "small chunks" || row.name == "extensions of chunks" {
				letIn = maxMessage
			}
			h.check(u.sent.Load(), letIn, told(l))
		})
	}
}

// An event stream costs no more than its largest event.
func TestStreams(t *testing.T) {
	answer := "\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n\n"
	for _, row := range []struct {
		name             string
		n, letIn         int64
		head, unit, tail string
	}{
		{"one line", endless, maxMessage, "data: ", "x", answer},
		{"one comment", endless, maxMessage, ":", "x", answer},
		{"one event", endless, maxMessage, "", "data: xxxxxxxx\n", answer},
		{"empty data", endless, maxMessage, "", "data\n", answer},
		{"empty events", 4 * mib, 0, "", "\n", answer},
		{"comments", 4 * mib, 0, "", ":\n", answer},
		{"events of white space", 4 * mib, 0, "", "data:\n\n", answer},
		{"ids", 4 * mib, 0, "", "id:1\n\n", answer},
		{"ids in one event", 4 * mib, 0, "", "id:1\n", answer},
		{"long ids", 4 * mib, 0, "", "id:" + strings.Repeat("x", 4000) + "\n\n", answer},
		{"ids of a megabyte", 4 * mib, 4 * mib, "", "id:" + strings.Repeat("x", mib) + "\n\n", answer},
		{"names of a megabyte", 4 * mib, 4 * mib, "", "event:" + strings.Repeat("x", mib) + "\n\n", answer},
		{"retries", 4 * mib, 0, "", "retry:1\n\n", answer},
		{"other events", 4 * mib, 0, "", "event:a\ndata:b\n\n", answer},
		{"notifications", 4 * mib, 0, "", "data:{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n", answer},
		{"notifications with ids", 4 * mib, 0, "", "id:1\ndata:{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n", answer},
		{"list changes", 4 * mib, 0, "", "data:{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n", answer},
		{"progress", 4 * mib, 0, "", "data:{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":2,\"progress\":1}}\n\n", answer},
		{"requests", 4 * mib, 0, "", "data:{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\"}\n\n", answer},
		{"pings", 4 * mib, 0, "", "data:{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n", answer},
		{"answers to nothing", 4 * mib, 0, "", "data:{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n", answer},
		{"no JSON", 4 * mib, 0, "", "data:<\n\n", answer},
		{"batches", 4 * mib, maxMessage, "data:[", "0,", "0]" + answer},
	} {
		send := func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			repeat(w, int(row.n), row.head, row.unit, "", row.tail)
		}
		t.Run("answer/"+row.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			u.tool = func(w http.ResponseWriter, r *http.Request, id string) { send(w) }
			h := start(t, false, "--grant", "none", u.URL+"/mcp")
			h.open()
			h.send(request(2, "tools/call"))
			l := h.answer("2")
			h.send(request(3, "ping"))
			h.answer("3")
			h.check(u.sent.Load(), row.letIn, told(l))
		})
		t.Run("pushed/"+row.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			over := make(chan struct{})
			var first atomic.Bool
			u.stream = func(w http.ResponseWriter, r *http.Request) {
				if first.Swap(true) {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return
				}
				defer close(over)
				send(w)
			}
			h := start(t, false, "--grant", "none", u.URL+"/mcp")
			h.open()
			h.send(request(3, "ping"))
			h.answer("3")
			<-over
			h.send(request(4, "ping"))
			h.answer("4")
			h.check(u.sent.Load(), row.letIn, "-")
		})
	}
}

// A server that ends every stream at once, and asks for the next one at once, is asked twice a
// second at most.
func TestReconnections(t *testing.T) {
	const streams, pause = 5, 500 * time.Millisecond
	for _, row := range []struct{ name, stream string }{
		{"nothing", ""},
		{"retry 0", "retry: 0\n\n"},
		{"retry 0 and an id", "id: 1\nretry: 0\n\n"},
		{"retry 0 and a message", "id: 1\nretry: 0\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"},
		{"a message", "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			var asked atomic.Int64
			u.stream = func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, row.stream)
			}
			h := start(t, false, "--grant", "none", u.URL+"/mcp")
			began := time.Now()
			h.open()
			machines.Poll(t, func() bool { return asked.Load() >= streams }, "streams")
			took, n := time.Since(began), asked.Load()
			h.send(request(3, "ping"))
			h.answer("3")
			h.check(0, 0, fmt.Sprintf("asked for %d streams in %v", n, took.Round(pause/10)))
			// It may have been asked while we waited. Between two times there is a pause.
			if least := time.Duration(n-1) * pause * 9 / 10; took < least {
				t.Errorf("asked for %d streams in %v, want at least %v", n, took, least)
			}
		})
	}
}
