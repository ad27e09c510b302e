package relay

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// A 404 in a session: the host's own initialize goes out again, unseen by the host, and then the
// call.
func TestSessionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := map[string]string{"Mcp-Session-Id": "s2", "Mcp-Protocol-Version": "2025-06-18"}
		lost := Exchange{Call: "tools/call", Header: map[string]string{"Mcp-Session-Id": "s1"}, Status: 404}
		h, _ := open(t, Config{}, lost,
			Exchange{Call: "initialize", Body: initLine, Header: map[string]string{"Mcp-Session-Id": ""}, Set: map[string]string{"Mcp-Session-Id": "s2"},
				Handle: Events(`data: {"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}`)},
			Exchange{Call: "notifications/initialized", Header: second},
			Exchange{Method: "GET", Header: second, Status: 405},
			Exchange{Call: "tools/call", Body: callLine, Header: second, Reply: callAnswer},
			Exchange{Call: "tools/call", Header: second, Reply: strings.Replace(callAnswer, "7", "8", 1)},
			Exchange{Method: "DELETE", Header: second, Status: 405})
		h.send(callLine)
		h.want(callAnswer)
		h.send(strings.Replace(callLine, "7", "8", 1))
		h.recv()
		h.close()
	})
}

// Calls that meet the 404 together share one new session.
func TestSessionLostByMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		old := map[string]string{"Mcp-Session-Id": "s1"}
		script := Opening(version)
		var met sync.WaitGroup // all calls have met the 404 before the first goes on
		met.Add(n)
		for range n {
			script = append(script, Exchange{Call: "tools/call", Header: old, Handle: func(w http.ResponseWriter, r *http.Request) {
				met.Done()
				met.Wait()
				w.WriteHeader(404)
			}})
		}
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		again[1].Header, again[2].Header = nil, nil
		script = append(append(script, again...), Exchange{Call: "tools/call", Repeat: true, Handle: func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			m, _ := rawjson.Parse(body)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
		}}, Exchange{Method: "DELETE", Header: map[string]string{"Mcp-Session-Id": "s2"}})
		srv := New(t, script...)
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		for i := range n {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call"}`, 100+i))
		}
		ids := map[string]bool{}
		for range n {
			line := h.recv()
			if !strings.Contains(line, `"result":{}`) {
				t.Errorf("got %s", line)
			}
			ids[line] = true
		}
		if len(ids) != n {
			t.Errorf("%d different answers, want %d", len(ids), n)
		}
		h.close()
	})
}

func TestSessionLostForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Status: 404}, Exchange{Call: "initialize", Status: 500}, Goodbye())
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Code != -32001 || a.Error.Data.Status != 500 || !strings.Contains(a.Error.Message, "new one could not be opened") {
			t.Errorf("got %+v", a)
		}
		h.close()
	})
}

// The server forgets the session while nothing is going on: the GET stream notices, and a new
// session has a stream again.
func TestSessionLostOnTheServerStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		again[1].Header = nil
		stream := Exchange{Method: "GET", Header: map[string]string{"Mcp-Session-Id": "s2", "Last-Event-Id": ""}, Handle: Stream("data: "+pingAnswer, `data: {"jsonrpc":"2.0","method":"notifications/x"}`)}
		srv := New(t, append(append(Opening(version)[:2], Exchange{Method: "GET", Handle: Events("id: 1\ndata:")}, Exchange{Method: "GET", Status: 404}),
			again[0], again[1], stream, Exchange{Method: "DELETE", Header: map[string]string{"Mcp-Session-Id": "s2"}})...)
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		h.want(`{"jsonrpc":"2.0","method":"notifications/x"}`)
		h.close()
	})
}

func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		script[0].Header["X-Own"], script[0].Header["Mcp-Protocol-Version"] = "1", "2025-03-26"
		script[2].Header["X-Own"] = "1"
		bye := Goodbye()
		bye.Header["X-Own"] = "1"
		srv := New(t, append(script, bye)...)
		h := start(t, Config{Send: srv.Transport(), ProtocolVersion: "2025-03-26", Header: http.Header{"X-Own": {"1"}, "Accept": {"text/plain"}}})
		h.open()
		synctest.Wait()
		h.close()
	})
}

// Some servers say 400 of a session they have forgotten. That counts once the session has worked
// and the words say so.
func TestSessionLostWith400(t *testing.T) {
	const noSession = `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`
	for _, tt := range []struct {
		name    string
		refusal Exchange
		renewed bool
	}{
		{"JSON-RPC error", Exchange{Status: 400, Reply: noSession}, true},
		{"text", Exchange{Status: 400, Type: "text/plain", Reply: "Invalid Session ID\n"}, true},
		{"JSON-RPC error about something else", Exchange{Status: 400, Reply: `{"jsonrpc":"2.0","error":{"code":-32602,"message":"m","data":"session"},"id":null}`}, false},
		{"page", Exchange{Status: 400, Type: "text/html", Reply: "<script>session</script>"}, false},
		{"another status", Exchange{Status: 403, Reply: noSession}, true},
		{"another status and other words", Exchange{Status: 403, Reply: `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Your browser session has expired"},"id":null}`}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.refusal.Call = "tools/call"
				script := []Exchange{tt.refusal, Goodbye()}
				if tt.renewed {
					again := Opening(version)
					again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
					again[1].Header, again[2].Header = nil, nil
					second := map[string]string{"Mcp-Session-Id": "s2"}
					// The second refusal of the same call is the answer.
					script = append(append([]Exchange{tt.refusal}, again...), Exchange{Call: "tools/call", Header: second, Status: 400, Reply: noSession},
						Exchange{Method: "DELETE", Header: second})
				}
				h, _ := open(t, Config{}, script...)
				h.send(callLine)
				if a := decode(t, h.recv()); a.Error.Data.Status/100 != 4 || a.Error.Data.Body == "" {
					t.Errorf("got %+v", a)
				}
				h.close()
			})
		})
	}
	t.Run("a session that never worked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			script := Opening(version)
			script[1].Status, script[1].Reply = 400, noSession
			h := start(t, Config{Send: New(t, append(script, Exchange{Call: "tools/call", Status: 400, Reply: noSession}, Goodbye())...).Transport()})
			h.open()
			h.send(callLine)
			if a := decode(t, h.recv()); a.Error.Data.Status != 400 {
				t.Errorf("got %+v", a)
			}
			h.close()
		})
	})
	t.Run("notification", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			again := Opening(version)
			again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
			again[1].Header, again[2].Header = nil, nil
			second := map[string]string{"Mcp-Session-Id": "s2"}
			h, _ := open(t, Config{}, append(again, Exchange{Call: "notifications/x", Status: 400, Reply: noSession},
				Exchange{Call: "notifications/x", Header: second}, Exchange{Method: "DELETE", Header: second})...)
			h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
			synctest.Wait()
			h.close()
		})
	})
}

// A sign-in in mid-session holds up the call that needs it, and a session that the server has
// forgotten is renewed: the host sees neither. The session is ended upstream.
func TestSignInAndLostSessionInMidSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		again[1].Header, again[2].Header = nil, nil
		script := append(append(Opening(version), Exchange{Call: "tools/call", Reply: callAnswer}, Exchange{Call: "tools/call", Status: 404}), again...)
		script = append(script, Exchange{Call: "tools/call", Header: map[string]string{"Mcp-Session-Id": "s2"}, Reply: callAnswer},
			Exchange{Method: "DELETE", Header: map[string]string{"Mcp-Session-Id": "s2"}})
		h := start(t, Config{Send: gated{b, New(t, script...).Transport(), false}, Obstacle: b.get})
		h.open()
		synctest.Wait() // the first session's stream was asked for
		b.set(signInNeeded)
		begin := time.Now()
		h.send(callLine)
		time.Sleep(20 * time.Second)
		b.set(nil)
		if line := h.after(begin, 20*time.Second); line != callAnswer {
			t.Errorf("got %s", line)
		}
		h.send(callLine) // meets the 404
		h.want(callAnswer)
		h.close()
	})
}
