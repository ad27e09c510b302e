package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

const (
	signInURL   = "https://as.test/authorize?a=1&b=2"
	minimalHead = `{"jsonrpc":"2.0","id":0,"result":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true},"tools":{"listChanged":true}},"instructions":"`
	minimalTail = `","protocolVersion":"2025-11-25","serverInfo":{"name":"sallyport","version":"devel"}}}`
)

var signInNeeded = &Obstacle{Kind: KindSignIn, Text: "a sign-in waits for the person", URL: signInURL, Hints: []string{"open " + signInURL}}

// after receives a line and wants it so long after begin.
func (h *host) after(begin time.Time, want time.Duration) string {
	h.t.Helper()
	line := h.recv()
	if got := time.Since(begin); got != want {
		h.t.Errorf("after %v, want %v: %s", got, want, line)
	}
	return line
}

// connectedAnswer is the answer of the sign-in tool to a host that has the server's tools.
func connectedAnswer(id string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":{"content":[{"text":"http://mcp.test/mcp is connected. ` +
		`Its tools are in your list of tools: call them by their own names.","type":"text"}]}}`
}

func request7(method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q}`, method)
}

// A login takes three minutes, and the host gives up on anything that takes 30 s.
func TestSignInDoesNotHoldUpInitialize(t *testing.T) {
	const initWithURL = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"url":{}}},"clientInfo":{"name":"h","version":"1"}}}`
	const signInCall = `{"jsonrpc":"2.0","id":"t","method":"tools/call","params":{"name":"sallyport_sign_in","_meta":{"progressToken":5}}}`
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(signInNeeded)
		script := Opening(version)
		script[0].Body = initWithURL
		script[0].Reply = strings.Replace(script[0].Reply, `"capabilities":{}`, `"capabilities":{"tools":{}}`, 1)
		srv := New(t, append(script, Exchange{Call: "tools/list", Reply: `{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}`},
			Exchange{Call: "tools/call", Body: callLine, Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get,
			Stage: func() string { return "waiting for the browser" }})
		begin := time.Now()
		h.send(initWithURL)
		if line := h.after(begin, 0); !strings.HasPrefix(line, minimalHead) || !strings.HasSuffix(line, minimalTail) {
			t.Errorf("initialize: %s", line)
		}
		h.send(initializedLine)
		ask := h.after(begin, 3*time.Second)
		id := string(decode(t, ask).ID)
		if want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"elicitation/create","params":{"elicitationId":%s,"message":"Sign in to http://mcp.test/mcp","mode":"url","url":%q}}`, id, id, signInURL); ask != want {
			t.Errorf("elicitation\n got %s\nwant %s", ask, want)
		}
		h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"accept"}}`, id))

		h.send(request7("ping"))
		h.want(`{"jsonrpc":"2.0","id":7,"result":{}}`)
		h.send(request7("tools/list"))
		h.want(`{"jsonrpc":"2.0","id":7,"result":{"tools":[` + string(signInToolEntry()) + `,` + string(callToolEntry()) + `]}}`)
		for method, list := range map[string]string{"prompts/list": "prompts", "resources/list": "resources", "resources/templates/list": "resourceTemplates"} {
			h.send(request7(method))
			h.want(`{"jsonrpc":"2.0","id":7,"result":{"` + list + `":[]}}`)
		}
		begin = time.Now()
		h.send(signInCall)
		for _, at := range []int{0, 5, 10, 15, 20} {
			want := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"a sign-in waits for the person (waiting for the browser): %s","progress":%v,"progressToken":5}}`, signInURL, float64(at)/1000)
			if line := h.after(begin, time.Duration(at)*time.Second); line != want {
				t.Errorf("progress\n got %s\nwant %s", line, want)
			}
		}
		if line := h.after(begin, 25*time.Second); !strings.HasPrefix(line, `{"jsonrpc":"2.0","id":"t","result":{"content":[{"text":"`) || !strings.Contains(line, signInURL) {
			t.Errorf("the tool says %s", line)
		}
		begin = time.Now()
		h.send(callLine)
		if a := decode(t, h.after(begin, 25*time.Second)); a.Error.Data.Kind != KindSignIn || a.Error.Data.URL != signInURL || a.Error.Data.Hint != "open "+signInURL+"\nwhen that is done, repeat the request" {
			t.Errorf("another call: %+v", a)
		}

		time.Sleep(2 * time.Minute)
		h.send(signInCall)
		h.recv() // progress
		h.send(callLine)
		synctest.Wait()
		b.set(nil)
		h.wantAll(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":`+id+`}}`, toolsChanged, callAnswer)
		h.send(request7("tools/list"))
		h.want(`{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}`)
		h.want(connectedAnswer(`"t"`))
		h.send(request7("prompts/list")) // which the server does not have
		h.want(`{"jsonrpc":"2.0","id":7,"result":{"prompts":[]}}`)
		h.close()
		want := []string{"POST initialize", "POST notifications/initialized", "GET", "POST tools/call", "POST tools/list", "DELETE"}
		if got := srv.Seen(); !slices.Equal(got, want) {
			t.Errorf("upstream saw %q, want %q", got, want)
		}
	})
}

// What the host sends before the server is reached waits, and what has an order keeps it.
func TestNothingIsLostBeforeTheServerIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		const roots = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
		srv := New(t, append(Opening(version), Exchange{Call: "notifications/roots/list_changed", Body: roots}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), true}, Obstacle: b.get})
		h.open()
		h.send(roots)
		h.send(callLine)
		time.Sleep(20 * time.Second)
		b.set(nil)
		h.wantAll(toolsChanged, callAnswer)
		h.close()
		got := srv.Seen()
		slices.Sort(got[3:5]) // a call and a notification have no order
		want := []string{"POST initialize", "POST notifications/initialized", "GET", "POST notifications/roots/list_changed", "POST tools/call", "DELETE"}
		if !slices.Equal(got, want) {
			t.Errorf("upstream saw %q, want %q", got, want)
		}
	})
}

func TestPendingForAMomentShowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		script := Opening(version)
		srv := New(t, append(script, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.send(strings.Replace(initLine, `"capabilities":{}`, `"capabilities":{"elicitation":{"url":{}}}`, 1))
		time.Sleep(2999 * time.Millisecond)
		b.set(nil)
		h.want(script[0].Reply)
		h.send(initializedLine)
		synctest.Wait()
		b.set(signInNeeded) // in mid-session
		h.send(strings.Replace(callLine, `"x"`, `"x","_meta":{"progressToken":1}`, 1))
		time.Sleep(2999 * time.Millisecond)
		b.set(nil)
		h.want(callAnswer)
		h.close()
	})
}

// A server that is slow, with nothing in the way, is told of too.
func TestSlowServerIsAnsweredFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		reply := script[0].Reply
		script[0].Handle = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(30 * time.Second)
			w.Header().Set("Mcp-Session-Id", "s1")
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, reply)
		}
		h := start(t, Config{Send: New(t, append(script, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...).Transport()})
		begin := time.Now()
		h.open()
		h.send(callLine)
		if a := decode(t, h.after(begin, 28*time.Second)); a.Error.Data.Kind != "timeout" || !strings.Contains(a.Error.Message, "no answer yet") {
			t.Errorf("got %+v", a)
		}
		h.send(callLine)
		h.wantAll(toolsChanged, callAnswer)
		h.close()
	})
}

// An upstream that cannot be reached is tried again and again, each call tries once and says what
// is missing, and the first that gets through finds a whole session.
func TestUnreachableUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		var tries atomic.Int32
		script := Opening(version)
		srv := New(t, append(append([]Exchange{{Call: "initialize", Status: 503}, {Call: "initialize", Status: 503}}, script...),
			Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		next := srv.Transport()
		var log bytes.Buffer
		send := roundTrip(func(r *http.Request) (*http.Response, error) {
			if tries.Add(1); !up.Load() {
				return nil, errors.New("connection refused")
			}
			return next.RoundTrip(r)
		})
		h := start(t, Config{Send: send, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		h.open()
		before := tries.Load()
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.after(begin, 0)); a.Error.Message != "connection refused" || tries.Load() != before+1 {
			t.Errorf("after %d tries: %+v", tries.Load()-before, a)
		}
		time.Sleep(10 * time.Minute)
		if n := tries.Load() - before; n > 60 {
			t.Errorf("%d tries in 10 minutes", n)
		}
		up.Store(true)
		for range 2 {
			h.send(callLine) // meets a 503
			if a := decode(t, h.recv()); a.Error.Code != -32001 || a.Error.Data.Status != 503 {
				t.Errorf("got %+v", a)
			}
		}
		h.send(callLine)
		h.wantAll(toolsChanged, callAnswer)
		h.close()
		if n := strings.Count(log.String(), `msg="no session yet" upstream=http://mcp.test/mcp status=503`); n != 1 {
			t.Errorf("the 503 was told %d times:\n%s", n, &log)
		}
	})
}

// The server's error goes to the host as it is, or, after an early answer, to its calls.
func TestServerRefusesTheSession(t *testing.T) {
	const refusal = `{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no \"such\" version","data":1e400}}`
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script := []Exchange{{Call: "initialize", Repeat: true, Reply: refusal}}
				b := newObstacle(down)
				h := start(t, Config{Send: gated{b, New(t, script...).Transport(), false}, Obstacle: b.get})
				if !late {
					b.set(nil)
					h.send(initLine)
					h.want(refusal)
					h.close()
					return
				}
				h.open()
				b.set(nil)
				h.send(callLine)
				if a := decode(t, h.recv()); a.Error.Data.Kind != "initialize" || !strings.HasSuffix(a.Error.Message, `no "such" version`) {
					t.Errorf("got %+v", a)
				}
				h.close()
			})
		})
	}
}

// A final obstacle that shows itself after the early answer is told to what is asked next, and ends
// the session.
func TestFinalObstacleAfterAnEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		final := errors.New("login refused")
		b := newObstacle(signInNeeded)
		h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
		h.open()
		h.send(callLine)
		synctest.Wait()
		b.set(&Obstacle{Kind: "sign_in_refused", Text: "login refused", Hints: []string{"log in"}, Final: final})
		if a := decode(t, h.recv()); a.Error.Data.Kind != "sign_in_refused" || a.Error.Data.Hint != "log in" {
			t.Errorf("got %+v", a)
		}
		if err := <-h.result; err != final {
			t.Errorf("Run: %v", err)
		}
	})
}

// A batch of a 2025-03-26 host gets one answer, whoever gives its parts.
func TestBatchBeforeTheServerIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		h := start(t, Config{Send: gated{b: b}, Obstacle: b.get})
		h.open()
		h.send("[" + pingLine + "," + request7("prompts/list") + "]")
		h.want("[" + pingAnswer + `,{"jsonrpc":"2.0","id":7,"result":{"prompts":[]}}]`)
		h.close()
	})
}

// A host that knows both wires asks by the modern one first, and is sent to initialize while
// nothing is known of the server.
func TestDiscoverBeforeTheServerIsReached(t *testing.T) {
	const discover = `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`
	for _, result := range []string{"", `{"supportedVersions":["2026-07-28"], "capabilities":{}}`} {
		t.Run(result, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{m: map[string]string{memoryEra: string(modernEra)}}
				if result != "" {
					m.m[memoryDiscover] = result
				}
				b := newObstacle(signInNeeded)
				h := start(t, Config{Send: gated{b: b}, Obstacle: b.get, Load: m.load})
				begin := time.Now()
				h.send(discover)
				line := h.after(begin, 0) // a person is needed, which takes longer than any host waits
				if result != "" {
					if want := `{"jsonrpc":"2.0","id":1,"result":` + result + `}`; line != want {
						t.Errorf("got %s, want %s", line, want)
					}
					h.close()
					return
				}
				if a := decode(t, line); a.Error.Code != -32000 || a.Error.Data.URL != signInURL {
					t.Errorf("got %s", line)
				}
				h.send(initLine)
				if line := h.after(begin, 0); !strings.HasPrefix(line, minimalHead) {
					t.Errorf("got %s", line)
				}
				h.close()
			})
		})
	}
}

// What may still pass is waited for. As soon as a person is needed, the host has its answer.
func TestInitializeIsAnsweredWhenAPersonIsNeeded(t *testing.T) {
	locked := &Obstacle{Kind: "ssh_needs_person", Text: "hop bastion: the key is locked", Person: true}
	for _, tt := range []struct {
		name         string
		first, later *Obstacle
		after, want  time.Duration
	}{
		{"nothing but time", down, down, time.Second, 3 * time.Second},
		{"a sign-in after a while", down, signInNeeded, 400 * time.Millisecond, 400 * time.Millisecond},
		{"a page that is held back", nil, &Obstacle{Kind: KindSignIn, Text: "later"}, 300 * time.Millisecond, 300 * time.Millisecond},
		{"a locked key", down, locked, 200 * time.Millisecond, 200 * time.Millisecond},
		{"something else that may pass", nil, down, time.Second, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newObstacle(tt.first)
				hang := roundTrip(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				})
				h := start(t, Config{Send: hang, Obstacle: b.get})
				begin := time.Now()
				h.send(initLine)
				time.Sleep(tt.after)
				b.set(tt.later)
				h.after(begin, tt.want)
				h.close()
			})
		})
	}
}

// A host that asks for its lists before it has the answer to initialize gets them with it.
func TestListsAskedBeforeTheEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		h := start(t, Config{Send: gated{b: b}, Obstacle: b.get})
		begin := time.Now()
		h.send(initLine)
		h.send(initializedLine)
		h.send(request7("tools/list"))
		if line := h.after(begin, 3*time.Second); !strings.HasPrefix(line, minimalHead) {
			t.Errorf("got %s", line)
		}
		if line := h.after(begin, 3*time.Second); !strings.Contains(line, `"id":7,"result"`) || !strings.Contains(line, signInTool) {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}
