package relay

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

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
		}}, Exchange{Call: "notifications/cancelled", Body: string(cancelNotification([]byte("7"), "timeout").Raw)}, Goodbye())
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

// A request is in flight until it is answered or taken back, also while its answer has only begun.
func TestInFlight(t *testing.T) {
	const notice = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"é"}}`
	synctest.Test(t, func(t *testing.T) {
		var inFlight atomic.Int64
		h, _ := open(t, Config{InFlight: &inFlight}, Exchange{Call: "tools/call", Handle: Stream()},
			Exchange{Call: "notifications/cancelled", Body: notice}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
		synctest.Wait()
		is := func(when string, want int64) {
			t.Helper()
			if got := inFlight.Load(); got != want {
				t.Errorf("%s: %d in flight, want %d", when, got, want)
			}
		}
		is("after the opening", 0)
		h.send(callLine)
		time.Sleep(time.Minute)
		is("a call", 1)
		h.send(notice)
		synctest.Wait()
		is("taken back", 0)
		h.send(pingLine)
		h.want(pingAnswer)
		synctest.Wait()
		is("answered", 0)
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

// The limit of a call covers the body of its answer, and the end of the host's input waits for no
// call.
func TestTimeoutCoversTheBody(t *testing.T) {
	for name, head := range map[string]http.HandlerFunc{
		"event stream": Events(": open"),
		"half a body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, callAnswer[:20])
			http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stalled := func(w http.ResponseWriter, r *http.Request) { head(w, r); Hold(w, r) }
				h, _ := open(t, Config{Timeout: time.Minute}, Exchange{Call: "tools/call", Handle: stalled}, Exchange{Call: "tools/call", Handle: stalled},
					Exchange{Call: "notifications/cancelled", Repeat: true}, Goodbye())
				begin := time.Now()
				h.send(callLine)
				if a := decode(t, h.after(begin, time.Minute)); a.Error.Data.Kind != "timeout" {
					t.Errorf("got %+v", a)
				}
				h.send(callLine)
				synctest.Wait()
				begin = time.Now()
				h.in.Close()
				if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
					t.Errorf("got %+v", a)
				}
				if h.close(); time.Since(begin) > 2*time.Second {
					t.Errorf("Run returned %v after the end of its input", time.Since(begin))
				}
			})
		})
	}
}

// While calls fill the table, the host's answers and notifications go through, or the server could
// never finish one.
func TestBusyTakesAnswersAndNotifications(t *testing.T) {
	const reply = `{"jsonrpc":"2.0","id":"s1","result":{"action":"accept"}}`
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{maxCalls: fewCalls}, Exchange{Call: "tools/call", Repeat: true, Handle: Hold}, Exchange{Call: ResponseCall, Body: reply},
			Exchange{Call: "notifications/x"}, Goodbye())
		for i := range fewCalls {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{}}`, 100+i))
		}
		h.send(reply)
		h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
		synctest.Wait() // the script fails the test if they have not come
		h.in.Close()
		for range fewCalls {
			h.recv()
		}
		h.close()
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{maxCalls: fewCalls}, Exchange{Call: "tools/call", Repeat: true, Handle: Hold}, Goodbye())
		for i := range fewCalls {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{}}`, 100+i))
		}
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "busy" || string(a.ID) != "7" {
			t.Errorf("got %+v", a)
		}
		h.in.Close()
		for range fewCalls {
			if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
				t.Fatalf("got %+v", a)
			}
		}
		h.close()
	})
}

func TestIDInFlightTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Hold}, Goodbye())
		h.send(callLine)
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Code != -32600 {
			t.Errorf("got %+v", a)
		}
		h.in.Close()
		h.recv()
		h.close()
	})
}
