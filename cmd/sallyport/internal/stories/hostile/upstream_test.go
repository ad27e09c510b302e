//go:build linux

package hostile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// shape is a message that costs a peer little. It makes about n bytes of it, as an answer to the
// request with the raw id.
type shape struct {
	name  string
	write func(w io.Writer, id string, n int)
}

// repeat writes what begins with head, ends with tail, and has n bytes of unit between.
func repeat(w io.Writer, n int, head, unit, sep, tail string) {
	io.WriteString(w, head)
	block := strings.Repeat(unit+sep, max(1, 64<<10/len(unit+sep)))
	for n > len(block) {
		if _, err := io.WriteString(w, block); err != nil {
			return
		}
		n -= len(block)
	}
	io.WriteString(w, unit+tail)
}

func around(head, unit, sep, tail string) func(io.Writer, string, int) {
	return func(w io.Writer, id string, n int) {
		repeat(w, n, strings.ReplaceAll(head, "ID", id), unit, sep, strings.ReplaceAll(tail, "ID", id))
	}
}

const (
	headOf  = `{"jsonrpc":"2.0","id":ID,"result":`
	deepest = 9000
)

var shapes = []shape{
	{"array of numbers", around(headOf+`{"a":[`, `0`, `,`, `]}}`)},
	{"array of arrays", around(headOf+`{"a":[`, `[]`, `,`, `]}}`)},
	{"members", around(headOf+`{"a":{`, `"":0`, `,`, `}}}`)},
	{"members of the result", around(headOf+`{`, `"":0`, `,`, `}}`)},
	{"members of the message", around(`{"jsonrpc":"2.0","id":ID,`, `"":0`, `,`, `,"result":{}}`)},
	{"escaped members of the message", around(`{"jsonrpc":"2.0","id":ID,`, `"\u0061":0`, `,`, `,"result":{}}`)},
	{"repeated ids", around(`{"jsonrpc":"2.0","id":ID,"result":{},`, `"id":1`, `,`, `}`)},
	{"one string", around(headOf+`{"content":[{"type":"text","text":"`, `x`, ``, `"}]}}`)},
	{"escapes", around(headOf+`{"content":[{"type":"text","text":"`, `\u0000`, ``, `"}]}}`)},
	{"line breaks", around(headOf+"{\n", "\r\n", ``, `}}`)},
	{"line breaks and numbers", around(headOf+`{"a":[`, "0\n", `,`, `]}}`)},
	{"white space", around(headOf, ` `, ``, `{}}`)},
	{"id of a megabyte and more", around(`{"jsonrpc":"2.0","id":"`, `x`, ``, `","result":{}}`)},
	{"method name", around(`{"jsonrpc":"2.0","method":"`, `\u0061`, ``, `"}`)},
	{"error message", around(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"`, `\u0061`, ``, `"}}`)},
	{"error data", around(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"m","data":[`, `0`, `,`, `]}}`)},
	{"batch of numbers", around(`[`, `0`, `,`, `]`)},
	{"batch of objects", around(`[`, `{}`, `,`, `]`)},
	{"batch of notifications", around(`[`, `{"jsonrpc":"2.0","method":"a"}`, `,`, `]`)},
	{"batch of answers", around(`[`, `{"jsonrpc":"2.0","id":1,"result":{}}`, `,`, `]`)},
	{"batch of batches", around(`[`, `[]`, `,`, `]`)},
	{"nested too deep", around(`{"jsonrpc":"2.0","id":ID,"result":{"a":`, `[`, ``, `}}`)},
	{"nested deeply", func(w io.Writer, id string, n int) {
		one := strings.Repeat("[", deepest) + strings.Repeat("]", deepest)
		repeat(w, n, `{"jsonrpc":"2.0","id":`+id+`,"result":{"a":[`, one, ",", `]}}`)
	}},
	{"nested objects", func(w io.Writer, id string, n int) {
		one := strings.Repeat(`{"":`, deepest) + "0" + strings.Repeat("}", deepest)
		repeat(w, n, `{"jsonrpc":"2.0","id":`+id+`,"result":{"a":[`, one, ",", `]}}`)
	}},
	{"tools that are numbers", around(headOf+`{"tools":[`, `0`, `,`, `]}}`)},
	{"tools that are empty", around(headOf+`{"tools":[`, `{}`, `,`, `]}}`)},
	{"tools with marks", around(headOf+`{"tools":[`, `{"name":"a","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"a"}}}}`, `,`, `]}}`)},
	{"one tool with many marks", around(headOf+`{"tools":[{"name":"a","inputSchema":{"properties":{`, `"a":{"type":"string","x-mcp-header":"a"}`, `,`, `}}}]}}`)},
	{"one tool with a list of schemas", around(headOf+`{"tools":[{"name":"a","inputSchema":{"anyOf":[`, `[]`, `,`, `]}}]}}`)},
	{"no JSON", around(``, `<`, ``, ``)},
}

// upstream is an MCP server that answers the calls of a tool as it likes.
type upstream struct {
	*httptest.Server
	// tool answers whatever is neither initialize nor a notification nor a ping.
	tool func(w http.ResponseWriter, r *http.Request, id string)
	// stream answers a GET. Nil refuses it.
	stream  http.HandlerFunc
	version string
	// modern makes it a server of 2026-07-28.
	modern bool
	sent   atomic.Int64
	// pushed is closed when everything was pushed.
	pushed chan struct{}
	over   sync.Once
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{version: "2025-11-25", pushed: make(chan struct{})}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	t.Cleanup(u.CloseClientConnections)
	return u
}

type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

func (c counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c counter) Flush() { http.NewResponseController(c.ResponseWriter).Flush() }

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		if r.Method == http.MethodGet && u.stream != nil {
			u.stream(counter{w, &u.sent}, r)
			return
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	b, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage
		Method string
	}
	json.Unmarshal(b, &m)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case m.Method == "server/discover" && u.modern:
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`, m.ID)
	case m.Method == "server/discover":
		w.WriteHeader(http.StatusBadRequest)
	case m.Method == "initialize":
		w.Header().Set("Mcp-Session-Id", "s1")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`, m.ID, u.version)
	case m.Method == "ping" && !u.modern:
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
	case len(m.ID) == 0 || m.Method == "":
		w.WriteHeader(http.StatusAccepted)
	default:
		u.tool(counter{w, &u.sent}, r, string(m.ID))
	}
}

// zipped returns what f writes, with gzip around it depth times.
func zipped(f func(io.Writer), depth int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	f(z)
	z.Close()
	for ; depth > 1; depth-- {
		inner := bytes.Clone(b.Bytes())
		b.Reset()
		z := gzip.NewWriter(&b)
		z.Write(inner)
		z.Close()
	}
	return b.Bytes()
}

// place is where a message may come.
type place struct {
	name string
	// arrange lets u send what write writes wherever the place is.
	arrange func(u *upstream, s shape, n int)
	method  string
}

// full is the size of a large message. It is large enough for the promise to be broken by whatever
// takes ten times its bytes. SALLYPORT_HOSTILE_MIB, at most 60, makes it larger.
var full = 8 * mib

var places = []place{
	{"body", func(u *upstream, s shape, n int) {
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) { s.write(w, id, n) }
	}, "tools/call"},
	{"gzip", func(u *upstream, s shape, n int) {
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zipped(func(w io.Writer) { s.write(w, id, n) }, 1))
		}
	}, "tools/call"},
	{"event", func(u *upstream, s shape, n int) {
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: ")
			s.write(w, id, n)
			io.WriteString(w, "\n\n")
		}
	}, "tools/call"},
	{"pushed", func(u *upstream, s shape, n int) {
		u.stream = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, ": open\n\n")
			http.NewResponseController(w).Flush()
			io.WriteString(w, "data: ")
			s.write(w, `"none"`, n)
			// A stream with too long an event, or with none, is asked for again.
			io.WriteString(w, "\n\n")
			u.over.Do(func() { close(u.pushed) })
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) {
			<-u.pushed
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
		}
	}, "tools/call"},
	{"list of tools", func(u *upstream, s shape, n int) {
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) { s.write(w, id, n) }
	}, "tools/list"},
	{"bridge", func(u *upstream, s shape, n int) {
		u.modern = true
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) { s.write(w, id, n) }
	}, "tools/list"},
	{"2025-03-26", func(u *upstream, s shape, n int) {
		u.version = "2025-03-26"
		u.tool = func(w http.ResponseWriter, r *http.Request, id string) { s.write(w, id, n) }
	}, "tools/call"},
}

// Whatever an answer consists of, it costs no more than a small multiple of its bytes.
func TestShapes(t *testing.T) {
	full := int(machines.Setting(t, "SALLYPORT_HOSTILE_MIB", int64(full/mib))) * mib
	for _, p := range places {
		for _, s := range shapes {
			t.Run(p.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				u := newUpstream(t)
				p.arrange(u, s, full)
				h := start(t, false, "--grant", "none", u.URL+"/mcp")
				h.open()
				h.send(request(2, p.method))
				l := h.answer("2")
				h.send(request(3, "ping"))
				h.answer("3")
				h.check(u.sent.Load(), int64(full), told(l))
			})
		}
	}
}
