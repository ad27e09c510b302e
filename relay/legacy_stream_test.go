package relay

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

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

const (
	progressLine = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"k","progress":1}}`
	changedLine  = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
)

// A server that replays and then falls silent is asked again until it has the answer.
func TestSilentResumedStreamIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{},
			Exchange{Call: "tools/call", Handle: Events("id: a\nretry: 10\ndata:")},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "a"}, Handle: Stream("id: b\ndata: " + progressLine)},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "b"}, Status: http.StatusConflict},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "b"}, Handle: Stream()},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "b"}, Handle: Events("id: c\ndata: " + callAnswer)}, Goodbye())
		begin := time.Now()
		h.send(callLine)
		h.want(progressLine)
		h.want(callAnswer)
		if took := time.Since(begin); took > 4*resumeSilence {
			t.Errorf("answered after %v", took)
		}
		h.close()
	})
}

// A stream that was never resumed may be silent for ever.
func TestSilentStreamIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events("id: a\ndata:")(w, r)
			time.Sleep(5 * retryMax)
			fmt.Fprintf(w, "id: b\ndata: %s\n\n", callAnswer)
		}}, Goodbye())
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// What two streams replay reaches the host once; what only looks alike reaches it each time.
func TestReplayOnTwoStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		script[2] = Exchange{Method: "GET", Handle: Events("id: 1\nretry: 10\ndata: " + changedLine)}
		sent := make(chan struct{})
		h := start(t, Config{Send: New(t, append(script,
			Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				Events("id: 1\ndata: "+changedLine, "id: 2\nretry: 1000\ndata: "+progressLine, "id: 3\ndata: "+progressLine)(w, r)
				close(sent)
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "1"}, Handle: func(w http.ResponseWriter, r *http.Request) {
				<-sent
				Stream("id: 2\ndata: "+progressLine, "id: 3\ndata: "+progressLine, "id: 1\ndata: "+changedLine, "id: 4\ndata: "+changedLine, "data: "+changedLine)(w, r)
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "3"}, Handle: Events("id: 4\ndata: "+changedLine, "id: 5\ndata: "+callAnswer)},
			Goodbye())...).Transport()})
		h.open()
		h.send(callLine)
		var got []string
		for line := range h.lines {
			got = append(got, line)
			if line == callAnswer {
				break
			}
		}
		want := map[string]int{changedLine: 4, progressLine: 2, callAnswer: 1}
		count := map[string]int{}
		for _, line := range got {
			count[line]++
		}
		for line, n := range want {
			if count[line] != n {
				t.Errorf("%d times, want %d: %s", count[line], n, line)
			}
		}
		h.cancel()
		<-h.result
	})
}

func TestDeliveredIsBounded(t *testing.T) {
	var d delivered
	for i := range 3 * maxReplay {
		if d.add("x", []byte{byte(i), byte(i >> 8), byte(i >> 16)}) {
			t.Fatalf("message %d is known", i)
		}
	}
	if len(d.known) != maxReplay || len(d.ring) != maxReplay {
		t.Errorf("%d and %d are kept, want %d", len(d.known), len(d.ring), maxReplay)
	}
	if last := 3*maxReplay - 1; !d.add("x", []byte{byte(last), byte(last >> 8), byte(last >> 16)}) {
		t.Error("the last message is forgotten")
	}
}

// A server that refused the GET stream to the last session gets calls at once. The stream is asked
// for all the same, and a server that has begun to offer it is waited for the next time. A refusal
// that may be a gateway's is not remembered.
func TestStreamRefusalIsRemembered(t *testing.T) {
	opened := Exchange{Method: "GET", Handle: Stream()}
	for name, tt := range map[string]struct {
		before     string
		stream     Exchange
		waits      bool
		remembered string
	}{
		"first session, refused":  {"", Exchange{Method: "GET", Status: 405}, false, streamRefused},
		"first session, offered":  {"", opened, false, ""},
		"first session, silent":   {"", Exchange{Method: "GET", Handle: Hold}, true, ""},
		"first session, gateway":  {"", Exchange{Method: "GET", Status: 403}, false, ""},
		"refused before, silent":  {streamRefused, Exchange{Method: "GET", Handle: Hold}, false, streamRefused},
		"refused before, offered": {streamRefused, opened, false, streamOffered},
		"offered before, silent":  {streamOffered, Exchange{Method: "GET", Handle: Hold}, true, streamOffered},
		"damaged memory, silent":  {`{"refused"`, Exchange{Method: "GET", Handle: Hold}, true, `{"refused"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{m: map[string]string{}}
				if tt.before != "" {
					m.m[memoryStream] = tt.before
				}
				script := append(Opening(version)[:2], tt.stream, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())
				h := start(t, Config{Send: New(t, script...).Transport(), Load: m.load, Save: m.save})
				h.open()
				begin := time.Now()
				h.send(callLine)
				h.want(callAnswer)
				if waited := time.Since(begin) >= streamOpenWait; waited != tt.waits {
					t.Errorf("the call took %v", time.Since(begin))
				}
				synctest.Wait() // for the answer to the GET
				h.close()
				if got := m.m[memoryStream]; got != tt.remembered {
					t.Errorf("remembered %q, want %q", got, tt.remembered)
				}
			})
		})
	}
}
