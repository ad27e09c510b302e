package relay

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// busy is a refusal for now.
func busy(call string, status int, retryAfter string) Exchange {
	e := Exchange{Call: call, Status: status, Type: "text/html", Reply: "<h1>busy</h1>", Set: map[string]string{}}
	if retryAfter != "" {
		e.Set["Retry-After"] = retryAfter
	}
	return e
}

// onEachWire runs f with an open session on each wire. A script says what the server answers to
// calls of tools; the answer is that of callLine on every wire.
func onEachWire(t *testing.T, script []Exchange, f func(t *testing.T, h *host)) {
	t.Run("legacy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, append(slices.Clone(script), Goodbye())...)
			synctest.Wait()
			f(t, h)
			h.close()
		})
	})
	t.Run("HTTP+SSE", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, srv := openPush(t, script...)
			f(t, h)
			h.close()
			_ = srv
		})
	})
	t.Run("bridge", func(t *testing.T) {
		bridged(t, `{}`, script, f)
	})
	t.Run("modern", func(t *testing.T) {
		play2026(t, remembering(modernEra), script, func(t *testing.T, h *host, srv *Server) { f(t, h) })
	})
}

// openPush opens a session of HTTP+SSE with a server that plays script for the POSTs. Replies come
// on the stream.
func openPush(t *testing.T, script ...Exchange) (*host, *Server) {
	t.Helper()
	events := make(chan string, 16)
	list := []Exchange{
		{Method: "GET", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events("event: endpoint\ndata: /messages")(w, r)
			for {
				select {
				case e := <-events:
					fmt.Fprintf(w, "data: %s\n\n", e)
					http.NewResponseController(w).Flush()
				case <-r.Context().Done():
					return
				}
			}
		}},
		{Call: "initialize", Handle: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			events <- `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05","capabilities":{}}}`
		}},
		{Call: "notifications/initialized"},
	}
	for _, e := range script {
		if e.Status == 0 && e.Reply != "" {
			reply := e.Reply
			e.Reply = ""
			e.Handle = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(202)
				events <- reply
			}
		}
		list = append(list, e)
	}
	srv := New(t, list...)
	h := start(t, Config{Send: srv.Transport(), Transport: TransportSSE})
	h.open()
	synctest.Wait()
	return h, srv
}

// toolLine is a call of a tool that every wire takes, with the id 7. toolLineWithToken has a
// progress token, too.
var (
	toolLine          = request2026("tools/call", `"name":"x"`)
	toolLineWithToken = strings.Replace(toolLine, `"_meta":{`, `"_meta":{"progressToken":"t",`, 1)
)

// A request that is refused for now is sent again when the upstream says, on each wire.
func TestBusyServerIsAskedAgain(t *testing.T) {
	// A bubble begins at midnight of 2000-01-01.
	for _, tt := range []struct {
		name        string
		refusal     Exchange
		least, most time.Duration
	}{
		{"429", busy("tools/call", 429, "7"), 7 * time.Second, 8 * time.Second},
		{"503", busy("tools/call", 503, "7"), 7 * time.Second, 8 * time.Second},
		{"425", busy("tools/call", 425, "7"), 7 * time.Second, 8 * time.Second},
		{"at once", busy("tools/call", 503, "0"), 500 * time.Millisecond, 1100 * time.Millisecond},
		{"until a date", busy("tools/call", 503, "Sat, 01 Jan 2000 00:00:40 GMT"), 30 * time.Second, 41 * time.Second},
		{"429 without a time", busy("tools/call", 429, ""), 500 * time.Millisecond, 1100 * time.Millisecond},
		{"425 without a time", busy("tools/call", 425, ""), 500 * time.Millisecond, 1100 * time.Millisecond},
		{"with an error in the body", Exchange{Call: "tools/call", Status: 429, Set: map[string]string{"Retry-After": "1"},
			Reply: `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"slow down"}}`}, time.Second, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachWire(t, []Exchange{tt.refusal, {Call: "tools/call", Reply: callAnswer}}, func(t *testing.T, h *host) {
				begin := time.Now()
				h.send(toolLine)
				h.want(callAnswer)
				if d := time.Since(begin); d < tt.least || d > tt.most {
					t.Errorf("after %v, want %v to %v", d, tt.least, tt.most)
				}
			})
		})
	}
}

// A request that cannot or must not be sent again is answered at once, with the status and the
// time.
func TestBusyServerIsTheAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, hint string
		refusal    Exchange
	}{
		{"longer than the patience", "ask again in 301 s", busy("tools/call", 429, "301")},
		{"as long as the patience", "ask again in 300 s", busy("tools/call", 503, "300")},
		{"for ever", "ask again in 2147483648 s", busy("tools/call", 503, "99999999999999999999999")},
		{"next year", "ask again in ", busy("tools/call", 503, "Sun, 31 Dec 2000 00:00:00 GMT")},
		{"503 without a time", "ask again later", busy("tools/call", 503, "")},
		{"503 with nonsense", "ask again later", busy("tools/call", 503, "soon")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachWire(t, []Exchange{tt.refusal}, func(t *testing.T, h *host) {
				begin := time.Now()
				h.send(toolLine)
				a := decode(t, h.recv())
				if d := time.Since(begin); d != 0 || a.Error.Data.Status != tt.refusal.Status || !strings.Contains(a.Error.Data.Hint, tt.hint) {
					t.Errorf("after %v: %+v", d, a)
				}
			})
		})
	}
}

// Without a time, a request that does no harm is repeated a few times. Then the refusal is its
// answer.
func TestBusyServerWithoutATime(t *testing.T) {
	for _, tt := range []struct {
		method string
		status int
	}{{"tools/list", 503}, {"ping", 503}, {"tasks/get", 503}, {"tools/call", 429}} {
		t.Run(fmt.Sprint(tt.method, tt.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := busy(tt.method, tt.status, "")
				e.Repeat = true
				h, srv := open(t, Config{}, e, Goodbye())
				synctest.Wait()
				begin := time.Now()
				h.send(strings.Replace(callLine, "tools/call", tt.method, 1))
				a := decode(t, h.recv())
				if d := time.Since(begin); a.Error.Data.Status != tt.status || d < 7*time.Second || d > 17*time.Second {
					t.Errorf("after %v: %+v", d, a)
				}
				if n := count(srv, "POST "+tt.method); n != maxBusy+1 {
					t.Errorf("%d requests, want %d", n, maxBusy+1)
				}
				h.close()
			})
		})
	}
}

func count(srv *Server, request string) (n int) {
	for _, seen := range srv.Seen() {
		if seen == request {
			n++
		}
	}
	return n
}

// If a server is busy for longer than a call may take, the call gets the true cause.
func TestBusyServerUntilTheTimeout(t *testing.T) {
	for _, tt := range []struct {
		name, line, after string
		limit             time.Duration
		least, most       int // requests
	}{
		{"progress token", toolLineWithToken, "40", 300 * time.Second, 7, 9},
		{"no progress token", callLine, "40", 45 * time.Second, 2, 2},
		{"no progress token, 2 s each time", callLine, "2", 45 * time.Second, 5, 12},
		{"no progress token, longer than that", callLine, "45", 0, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := busy("tools/call", 503, tt.after)
				e.Repeat = true
				h, srv := open(t, Config{}, e, Goodbye())
				synctest.Wait()
				begin := time.Now()
				h.send(tt.line)
				line := h.recv()
				for strings.Contains(line, "notifications/progress") {
					line = h.recv()
				}
				a := decode(t, line)
				if d := time.Since(begin); a.Error.Data.Status != 503 || d > tt.limit {
					t.Errorf("after %v: %+v", d, a)
				}
				if n := count(srv, "POST tools/call"); n < tt.least || n > tt.most {
					t.Errorf("%d requests", n)
				}
				h.close()
			})
		})
	}
}

// A refused call keeps no other requests back: a host may end a server that answers no ping.
func TestBusyServerAnswersOtherRequests(t *testing.T) {
	onEachWire(t, []Exchange{busy("tools/call", 429, "12"), {Call: "tools/call", Reply: strings.Replace(callAnswer, "7", "8", 1)},
		{Call: "tools/call", Reply: callAnswer}}, func(t *testing.T, h *host) {
		begin := time.Now()
		h.send(toolLine)
		synctest.Wait()
		h.send(strings.NewReplacer(`"id":7`, `"id":8`, `"name":"x"`, `"name":"y"`).Replace(toolLine))
		h.want(strings.Replace(callAnswer, "7", "8", 1))
		if d := time.Since(begin); d > 0 {
			t.Errorf("another tool waited for %v", d)
		}
		h.want(callAnswer)
	})
}

// Many calls that are refused together do not come back together: one goes ahead.
func TestBusyServerIsNotFlooded(t *testing.T) {
	const n = 64
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		var refused []time.Duration
		served := map[time.Duration]int{}
		answer := Exchange{Call: "tools/call", Repeat: true, Handle: func(w http.ResponseWriter, r *http.Request) {
			since := time.Since(begin)
			time.Sleep(100 * time.Millisecond) // so that all have come before the first is refused
			mu.Lock()
			defer mu.Unlock()
			if since < 30*time.Second {
				refused = append(refused, since)
				w.Header().Set("Retry-After", "5")
				w.WriteHeader(429)
				return
			}
			served[since.Truncate(10*time.Millisecond)]++
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, rawjson.Member(body, "id"))
		}}
		h, _ := open(t, Config{}, answer, Goodbye())
		synctest.Wait()
		for i := range n {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call"}`, 100+i))
		}
		for range n {
			if line := h.recv(); !strings.Contains(line, "result") {
				t.Errorf("got %s", line)
			}
		}
		h.close()
		if again := len(refused) - n; again < 1 || again > 6 || refused[n] > 7*time.Second {
			t.Errorf("%d further attempts while the server was busy, at %v", again, refused)
		}
		for at, together := range served {
			if together > n/4 {
				t.Errorf("%d requests at %v", together, at)
			}
		}
	})
}

// A slow answer to the first request after a pause does not keep the others.
func TestScoutThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			io.WriteString(w, callAnswer)
		}}
		h, _ := open(t, Config{}, busy("tools/call", 429, "1"), slow, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
		synctest.Wait()
		h.send(callLine)
		time.Sleep(1900 * time.Millisecond)
		begin := time.Now()
		h.send(pingLine)
		h.want(pingAnswer)
		if d := time.Since(begin); d > 2*scoutTime {
			t.Errorf("after %v", d)
		}
		h.want(callAnswer)
		h.close()
	})
}

// The host hears what its call waits for, and may cancel it. Then nothing of it is sent.
func TestProgressAndCancelWhileTheServerIsBusy(t *testing.T) {
	const cancel = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
	onEachWire(t, []Exchange{busy("tools/call", 429, "50"), {Call: "tools/call", Repeat: true, Reply: strings.Replace(callAnswer, "7", "8", 1)}}, func(t *testing.T, h *host) {
		begin := time.Now()
		h.send(toolLineWithToken)
		for i := range 3 {
			got := h.recv()
			want := "status 429 Too Many Requests; it is asked again in "
			if !strings.Contains(got, want) || !strings.Contains(got, `"progressToken":"t"`) {
				t.Errorf("got %s", got)
			}
			if d := time.Since(begin); d != 3*time.Second+time.Duration(i)*progressEvery {
				t.Errorf("after %v", d)
			}
		}
		h.send(cancel)
		synctest.Wait()
		h.send(strings.Replace(toolLine, `"id":7`, `"id":8`, 1))
		h.want(strings.Replace(callAnswer, "7", "8", 1))
		if d := time.Since(begin); d < 49*time.Second || d > 60*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// A host that goes away ends the wait.
func TestHostGoesWhileTheServerIsBusy(t *testing.T) {
	onEachWire(t, []Exchange{busy("tools/call", 429, "40")}, func(t *testing.T, h *host) {
		h.send(toolLine)
		synctest.Wait()
		begin := time.Now()
		h.in.Close()
		if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" || time.Since(begin) > exitBound {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
	})
}

// The messages that open a session wait, too. The host is answered early meanwhile.
func TestBusyServerAtTheOpening(t *testing.T) {
	opening := Opening(version)
	for name, script := range map[string][]Exchange{
		"discover":                {busy("server/discover", 429, "5"), {Call: "server/discover", Status: 405}, opening[0], opening[1], opening[2]},
		"discover, for longer":    {busy("server/discover", 503, "20"), busy("initialize", 503, "20"), opening[0], opening[1], opening[2]},
		"discover without a time": {busy("server/discover", 503, ""), busy("initialize", 503, ""), {Call: "server/discover", Status: 405}, opening[0], opening[1], opening[2]},
		"initialize":              {{Call: "server/discover", Status: 405}, busy("initialize", 503, "20"), opening[0], opening[1], opening[2]},
		"initialized":             {{Call: "server/discover", Status: 405}, opening[0], busy("notifications/initialized", 429, "4"), opening[1], opening[2]},
		"initialized, bare 503":   {{Call: "server/discover", Status: 405}, opening[0], busy("notifications/initialized", 503, ""), opening[1], opening[2]},
		"GET stream":              {{Call: "server/discover", Status: 405}, opening[0], opening[1], withMethod("GET", busy("", 503, "20")), opening[2]},
	} {
		t.Run(name, func(t *testing.T) {
			play2026(t, remembering(unknownEra), append(slices.Clone(script), Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye()), func(t *testing.T, h *host, srv *Server) {
				begin := time.Now()
				h.open()
				h.send(callLine)
				var got []string
				for !slices.Contains(got, callAnswer) {
					got = append(got, h.recv())
				}
				if d := time.Since(begin); d > 25*time.Second {
					t.Errorf("after %v", d)
				}
				time.Sleep(30 * time.Second)
				for len(h.lines) > 0 {
					<-h.lines // lists have changed
				}
			})
		})
	}
}

func withMethod(method string, e Exchange) Exchange {
	e.Method = method
	return e
}

// A call that waits for a busy server to open its session is answered with that.
func TestBusyServerIsNamedBeforeTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := New(t, busy("initialize", 503, "120"), Opening(version)[0], Exchange{Repeat: true, Status: 202}, Exchange{Method: "GET", Repeat: true, Status: 405}, Exchange{Method: "DELETE", Repeat: true})
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.recv()); !strings.Contains(a.Error.Message, "status 503 Service Unavailable; it is asked again in ") || time.Since(begin) != 25*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
		h.want(toolsChanged)
		h.cancel()
		<-h.result
	})
}

// A notification and the host's own answer wait as a call does.
func TestBusyServerAndNotifications(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/x"}`
	const answer = `{"jsonrpc":"2.0","id":"q","result":{}}`
	synctest.Test(t, func(t *testing.T) {
		h, srv := open(t, Config{}, busy("notifications/x", 429, "5"), Exchange{Call: "notifications/x", Body: note},
			busy(ResponseCall, 503, "5"), Exchange{Call: ResponseCall, Body: answer}, Goodbye())
		h.send(note)
		time.Sleep(8 * time.Second)
		h.send(answer)
		time.Sleep(8 * time.Second)
		h.close()
		_ = srv
	})
	play2026(t, remembering(modernEra), []Exchange{busy("notifications/x", 429, "15"), {Call: "notifications/x"}}, func(t *testing.T, h *host, srv *Server) {
		h.send(strings.Replace(note, `x"`, `x","params":{`+metaText+`}`, 1))
		time.Sleep(20 * time.Second)
	})
}

func TestRetryAfter(t *testing.T) {
	const now = "Sat, 01 Jan 2000 00:00:00 GMT"
	for _, tt := range []struct {
		value, date string
		want        time.Duration
		given       bool
	}{
		{"7", "", 7 * time.Second, true},
		{" 7 ", "", 7 * time.Second, true},
		{"0", "", 0, true},
		{"1.5", "", 2 * time.Second, true},
		{"1.0", "", time.Second, true},
		{"123456789012345678901234567890", "", (1 << 31) * time.Second, true},
		{"Sat, 01 Jan 2000 00:00:09 GMT", "", 9 * time.Second, true},
		{"Sat, 01 Jan 2000 00:00:09 GMT", "Sat, 01 Jan 2000 00:00:05 GMT", 4 * time.Second, true}, // the server's clock counts
		{"Saturday, 01-Jan-00 00:00:09 GMT", now, 9 * time.Second, true},
		{"Fri, 31 Dec 1999 00:00:00 GMT", now, 0, true},
		{"", "", 0, false},
		{"soon", "", 0, false},
		{"-1", "", 0, false},
		{".", "", 0, false},
		{"7 s", "", 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := http.Header{"Retry-After": {tt.value}}
			if tt.date != "" {
				h.Set("Date", tt.date)
			}
			if d, given := retryAfter(h); d != tt.want || given != tt.given {
				t.Errorf("%q: got %v %v, want %v %v", tt.value, d, given, tt.want, tt.given)
			}
		})
	}
}

// Config.Patience does not end a call that waits for a busy server, whatever else is in the way.
func TestBusyServerAndAnObstacle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		h, _ := open(t, Config{Obstacle: b.get}, busy("tools/call", 429, "40"), Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())
		synctest.Wait()
		h.send(callLine)
		synctest.Wait()
		b.set(down)
		time.Sleep(30 * time.Second)
		b.set(nil)
		h.want(callAnswer)
		h.close()
	})
}

// Where nobody waits for the answer, a longer Retry-After makes the next attempt come later.
func TestBusyServerIsLeftAlone(t *testing.T) {
	t.Run("GET stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			script := append(Opening(version)[:2], withMethod("GET", busy("", 503, "400")), Exchange{Method: "GET", Status: 405}, Goodbye())
			srv := New(t, script...)
			h := start(t, Config{Send: srv.Transport()})
			h.open()
			time.Sleep(399 * time.Second)
			if n := count(srv, "GET"); n != 1 {
				t.Errorf("%d requests", n)
			}
			time.Sleep(2 * time.Second)
			h.close()
		})
	})
	t.Run("opening", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := New(t, append([]Exchange{busy("initialize", 503, "400")}, append(Opening(version), Goodbye())...)...)
			h := start(t, Config{Send: srv.Transport()})
			h.open() // is answered early
			time.Sleep(395 * time.Second)
			if n := count(srv, "POST initialize"); n != 1 {
				t.Errorf("%d requests", n)
			}
			time.Sleep(time.Minute)
			h.want(toolsChanged)
			h.close()
		})
	})
}
