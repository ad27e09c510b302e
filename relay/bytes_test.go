package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// bytewise is a Handle that sends text one byte at a time.
func bytewise(mediaType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		for i := range len(text) {
			io.WriteString(w, text[i:i+1])
			http.NewResponseController(w).Flush()
		}
	}
}

// A character may be cut anywhere on its way, both ways.
func TestCharactersSplitAcrossReads(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":7,"result":"é€😀"}`
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"é€😀"}}`
	for _, handle := range []http.HandlerFunc{bytewise("application/json", answer), bytewise("text/event-stream", "data: "+answer+"\n\n")} {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Body: call, Handle: handle}, Goodbye())
			for _, b := range []byte(call + "\n") {
				h.in.Write([]byte{b})
			}
			h.want(answer)
			h.close()
		})
	}
}

// An answer above the limit is refused however it comes, and one at the limit passes.
func TestLargeAnswers(t *testing.T) {
	head, tail := `{"jsonrpc":"2.0","id":7,"result":"`, `"}`
	exact := head + strings.Repeat("x", maxMessage-len(head)-len(tail)) + tail
	for _, tt := range []struct {
		name, mediaType, before, body, after string
		refused                              bool
	}{
		{"JSON above it, of unknown length", "application/json", "", exact, " ", true},
		{"event at the limit", "text/event-stream", "data:", exact, "\n\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", tt.mediaType)
					for _, part := range []string{tt.before, tt.body, tt.after} {
						io.WriteString(w, part)
					}
				}}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
				h.send(callLine)
				line := h.recv()
				if tt.refused {
					if a := decode(t, line); a.Error.Data.Kind != "too_large" {
						t.Errorf("got %.300s", line)
					}
				} else if line != exact {
					t.Errorf("got %d bytes, want %d", len(line), len(exact))
				}
				h.send(pingLine)
				h.want(pingAnswer)
				h.close()
			})
		})
	}
}

// A host that stops reading stops the upstream: what the server could send is bounded by what lies
// in buffers.
func TestHostThatDoesNotReadStopsTheUpstream(t *testing.T) {
	const chunk = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events()(w, r)
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintf(w, "data: {\"method\":\"notifications/message\",\"params\":\"%s\"}\n\n", strings.Repeat("x", chunk)); err != nil {
					return
				}
				sent.Add(chunk)
			}
		}}, Goodbye())...)
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		result := make(chan error, 1)
		go func() {
			result <- Run(t.Context(), Config{In: inR, Out: outW, URL: mustURL(URL), Send: srv.Transport(), Load: rememberLegacy})
		}()
		io.WriteString(inW, initLine+"\n")
		io.ReadFull(outR, make([]byte, len(Opening(version)[0].Reply)+1))
		io.WriteString(inW, initializedLine+"\n"+callLine+"\n")
		synctest.Wait() // until everybody waits for the host
		if got := sent.Load(); got > 2*chunk {
			t.Errorf("the server could send %d bytes", got)
		}
		inW.Close()
		outR.Close()
		if err := <-result; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

// While calls fill the table, the host's answers and notifications go through, or the server could
// never finish one.
func TestBusyTakesAnswersAndNotifications(t *testing.T) {
	const reply = `{"jsonrpc":"2.0","id":"s1","result":{"action":"accept"}}`
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Repeat: true, Handle: Hold}, Exchange{Call: ResponseCall, Body: reply},
			Exchange{Call: "notifications/x"}, Goodbye())
		for i := range maxCalls {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{}}`, 100+i))
		}
		h.send(reply)
		h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
		synctest.Wait() // the script fails the test if they have not come
		h.in.Close()
		for range maxCalls {
			h.recv()
		}
		h.close()
	})
}

// What only a socket can do: a certificate that nobody trusts, and a connection that is reset.
func TestFaultsOnSockets(t *testing.T) {
	reset := Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}}
	for _, tt := range []struct {
		name   string
		start  func(http.Handler) *httptest.Server
		script []Exchange
		text   string
		mayRun bool
	}{
		{"TLS", httptest.NewTLSServer, nil, "certificate", false},
		{"reset", httptest.NewServer, []Exchange{reset}, "reset by peer", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			web := tt.start(New(t, append(append(Opening(version), tt.script...), Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())...))
			defer web.Close()
			distrustful := &http.Transport{TLSClientConfig: &tls.Config{}}
			defer distrustful.CloseIdleConnections()
			h := start(t, Config{URL: mustURL(web.URL), Send: roundTrip(func(r *http.Request) (*http.Response, error) {
				if tt.name == "TLS" && r.GetBody != nil {
					body, _ := r.GetBody()
					if text, _ := io.ReadAll(body); string(text) == callLine {
						return distrustful.RoundTrip(r)
					}
				}
				return web.Client().Transport.RoundTrip(r)
			})})
			h.open()
			h.send(callLine)
			line := h.recv()
			a := decode(t, line)
			if a.Error.Code != -32000 || !strings.Contains(a.Error.Message, tt.text) || strings.Contains(a.Error.Data.Hint, "may have run") != tt.mayRun {
				t.Errorf("got %s", line)
			}
			h.send(pingLine)
			h.want(pingAnswer)
			h.close()
		})
	}
}

// The predecessor let notifications/initialized race the first request.
func TestWeakness09InitializedComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		script[1].Handle = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second) // the slower it is, the surer the race
			w.WriteHeader(http.StatusAccepted)
		}
		srv := New(t, append(script, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		h.send(callLine)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		for _, seen := range srv.Seen() {
			if seen == "POST tools/call" {
				t.Error("the call went before initialized was accepted")
			}
		}
		h.want(callAnswer)
		h.close()
	})
}

// The predecessor's deadline covered the headers only, so that a body could hang for ever; and
// after EOF it waited for calls in flight for minutes.
func TestWeakness08BodyThatStalls(t *testing.T) {
	stall := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, callAnswer[:20])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{Timeout: 30 * time.Second}, Exchange{Call: "tools/call", Handle: stall}, Exchange{Call: "notifications/cancelled"},
			Exchange{Call: "tools/call", Handle: stall}, Goodbye())
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "timeout" || time.Since(begin) != 30*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
		h.send(callLine)
		synctest.Wait()
		begin = time.Now()
		h.in.Close()
		if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
			t.Errorf("got %+v", a)
		}
		if err := h.close(); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("left after %v: %v", time.Since(begin), err)
		}
	})
}

// The predecessor corrupted characters cut by a chunk, and never sent the negotiated version.
func TestWeakness07CharactersAndVersion(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":7,"result":"é€😀"}`
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Header: map[string]string{"Mcp-Protocol-Version": version}, Handle: bytewise("application/json", answer)}, Goodbye())
		h.send(callLine)
		h.want(answer)
		h.close()
	})
}

// The predecessor never answered a request whose reply was empty, HTML, a stream that ends early,
// or above 8 MB.
func TestWeakness06RepliesThatAreNoAnswer(t *testing.T) {
	large := `{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", 9<<20) + `"}`
	for _, tt := range []struct {
		name   string
		answer Exchange
		want   string // a part of the line
	}{
		{"empty", Exchange{Status: 200}, "without an answer"},
		{"HTML", Exchange{Type: "text/html", Reply: "<p>"}, "not JSON"},
		{"stream", Exchange{Handle: Events("data: " + changedLine)}, "ended without the answer"},
		{"9 MiB", Exchange{Reply: large}, large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.answer.Call = "tools/call"
				h, _ := open(t, Config{}, tt.answer, Goodbye())
				h.send(callLine)
				line := h.recv()
				if line == changedLine {
					line = h.recv()
				}
				if !strings.Contains(line, tt.want) || !strings.Contains(line, `"id":7`) {
					t.Errorf("got %.300s", line)
				}
				h.close()
			})
		})
	}
}

// Idle is for giving memory back: once after the beginning, and some time after the last large
// message either way, or after many.
func TestIdle(t *testing.T) {
	large := strings.Repeat("x", idleLoad)
	medium := `{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", idleLoad/8) + `"}`
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h, _ := open(t, Config{Idle: func() { calls.Add(1) }}, Exchange{Call: "ping", Reply: pingAnswer},
			Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":7,"result":"` + large + `"}`}, Exchange{Call: "tools/call", Reply: callAnswer},
			Exchange{Call: "tools/call", Reply: medium}, Exchange{Call: "tools/call", Reply: medium}, Exchange{Call: "tools/call", Reply: medium}, Exchange{Call: "tools/call", Reply: medium}, Goodbye())
		want := func(n int64) {
			t.Helper()
			time.Sleep(2 * idleAfter)
			synctest.Wait()
			if got := calls.Load(); got != n {
				t.Errorf("called %d times, want %d", got, n)
			}
		}
		want(1)
		h.send(pingLine)
		h.want(pingAnswer)
		want(1)
		h.send(callLine)
		h.recv()
		want(2)
		h.send(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":"` + large + `"}`)
		h.want(callAnswer)
		want(3)
		for range 4 { // each is counted when it has come and when it has gone
			h.send(callLine)
			h.recv()
		}
		want(4)
		h.close()
	})
}
