package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// movedObstacle is a Config.Obstacle that a test moves.
type movedObstacle struct {
	mu      sync.Mutex
	o       *Obstacle
	changed chan struct{}
}

func newObstacle(o *Obstacle) *movedObstacle {
	return &movedObstacle{o: o, changed: make(chan struct{})}
}

func (b *movedObstacle) get() (*Obstacle, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.o, b.changed
}

func (b *movedObstacle) set(o *Obstacle) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.o = o
	close(b.changed)
	b.changed = make(chan struct{})
}

// gated is a RoundTripper that works only while nothing is in the way: it waits, as a tunnel's dial
// does, or fails.
type gated struct {
	b     *movedObstacle
	next  http.RoundTripper
	fails bool
}

func (g gated) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		o, changed := g.b.get()
		if o == nil {
			return g.next.RoundTrip(r)
		}
		if g.fails {
			return nil, errors.New(o.Text)
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

var down = &Obstacle{Kind: "unreachable", Text: "hop bastion: connection refused", Hints: []string{"one", "two"}}

func TestPatience(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails=%v", fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newObstacle(down)
				srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
				h := start(t, Config{Send: gated{b, srv.Transport(), fails}, Obstacle: b.get})
				h.open()
				begin := time.Now()
				h.send(callLine)
				if a := decode(t, h.recv()); time.Since(begin) != 25*time.Second || a.Error.Code != -32000 || a.Error.Message != down.Text ||
					a.Error.Data.Kind != "unreachable" || a.Error.Data.Hint != "one\ntwo" {
					t.Errorf("after %v: %+v", time.Since(begin), a)
				}
				// Now the way clears while a request waits.
				h.send(callLine)
				time.Sleep(24 * time.Second)
				b.set(nil)
				h.wantAll(toolsChanged, callAnswer)
				h.close()
			})
		})
	}
}

func TestErrorWithoutObstacleIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, Config{
			Send: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("tls: wrong name") }),
			Explain: func(err error) Explanation {
				return Explanation{Kind: "tls", Text: "said: " + err.Error(), Hints: []string{"h"}}
			}})
		h.open()
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Message != "said: tls: wrong name" || a.Error.Data.Kind != "tls" || time.Since(begin) != 0 {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
		h.close()
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFinalObstacle(t *testing.T) {
	final := errors.New("host key mismatch")
	refused := &Obstacle{Kind: "host_key", Text: "hop b: host key mismatch", Final: final}
	t.Run("with a call in flight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(down)
			h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
			h.send(initLine)
			synctest.Wait()
			b.set(refused)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "host_key" || string(a.ID) != "0" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != final {
				t.Errorf("Run: %v", err)
			}
		})
	})
	t.Run("met by the next request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(refused)
			h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
			synctest.Wait()
			h.send(initLine)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "host_key" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != final {
				t.Errorf("Run: %v", err)
			}
		})
	})
	t.Run("without any request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			b := newObstacle(refused)
			h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
			if err := <-h.result; err != final || time.Since(begin) != finalGrace {
				t.Errorf("Run after %v: %v", time.Since(begin), err)
			}
		})
	})
	t.Run("said by Explain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, Config{Send: roundTrip(func(*http.Request) (*http.Response, error) { return nil, final }),
				Explain: func(error) Explanation {
					return Explanation{Kind: refused.Kind, Text: refused.Text, Final: refused.Final}
				}})
			h.send(initLine)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "host_key" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != final {
				t.Errorf("Run: %v", err)
			}
		})
	})
}

func TestTimeoutIsResetByProgress(t *testing.T) {
	const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"k","progress":1}}`
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":"k"}}}`
	synctest.Test(t, func(t *testing.T) {
		h, srv := open(t, Config{Timeout: 10 * time.Second}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events()(w, r)
			for range 3 {
				time.Sleep(9 * time.Second)
				fmt.Fprintf(w, "data: %s\n\n", progress)
				http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}}, Exchange{Call: "notifications/cancelled", Body: string(cancelNotice([]byte("7"), "timeout").Raw)}, Goodbye())
		begin := time.Now()
		h.send(call)
		for range 3 {
			h.want(progress)
		}
		if a := decode(t, h.recv()); a.Error.Data.Kind != "timeout" || time.Since(begin) != 37*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
		h.close()
		if got := srv.Seen(); !slices.Contains(got, "POST notifications/cancelled") {
			t.Errorf("seen %v", got)
		}
	})
}

func TestCancel(t *testing.T) {
	const notice = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"é"}}`
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Stream()},
			Exchange{Call: "notifications/cancelled", Body: notice}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
		h.send(callLine)
		synctest.Wait()
		h.send(notice)
		synctest.Wait()
		h.send(pingLine)
		h.want(pingAnswer)
		h.close()
	})
}

func TestCancelOfARequestNeverSentStaysHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.open()
		synctest.Wait()
		b.set(down)
		h.send(callLine)
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		synctest.Wait()
		b.set(nil)
		h.close()
	})
}

func TestInitializeIsNeverCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		reply := script[0].Reply
		script[0].Handle = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, reply)
		}
		srv := New(t, script[0], Goodbye())
		h := start(t, Config{Send: srv.Transport()})
		h.send(initLine)
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}`)
		h.want(reply)
		h.close()
	})
}

// initialize, initialized, the GET stream and the first call reach the server in this order however
// slow it is; the answer to a server's request does not wait for initialized.
func TestOrder(t *testing.T) {
	const roots = `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`
	const rootsAnswer = `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan struct{})
		script := Opening(version)
		script[1].Handle = func(w http.ResponseWriter, r *http.Request) {
			Events("data: "+roots)(w, r)
			<-answered
		}
		script[2].Handle = func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second); w.WriteHeader(405) }
		srv := New(t, append(script, Exchange{Call: ResponseCall, Body: rootsAnswer, Handle: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			close(answered)
		}}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.send(initLine)
		h.send(initializedLine)
		h.send(callLine)
		h.recv()
		h.want(roots)
		h.send(rootsAnswer)
		h.want(callAnswer)
		h.close()
		got := slices.DeleteFunc(srv.Seen(), func(s string) bool { return s == "POST "+ResponseCall })
		want := []string{"POST initialize", "POST notifications/initialized", "GET", "POST tools/call", "DELETE"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestSlowCallHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Hold}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
		h.send(callLine)
		h.send(pingLine)
		h.want(pingAnswer)
		begin := time.Now()
		h.in.Close()
		if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
			t.Errorf("got %+v", a)
		}
		if err := h.close(); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("Run after %v: %v", time.Since(begin), err)
		}
	})
}

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

func TestServerStream(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	const ask = `{"jsonrpc":"2.0","id":"s1","method":"elicitation/create","params":{}}`
	const reply = `{"jsonrpc":"2.0","id":"s1","result":{"action":"decline"}}`
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)[:2]
		var begin, again time.Time
		srv := New(t, append(script,
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": ""}, Handle: func(w http.ResponseWriter, r *http.Request) {
				Events("id: e1\nretry: 3000\ndata:", "id: e2\ndata: "+note)(w, r)
				begin = time.Now()
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "e2", "Mcp-Session-Id": "s1"}, Handle: func(w http.ResponseWriter, r *http.Request) {
				again = time.Now()
				Stream("event: message\ndata: "+ask)(w, r)
			}},
			Exchange{Call: ResponseCall, Body: reply, Header: map[string]string{"Mcp-Session-Id": "s1", "Mcp-Protocol-Version": version}}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		h.want(note)
		h.want(ask)
		if got := again.Sub(begin); got != 3*time.Second {
			t.Errorf("reopened after %v", got)
		}
		h.send(reply)
		synctest.Wait()
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

// A call in flight may be answered on the GET stream, as some servers do.
func TestAnswerOnTheServerStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{})
		srv := New(t, append(Opening(version)[:2], Exchange{Method: "GET", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events(": open")(w, r)
			<-asked
			Stream("data: "+callAnswer)(w, r)
		}}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		}}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

func TestNoServerStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := New(t, append(Opening(version)[:2], Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport(), NoServerStream: true})
		h.open()
		h.send(pingLine)
		h.want(pingAnswer)
		h.close()
	})
}

func TestCallStreamIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begin, again time.Time
		h, _ := open(t, Config{},
			Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				Events("id: a\nretry: 500\ndata:")(w, r)
				begin = time.Now()
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "a"}, Handle: func(w http.ResponseWriter, r *http.Request) {
				again = time.Now()
				w.WriteHeader(503)
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "a"}, Handle: Events("data: " + callAnswer)}, Goodbye())
		h.send(callLine)
		h.want(callAnswer)
		if got := again.Sub(begin); got != 500*time.Millisecond {
			t.Errorf("resumed after %v", got)
		}
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

// Bytes pass as they are, both ways; only line breaks between tokens and a byte order mark go.
func TestBytes(t *testing.T) {
	const odd = `"a":18446744073709551616,"a":1e400,  "z":"\ud800 é </script> \u0041",	"n":-0.0`
	call := `{"id":9007199254740993,"params":{` + odd + `},"method":"tools/call","jsonrpc":"2.0"}`
	answer := `{"jsonrpc":"2.0","id":9007199254740993,"result":{` + odd + `}}`
	for _, tt := range []struct {
		name string
		e    Exchange
	}{
		{"JSON", Exchange{Reply: answer}},
		{"pretty JSON after a BOM", Exchange{Reply: "\ufeff" + strings.NewReplacer(`"result"`, "\r\n\n\"result\"").Replace(answer)}},
		{"event", Exchange{Handle: Events("data: " + answer)}},
		{"event of many lines", Exchange{Handle: Events(strings.Replace("data:"+answer, `"result"`, "\ndata: \"result\"", 1))}},
		{"event with CR", Exchange{Handle: Events("data:" + answer + "\r")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.e.Call, tt.e.Body = "tools/call", call
				h, _ := open(t, Config{}, tt.e, Goodbye())
				h.send(call + "\r")
				h.want(answer)
				h.close()
			})
		})
	}
}

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Body: callLine, Reply: callAnswer},
			Exchange{Call: "notifications/x"}, Goodbye())
		h.send(`[` + callLine + `, {"jsonrpc":"2.0","method":"notifications/x"}, 5]`)
		line := h.recv()
		if !strings.Contains(line, callAnswer) || !strings.Contains(line, "-32600") || line[0] != '[' || line[len(line)-1] != ']' {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}

func TestLeaving(t *testing.T) {
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Hold}, Exchange{Method: "DELETE", Handle: Hold})
			h.send(callLine)
			synctest.Wait()
			begin := time.Now()
			h.cancel()
			if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != nil || time.Since(begin) > 2*time.Second {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
		})
	})
	t.Run("host stopped reading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())
			h.out.CloseWithError(syscall.EPIPE)
			h.send(callLine)
			if err := <-h.result; !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Run: %v", err)
			}
		})
	})
	t.Run("a call finishes within the grace", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(exitGrace / 2)
				io.WriteString(w, callAnswer)
			}}, Goodbye())
			h.send(callLine)
			h.in.Close()
			h.want(callAnswer)
			h.close()
		})
	})
	t.Run("a write that nobody reads", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := New(t, Opening(version)[0], Goodbye())
			inR, inW := io.Pipe()
			outR, outW := io.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error)
			u := mustURL(URL)
			go func() {
				result <- Run(ctx, Config{In: inR, Out: outW, URL: u, Send: srv.Transport(), Load: rememberLegacy})
			}()
			io.WriteString(inW, initLine+"\n")
			synctest.Wait()
			begin := time.Now()
			cancel()
			if err := <-result; err != nil || time.Since(begin) > 2*time.Second {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
			outR.Close()
			inW.Close()
		})
	})
}

// A progress notice costs little however large the calls in flight are: their params are not looked
// at again.
func TestProgressDoesNotReadParams(t *testing.T) {
	params := `{"_meta":{"progressToken":"\u006b"}` + strings.Repeat(`,"key":0`, 1000) + `}`
	s := newSession(t.Context(), Config{URL: mustURL(URL), Timeout: time.Hour, Out: io.Discard})
	for i := range 64 {
		m, err := rawjson.Parse(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}`, i, params))
		if err != nil {
			t.Fatal(err)
		}
		c := &call{Message: m, progress: progressKey(m.Params, "_meta"), timer: time.NewTimer(time.Hour)}
		t.Cleanup(func() { c.timer.Stop() })
		s.calls.inFlight[rawjson.IDKey(m.ID)] = c
	}
	notice, _ := rawjson.Parse([]byte(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"k","progress":1}}`))
	if n := testing.AllocsPerRun(10, func() { s.outOfStream(notice) }); n > 10 {
		t.Errorf("%v allocations", n)
	}
}

// A request that waits for a person until its timeout tells the link again, not to allow more time;
// upstream nobody is told of its end, for it did not run.
func TestSignInEndsWithTheTimeout(t *testing.T) {
	signIn := &Obstacle{Kind: KindSignIn, Text: "a person is to sign in", URL: "https://as.test/", Hints: []string{"open it"}}
	const cancel = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
	wantLink := func(t *testing.T, h *host) {
		a := decode(t, h.recv())
		if d := a.Error.Data; a.Error.Message != signIn.Text || d.Kind != KindSignIn || d.URL != signIn.URL || d.Hint != "open it" {
			t.Errorf("got %+v", a)
		}
	}
	t.Run("never written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, Opening(version)...)
			h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
			h.open()
			synctest.Wait()
			b.set(signIn)
			h.send(callLine)
			wantLink(t, h)
			h.close()
		})
	})
	// A RoundTripper that meets a 401 and waits for the person.
	meets401 := func(b *movedObstacle, next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil && resp.StatusCode == 401 {
				resp.Body.Close()
				b.set(signIn)
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return resp, err
		})
	}
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Status: 401})...)
			h := start(t, Config{Send: meets401(b, srv.Transport()), Obstacle: b.get})
			h.open()
			h.send(callLine)
			wantLink(t, h)
			synctest.Wait()
			h.close()
		})
	})
	t.Run("refused, then cancelled by the host", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Status: 401})...)
			h := start(t, Config{Send: meets401(b, srv.Transport()), Obstacle: b.get})
			h.open()
			h.send(callLine)
			synctest.Wait()
			h.send(cancel)
			synctest.Wait()
			h.close()
		})
	})
}

// While a new session is made, nothing overtakes its initialized and its GET stream: neither a call
// that comes from the host nor one that meets the 404 late. The answer to a question of the server
// does not wait, for initialized may wait for it.
func TestOrderAfterSessionLost(t *testing.T) {
	const roots = `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`
	const rootsAnswer = `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`
	synctest.Test(t, func(t *testing.T) {
		late, answered, proceed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		second := map[string]string{"Mcp-Session-Id": "s2", "Mcp-Protocol-Version": version}
		again[1].Header, again[2].Header = second, second
		again[1].Handle = func(w http.ResponseWriter, r *http.Request) {
			Events("data: "+roots)(w, r)
			<-answered
		}
		again[2].Handle = func(w http.ResponseWriter, r *http.Request) { <-proceed; w.WriteHeader(405) }
		h, srv := open(t, Config{}, append(again,
			Exchange{Call: "late", Header: map[string]string{"Mcp-Session-Id": "s1"}, Handle: func(w http.ResponseWriter, r *http.Request) {
				<-late
				w.WriteHeader(404)
			}},
			Exchange{Call: "tools/call", Header: map[string]string{"Mcp-Session-Id": "s1"}, Status: 404},
			Exchange{Call: ResponseCall, Header: second, Body: rootsAnswer, Handle: func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(202)
				close(answered)
			}},
			Exchange{Call: "late", Header: second, Reply: `{"jsonrpc":"2.0","id":1,"result":{}}`},
			Exchange{Call: "tools/call", Header: second, Reply: callAnswer},
			Exchange{Call: "ping", Header: second, Reply: pingAnswer},
			Exchange{Call: "notifications/x", Header: second},
			Exchange{Method: "DELETE", Header: second})...)
		h.send(`{"jsonrpc":"2.0","id":1,"method":"late"}`)
		synctest.Wait()
		h.send(callLine)
		h.want(roots) // initialized is on its way now
		h.send(pingLine)
		h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
		close(late)
		synctest.Wait()
		h.send(rootsAnswer)
		synctest.Wait()
		close(proceed)
		for range 3 {
			if line := h.recv(); !strings.Contains(line, `"result"`) {
				t.Errorf("got %s", line)
			}
		}
		synctest.Wait()
		seen := srv.Seen()
		i := slices.Index(seen[3:], "POST initialize") + 3
		got := slices.DeleteFunc(seen[i:], func(s string) bool { return s == "POST "+ResponseCall })
		if want := []string{"POST initialize", "POST notifications/initialized", "GET"}; len(got) != 7 || !slices.Equal(got[:3], want) {
			t.Errorf("got %v, want %v first", got, want)
		}
		h.close()
	})
}

// The GET stream and the DELETE, for which nobody waits, have their own way.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := New(t, append(Opening(version), Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())...)
		next := srv.Transport()
		only := func(methods ...string) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				if !slices.Contains(methods, r.Method) {
					t.Errorf("%s went the wrong way", r.Method)
				}
				return next.RoundTrip(r)
			})
		}
		h := start(t, Config{Send: only("POST"), Background: only("GET", "DELETE")})
		h.open()
		h.send(pingLine)
		h.want(pingAnswer)
		h.close()
	})
}

// A 401 on the GET stream means later: after a while, or when a call shows that the token is good
// again.
func TestServerStreamAfter401(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	refused := Exchange{Method: "GET", Status: 401}
	t.Run("later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := New(t, append(Opening(version)[:2], refused, refused, refused, Exchange{Method: "GET", Handle: Stream("data: " + note)}, Goodbye())...)
			h := start(t, Config{Send: srv.Transport()})
			begin := time.Now()
			h.open()
			h.want(note)
			if d := time.Since(begin); d < 3500*time.Millisecond || d > 7*time.Second {
				t.Errorf("open after %v", d) // 0.5 to 1 s, 1 to 2, 2 to 4
			}
			h.close()
		})
	})
	t.Run("after a call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := New(t, append(Opening(version)[:2], refused, refused,
				Exchange{Call: "tools/call", Reply: callAnswer}, Exchange{Call: "ping", Reply: pingAnswer},
				Exchange{Method: "GET", Handle: Stream("data: " + note)}, Goodbye())...)
			h := start(t, Config{Send: srv.Transport()})
			h.open()
			synctest.Wait()
			begin := time.Now()
			h.send(callLine)
			h.want(callAnswer)
			synctest.Wait()
			if got := srv.Seen(); got[len(got)-1] != "GET" || time.Since(begin) != 0 {
				t.Errorf("after %v: seen %v", time.Since(begin), got)
			}
			// The token is good and the stream was refused: another call proves nothing new.
			h.send(pingLine)
			h.want(pingAnswer)
			synctest.Wait()
			if got := srv.Seen(); got[len(got)-1] == "GET" {
				t.Errorf("seen %v", got)
			}
			h.want(note)
			h.close()
		})
	})
}

// A notification that the server does not accept holds up later messages for a while only; one that
// an obstacle keeps here keeps its place.
func TestStuckNotification(t *testing.T) {
	for _, name := range []string{"notifications/initialized", "notifications/x"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script := Opening(version)
				if name == "notifications/initialized" {
					script[1].Handle = Hold
				} else {
					script = append(script, Exchange{Call: name, Handle: Hold})
				}
				srv := New(t, append(script, Exchange{Call: "notifications/y"}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
				h := start(t, Config{Send: srv.Transport()})
				h.open()
				synctest.Wait()
				begin := time.Now()
				if name != "notifications/initialized" {
					h.send(`{"jsonrpc":"2.0","method":"` + name + `"}`)
				}
				h.send(`{"jsonrpc":"2.0","method":"notifications/y"}`)
				if name == "notifications/initialized" {
					h.send(callLine)
					h.want(callAnswer)
				} else {
					time.Sleep(noticeWait - time.Nanosecond)
					synctest.Wait()
					if slices.Contains(srv.Seen(), "POST notifications/y") {
						t.Error("notifications/y went too early")
					}
					time.Sleep(time.Nanosecond)
					h.send(callLine)
					h.want(callAnswer)
				}
				synctest.Wait()
				if d := time.Since(begin); d != noticeWait || !slices.Contains(srv.Seen(), "POST notifications/y") {
					t.Errorf("after %v: seen %v", d, srv.Seen())
				}
				h.close()
			})
		})
	}
	t.Run("obstacle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, append(Opening(version), Exchange{Call: "notifications/x", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Second)
				w.WriteHeader(202)
			}}, Exchange{Call: "notifications/y"}, Goodbye())...)
			h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
			h.open()
			synctest.Wait()
			b.set(down)
			h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
			h.send(`{"jsonrpc":"2.0","method":"notifications/y"}`)
			time.Sleep(10 * noticeWait)
			b.set(nil)
			synctest.Wait()
			if got := srv.Seen(); got[len(got)-1] != "POST notifications/x" {
				t.Errorf("seen %v", got)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := srv.Seen(); got[len(got)-1] != "POST notifications/y" {
				t.Errorf("seen %v", got)
			}
			h.close()
		})
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
		{"another status", Exchange{Status: 403, Reply: noSession}, false},
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
