package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

const (
	signInURL   = "https://as.test/authorize?a=1&b=2"
	minimalHead = `{"jsonrpc":"2.0","id":0,"result":{"capabilities":{"prompts":{"listChanged":true},"resources":{"listChanged":true},"tools":{"listChanged":true}},"instructions":"`
	minimalTail = `","protocolVersion":"2025-11-25","serverInfo":{"name":"sallyport","version":"devel"}}}`
)

var signInNeeded = &Obstacle{Kind: KindSignIn, Text: "a sign-in waits for the person", URL: signInURL, Hints: []string{"open it"}}

// memory is a Config.Load and Save.
type memory struct {
	mu    sync.Mutex
	m     map[string]string
	saved []string // names
}

func (m *memory) load(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.m[name]; ok {
		return []byte(v), nil
	}
	return rememberLegacy(name)
}

func (m *memory) save(name string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m[name] = string(b)
	m.saved = append(m.saved, name)
	return nil
}

// after receives a line and wants it so long after begin.
func (h *host) after(begin time.Time, want time.Duration) string {
	h.t.Helper()
	line := h.recv()
	if got := time.Since(begin); got != want {
		h.t.Errorf("after %v, want %v: %s", got, want, line)
	}
	return line
}

func request7(method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q}`, method)
}

// A code that the person types in is shown with the link (RFC 8628).
func TestSignInWithACode(t *testing.T) {
	upstream := &url.URL{Scheme: "http", Host: "mcp.test", Path: "/mcp"}
	o := *signInNeeded
	if text := string(signInPending(upstream, &o)); strings.Contains(text, "code") {
		t.Errorf("without a code: %s", text)
	}
	o.Code = "WDJB-MJHT"
	if text := string(signInPending(upstream, &o)); !strings.Contains(text, "http://mcp.test/mcp with the code WDJB-MJHT,") || !strings.Contains(text, o.URL) {
		t.Errorf("with a code: %s", text)
	}
}

// A login takes three minutes, and the host gives up on anything that takes 30 s.
func TestWeakness02LoginDoesNotBlockInitialize(t *testing.T) {
	const initWithURL = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"url":{}}},"clientInfo":{"name":"h","version":"1"}}}`
	const signInCall = `{"jsonrpc":"2.0","id":"t","method":"tools/call","params":{"name":"sallyport_sign_in","_meta":{"progressToken":5}}}`
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(signInNeeded)
		script := Opening(version)
		script[0].Body = initWithURL
		script[0].Reply = strings.Replace(script[0].Reply, `"capabilities":{}`, `"capabilities":{"tools":{}}`, 1)
		srv := New(t, append(script, Exchange{Call: "tools/list", Reply: `{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}`},
			Exchange{Call: "tools/call", Body: callLine, Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		begin := time.Now()
		h.send(initWithURL)
		if line := h.after(begin, 3*time.Second); !strings.HasPrefix(line, minimalHead) || !strings.HasSuffix(line, minimalTail) {
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
		h.want(`{"jsonrpc":"2.0","id":7,"result":{"tools":[` + string(signInToolEntry) + `]}}`)
		for method, list := range map[string]string{"prompts/list": "prompts", "resources/list": "resources", "resources/templates/list": "resourceTemplates"} {
			h.send(request7(method))
			h.want(`{"jsonrpc":"2.0","id":7,"result":{"` + list + `":[]}}`)
		}
		begin = time.Now()
		h.send(signInCall)
		for _, at := range []int{3, 8, 13, 18, 23} {
			want := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"a sign-in waits for the person: %s","progress":%v,"progressToken":5}}`, signInURL, float64(at)/1000)
			if line := h.after(begin, time.Duration(at)*time.Second); line != want {
				t.Errorf("progress\n got %s\nwant %s", line, want)
			}
		}
		if line := h.after(begin, 25*time.Second); !strings.HasPrefix(line, `{"jsonrpc":"2.0","id":"t","result":{"content":[{"text":"`) || !strings.Contains(line, signInURL) {
			t.Errorf("the tool says %s", line)
		}
		begin = time.Now()
		h.send(callLine)
		if a := decode(t, h.after(begin, 25*time.Second)); a.Error.Data.Kind != KindSignIn || a.Error.Data.URL != signInURL || a.Error.Data.Hint != "open it" {
			t.Errorf("another call: %+v", a)
		}

		time.Sleep(2 * time.Minute)
		h.send(signInCall)
		h.send(callLine)
		synctest.Wait()
		b.set(nil)
		h.wantAll(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":`+id+`}}`, toolsChanged, callAnswer,
			`{"jsonrpc":"2.0","id":"t","result":{"content":[{"text":"http://mcp.test/mcp is connected. If its tools are not shown, list them again.","type":"text"}]}}`)
		h.send(request7("tools/list"))
		h.want(`{"jsonrpc":"2.0","id":7,"result":{"tools":[]}}`)
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
		b := newObstacle(signInNeeded)
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

const (
	lastSession = `{"protocolVersion":"2025-11-25", "capabilities":{"tools":{"x":1},"logging":{}},"serverInfo":{"name":"s","version":"9"},"n":1e400}`
	lastTools   = `[{"name":"add","n":1e400 ,"é":"\ud800"},{"name":"sub"}]`
)

func TestRememberedSession(t *testing.T) {
	const told = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25", "capabilities":{"tools":{"x":1,"listChanged":true},"logging":{}},` +
		`"serverInfo":{"name":"s","version":"9"},"n":1e400}}`
	const tools = `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"add","n":1e400 ,"é":"\ud800"},{"name":"sub"}`
	synctest.Test(t, func(t *testing.T) {
		m := &memory{m: map[string]string{memoryInitialize: lastSession, memoryTools: lastTools}}
		b := newObstacle(down)
		srv := New(t, append(Opening("2025-06-18"), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get, Load: m.load, Save: m.save})
		h.send(initLine)
		h.want(told)
		h.send(initializedLine)
		h.send(request7("tools/list")) // only the link is in the way
		h.want(tools + `]}}`)
		b.set(signInNeeded) // the link is up, the token is not good any more
		h.want(toolsChanged)
		h.send(request7("tools/list"))
		h.want(tools + `,` + string(signInToolEntry) + `]}}`)
		b.set(nil)
		h.want(toolsChanged)
		// The server speaks an older version today: the headers say so, as the script wants.
		h.close()
		if want := `{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"scripted","version":"1"}}`; m.m[memoryInitialize] != want {
			t.Errorf("remembered %s, want %s", m.m[memoryInitialize], want)
		}
	})
}

func TestRememberedVersionIsNoNewerThanAsked(t *testing.T) {
	for asked, want := range map[string]string{"2025-06-18": "2025-06-18", "2026-01-01": "2025-11-25", "": "2025-11-25"} {
		got := rawjson.MemberText(rememberedResult([]byte(lastSession), []byte(`{"protocolVersion":"`+asked+`"}`)), "protocolVersion")
		if got != want {
			t.Errorf("asked for %q: %q, want %q", asked, got, want)
		}
	}
}

// Damaged memory is none.
func TestDamagedMemory(t *testing.T) {
	for name, load := range map[string]func(string) ([]byte, error){
		"no JSON": func(string) ([]byte, error) { return []byte(`{"protocolVersion":`), nil },
		"error":   func(string) ([]byte, error) { return nil, errors.New("disk") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, Config{Send: gated{b: newObstacle(down)}, Obstacle: newObstacle(down).get, Load: load})
				h.send(initLine)
				if line := h.recv(); !strings.HasPrefix(line, minimalHead) {
					t.Errorf("got %s", line)
				}
				h.close()
			})
		})
	}
}

// The result of initialize and all pages of the tools are kept as they came, and not again where
// nothing changed.
func TestSessionIsRemembered(t *testing.T) {
	page := func(cursor string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{` + cursor + `}}`
	}
	synctest.Test(t, func(t *testing.T) {
		m := &memory{m: map[string]string{}}
		script := Opening(version)
		script[0].Reply = `{"jsonrpc":"2.0","id":0,"result":` + lastSession + `}`
		reply := func(result string) string { return `{"jsonrpc":"2.0","id":7,"result":` + result + `}` }
		for range 2 {
			script = append(script,
				Exchange{Call: "tools/list", Body: page(``), Reply: reply(`{"tools":[{"name":"add","n":1e400 ,"é":"\ud800"}],"nextCursor":"2"}`)},
				Exchange{Call: "tools/list", Body: page(`"cursor":"2"`), Reply: reply(`{"tools":[{"name":"sub"}]}`)})
		}
		script = append(script, Exchange{Call: "tools/list", Body: page(`"cursor":"9"`), Reply: reply(`{"tools":[{"name":"x"}]}`)})
		h := start(t, Config{Send: New(t, append(script, Goodbye())...).Transport(), Load: m.load, Save: m.save})
		h.open()
		for _, cursor := range []string{``, `"cursor":"2"`, ``, `"cursor":"2"`, `"cursor":"9"`} {
			h.send(page(cursor))
			h.recv()
			synctest.Wait()
		}
		h.close()
		if m.m[memoryInitialize] != lastSession || m.m[memoryTools] != `[{"name":"add","n":1e400 ,"é":"\ud800"},{"name":"sub"}]` {
			t.Errorf("remembered %q", m.m)
		}
		if want := []string{memoryInitialize, memoryTools}; !slices.Equal(m.saved, want) {
			t.Errorf("saved %q, want %q", m.saved, want)
		}
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

// A sign-in that nobody completed is begun again only when the host asks for something; one made
// elsewhere is noticed.
func TestSignInIsNotBegunAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var elsewhere atomic.Bool
		var asked atomic.Int32
		srv := New(t, append(Opening(version), Goodbye())...)
		next := srv.Transport()
		loud := roundTrip(func(r *http.Request) (*http.Response, error) {
			if elsewhere.Load() {
				return next.RoundTrip(r)
			}
			asked.Add(1)
			return nil, errors.New("nobody completed the login in time")
		})
		quiet := roundTrip(func(r *http.Request) (*http.Response, error) {
			if elsewhere.Load() {
				return next.RoundTrip(r)
			}
			return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}, nil
		})
		h := start(t, Config{Send: loud, Background: quiet, Explain: func(err error) Explanation { return Explanation{Kind: KindSignIn, Text: err.Error()} }})
		h.open()
		time.Sleep(time.Hour)
		if n := asked.Load(); n != 1 {
			t.Errorf("the person was asked %d times, want once", n)
		}
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != KindSignIn {
			t.Errorf("got %+v", a)
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("after a call the person was asked %d times, want 2", n)
		}
		elsewhere.Store(true)
		h.want(toolsChanged)
		h.close()
	})
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

// A new link is another elicitation; the old one is withdrawn. A late answer to that goes nowhere.
func TestEachLinkIsElicitedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.send(strings.Replace(initLine, `"capabilities":{}`, `"capabilities":{"elicitation":{"url":{},"form":{}}}`, 1))
		h.recv()
		h.send(initializedLine)
		synctest.Wait()
		b.set(signInNeeded)
		first := string(decode(t, h.recv()).ID)
		b.set(signInNeeded) // the same link: nothing new
		time.Sleep(time.Minute)
		other := *signInNeeded
		other.URL = "https://as.test/other"
		b.set(&other)
		h.want(string(cancelNotice([]byte(first), "the sign-in is over").Raw))
		h.want(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":` + first + `}}`)
		line := h.recv()
		second := string(decode(t, line).ID)
		if first == second || !strings.Contains(line, other.URL) {
			t.Errorf("the second elicitation is %s", line)
		}
		h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"cancel"}}`, first))
		h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"decline"}}`, second))
		synctest.Wait()
		b.set(nil)
		h.want(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":` + second + `}}`)
		h.close()
	})
}

// The host may do without the sign-in tool's answer, and use the name again when the server is
// there.
func TestSignInTool(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.open()
		h.send(call)
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		begin := time.Now()
		h.send(strings.Replace(call, "7", "8", 1))
		if a := decode(t, h.after(begin, 25*time.Second)); a.Error.Message != down.Text || string(a.ID) != "8" {
			t.Errorf("got %+v", a)
		}
		b.set(nil)
		h.want(toolsChanged)
		b.set(signInNeeded) // again, in mid-session
		h.send(call)
		time.Sleep(time.Second)
		b.set(nil)
		if line := h.recv(); !strings.Contains(line, "is connected") {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}

// What requests ask the person for may be held back; the tool's call is the person's own wish.
func TestSignInToolAsks(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		held := &Obstacle{Kind: KindSignIn, Text: "held back"}
		b := newObstacle(held)
		srv := New(t, append(Opening(version), Goodbye())...)
		wishes := make(chan error)
		h := start(t, Config{Send: gated{b, srv.Transport(), true}, SignIn: func(context.Context) error { return <-wishes },
			Explain: func(err error) Explanation { return Explanation{Kind: KindSignIn, Text: err.Error()} }})
		h.open()
		h.send(call)
		h.send(callLine) // its attempt is held back, which is no answer to the wish
		if a := decode(t, h.recv()); a.Error.Message != held.Text || string(a.ID) != "7" {
			t.Errorf("another call: %+v", a)
		}
		wishes <- errors.New("the person says no")
		if a := decode(t, h.recv()); a.Error.Message != "the person says no" || string(a.ID) != "8" {
			t.Errorf("the tool: %+v", a)
		}
		h.send(call)
		b.set(nil)
		wishes <- nil
		h.wantAll(toolsChanged, `{"jsonrpc":"2.0","id":8,"result":{"content":[{"text":"http://mcp.test/mcp is connected. If its tools are not shown, list them again.","type":"text"}]}}`)
		h.close()
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
				line := h.after(begin, 3*time.Second)
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
				if line := h.after(begin, 3*time.Second); !strings.HasPrefix(line, minimalHead) {
					t.Errorf("got %s", line)
				}
				h.close()
			})
		})
	}
}

// What server/discover was answered with is remembered for a modern host.
func TestDiscoveredIsRemembered(t *testing.T) {
	const result = `{"resultType":"complete","supportedVersions":["2026-07-28"], "capabilities":{},"n":1e400}`
	synctest.Test(t, func(t *testing.T) {
		m := &memory{m: map[string]string{memoryEra: string(modernEra)}}
		h := start(t, Config{Send: New(t, Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":1,"result":` + result + `}`}).Transport(), Load: m.load, Save: m.save})
		h.send(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`)
		h.recv()
		h.close()
		if m.m[memoryDiscover] != result {
			t.Errorf("remembered %q", m.m)
		}
	})
}

// A sign-in in mid-session holds up the call that needs it, and a session that the server has
// forgotten is renewed: the host sees neither. The session is ended upstream.
func TestWeakness05SignInAndNewSessionInMidSession(t *testing.T) {
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

// The limit of a call covers the body of its answer, and the end of the host's input waits for no
// call.
func TestWeakness08LimitCoversTheBody(t *testing.T) {
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
