package relay

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

const oldInitAnswer = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`

// events2024 is the event stream of an HTTP+SSE server: what is put in goes to the client; closed,
// the stream ends.
type events2024 chan string

// get is the Handle of the GET.
func (s events2024) get(endpoint string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		Events("event: endpoint\ndata: "+endpoint)(w, r)
		for {
			select {
			case line, ok := <-s:
				if !ok {
					return
				}
				fmt.Fprintf(w, "event: message\ndata: %s\n\n", line)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
}

// accept is the Handle of a POST that is answered by lines on the stream.
func (s events2024) accept(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, line := range lines {
			s <- line
		}
		w.WriteHeader(http.StatusAccepted)
	}
}

// opening is the beginning of an HTTP+SSE session that posts to path.
func (s events2024) opening(path string) []Exchange {
	return []Exchange{
		{Method: "GET", Path: "/mcp", Header: map[string]string{"Accept": "text/event-stream"}, Handle: s.get(path + "?sessionId=1")},
		{Call: "initialize", Path: path, Body: initLine, Handle: s.accept(oldInitAnswer)},
		{Call: "notifications/initialized", Path: path},
	}
}

func TestHTTPSSE(t *testing.T) {
	const ask = `{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}`
	const reply = `{"jsonrpc":"2.0","id":"s1","result":{}}`
	refusal := Exchange{Call: "initialize", Path: "/mcp", Type: "text/html", Reply: "Cannot POST /mcp"}
	for _, status := range []int{0, 400, 404, 405} { // 0: it is not asked
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := make(events2024)
				cfg := Config{Transport: TransportSSE}
				script := s.opening("/message")
				if status != 0 {
					cfg.Transport, refusal.Status = "", status
					script = append([]Exchange{refusal}, script...)
				}
				cfg.Send = New(t, append(script,
					Exchange{Call: "tools/call", Path: "/message", Body: callLine, Handle: s.accept(progressLine, callAnswer)},
					Exchange{Call: ResponseCall, Path: "/message", Body: reply},
					Exchange{Call: "ping", Path: "/message", Handle: s.accept("[" + pingAnswer + "," + changedLine + "]")})...).Transport()
				h := start(t, cfg)
				h.open()
				h.send(callLine)
				h.want(progressLine)
				h.want(callAnswer)
				s <- ask
				h.want(ask)
				h.send(reply)
				h.send(pingLine)
				h.want(pingAnswer)
				h.want(changedLine)
				synctest.Wait()
				if err := h.close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A refusal that is no old server's stays one, and so does one where a GET brings nothing of use.
func TestHTTPSSENoFallback(t *testing.T) {
	const modern = `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"unsupported protocol version"}}`
	const own = `{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}`
	const status = `"status":400`
	for _, tt := range []struct {
		name, transport, reply, want string
		get                          *Exchange
	}{
		{"modern error", "", modern, status, nil},
		{"the server's own answer", "", own, own, nil},
		{"--transport http", TransportHTTP, "no", status, nil},
		{"GET refused", "", "no", status, &Exchange{Status: 405}},
		{"GET is a page", "", "no", status, &Exchange{Type: "text/html", Reply: "hello"}},
		{"endpoint of another origin", "", "no", status, &Exchange{Handle: make(events2024).get("http://evil.test/message")}},
		{"no endpoint", "", "no", status, &Exchange{Handle: Stream("data: {}")}},
		{"stream that ends", "", "no", status, &Exchange{Handle: Events("data: {}")}},
		{"sse: GET refused", TransportSSE, "", `"status":405`, &Exchange{Status: 405}},
		{"sse: endpoint of another origin", TransportSSE, "", `\"http://evil.test/message\"`, &Exchange{Handle: make(events2024).get("http://evil.test/message?token=x")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var script []Exchange
				if tt.transport != TransportSSE {
					script = append(script, Exchange{Call: "initialize", Path: "/mcp", Status: 400, Reply: tt.reply})
				}
				if tt.reply == modern {
					script = append(script, Exchange{Call: "server/discover", Status: 400, Reply: modern})
				}
				if tt.get != nil {
					tt.get.Method = "GET"
					script = append(script, *tt.get)
				}
				h := start(t, Config{Transport: tt.transport, Send: New(t, script...).Transport(), InitPatience: time.Minute})
				h.send(initLine)
				if line := h.recv(); !strings.Contains(line, tt.want) || !strings.Contains(line, `"id":0`) {
					t.Errorf("got %s\nwant %s", line, tt.want)
				}
				h.close()
			})
		})
	}
}

// The end of the stream is that of the session: a call in flight is answered at once, a new session
// is made with the host's own initialize, and the next call works.
func TestHTTPSSEStreamLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := make(events2024), make(events2024)
		script := append(first.opening("/one"), second.opening("/two")...)
		h := start(t, Config{Transport: TransportSSE, Send: New(t, append(script,
			Exchange{Call: "tools/call", Path: "/one", Handle: first.accept()},
			Exchange{Call: "tools/list", Path: "/one", Handle: Hold},
			Exchange{Call: "ping", Path: "/two", Handle: second.accept(pingAnswer)})...).Transport()})
		h.open()
		h.send(callLine)
		h.send(`{"jsonrpc":"2.0","id":8,"method":"tools/list"}`) // whose POST is never answered
		synctest.Wait()
		begin := time.Now()
		close(first)
		var ids []string
		for range 2 {
			a := decode(t, h.recv())
			if a.Error.Data.Kind != "bad_answer" || !strings.Contains(a.Error.Data.Hint, "may have run") {
				t.Errorf("got %+v", a)
			}
			ids = append(ids, string(a.ID))
		}
		if slices.Sort(ids); !slices.Equal(ids, []string{"7", "8"}) || time.Since(begin) != 0 {
			t.Errorf("ids %q after %v", ids, time.Since(begin))
		}
		h.send(pingLine)
		h.want(pingAnswer)
		h.close()
	})
}

// A new session is made without a call, too, for the server may have something to say; and for as
// long as it takes.
func TestHTTPSSEStreamLostWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := make(events2024), make(events2024)
		script := append(first.opening("/one"), Exchange{Method: "GET", Status: 503}, Exchange{Method: "GET", Status: 503})
		h := start(t, Config{Transport: TransportSSE, Send: New(t, append(script, second.opening("/two")...)...).Transport()})
		h.open()
		synctest.Wait()
		close(first)
		second <- changedLine
		h.want(changedLine)
		synctest.Wait()
		h.close()
	})
}

// A server that has forgotten the session says so to a POST; that did not run and is sent again,
// once.
func TestHTTPSSESessionForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := make(events2024), make(events2024)
		script := append(first.opening("/one"), Exchange{Call: "tools/call", Path: "/one", Status: 404})
		h := start(t, Config{Transport: TransportSSE, Send: New(t, append(append(script, second.opening("/two")...),
			Exchange{Call: "tools/call", Path: "/two", Handle: second.accept(callAnswer)})...).Transport()})
		h.open()
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}
