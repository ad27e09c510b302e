package relay

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

const (
	callLine   = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}`
	callAnswer = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
	pingLine   = `{"jsonrpc":"2.0","id":"p","method":"ping"}`
	pingAnswer = `{"jsonrpc":"2.0","id":"p","result":{}}`
)

// answerLine is an error answer as the host sees it.
type answerLine struct {
	ID    json.RawMessage `json:"id"`
	Error struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Kind, Hint, URL, Body string
			Hints                 []string
			Status                int
		}
	}
}

func decode(t *testing.T, line string) answerLine {
	t.Helper()
	var a answerLine
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return a
}

// Whatever the upstream does to one call, the call is answered once and the session goes on.
func TestFaults(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte(callAnswer))
	z.Close()
	tests := []struct {
		name   string
		answer Exchange
		code   int    // 0: callAnswer comes as it is
		kind   string // of the error
		status int
		text   string // a part of the error's line
	}{
		{"nothing but 200", Exchange{Status: 200}, -32000, "bad_answer", 200, "without an answer"},
		{"202", Exchange{}, -32000, "bad_answer", 202, "without an answer"},
		{"204", Exchange{Status: 204}, -32000, "bad_answer", 204, "without an answer"},
		{"HTML", Exchange{Type: "text/html", Reply: "<p>Hello secret-1</p>"}, -32000, "bad_answer", 200, "<p>Hello ***</p>"},
		{"answer of the wrong type", Exchange{Type: "text/plain", Reply: callAnswer}, 0, "", 0, ""},
		{"wrong id", Exchange{Reply: `{"jsonrpc":"2.0","id":8,"result":{}}`}, -32000, "bad_answer", 200, "no answer to this request"},
		{"null id", Exchange{Reply: `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}`}, -32000, "bad_answer", 200, ""},
		{"id as a string", Exchange{Reply: `{"jsonrpc":"2.0","id":"7","result":{}}`}, -32000, "bad_answer", 200, ""},
		{"neither result nor error", Exchange{Reply: `{"jsonrpc":"2.0","id":7}`}, -32000, "bad_answer", 200, ""},
		{"array of one", Exchange{Reply: "[" + callAnswer + "]"}, 0, "", 0, ""},
		{"duplicate answer", Exchange{Handle: Events("data: "+callAnswer, "data: "+callAnswer)}, 0, "", 0, ""},
		{"stream with another answer first", Exchange{Handle: Events(`data: {"jsonrpc":"2.0","id":9,"result":1}`, "data: "+callAnswer)}, 0, "", 0, ""},
		{"stream ends early", Exchange{Handle: Events(": hello")}, -32000, "bad_answer", 0, "ended without the answer"},
		{"stream cut inside the answer", Exchange{Handle: Cut("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"jso")}, -32000, "bad_answer", 0, ""},
		{"half a JSON", Exchange{Reply: callAnswer[:20]}, -32000, "bad_answer", 200, "not JSON at byte 20"},
		{"body shorter than said", Exchange{Handle: Cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"jso")}, -32000, "unreachable", 0, "broke off"},
		{"control character in a string", Exchange{Reply: "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"a\x01\"}"}, -32000, "bad_answer", 200, "control character"},
		{"bad JSON in an event", Exchange{Handle: Events("data: {]")}, -32000, "bad_answer", 0, "an event of the answer is not JSON"},
		{"too large", Exchange{Handle: Cut(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", maxMessage+1))}, -32000, "too_large", 0, "64 MiB"},
		{"gzip", Exchange{Set: map[string]string{"Content-Encoding": "gzip"}, Reply: zipped.String()}, 0, "", 0, ""},
		{"no HTTP at all", Exchange{Handle: Cut("SSH-2.0-x\r\n")}, -32000, "unreachable", 0, "may have run"},
		{"connection closed", Exchange{Handle: Cut("")}, -32000, "unreachable", 0, "may have run"},
		{"redirect to another origin", Exchange{Status: 307, Set: map[string]string{"Location": "http://evil.test/mcp?x=secret-1"}}, -32001, "redirect", 307, `\"http://evil.test/mcp\"`},
		{"redirect that changes the method", Exchange{Status: 302, Set: map[string]string{"Location": "/other"}}, -32001, "redirect", 302, "/other"},
		{"401", Exchange{Status: 401}, -32001, "status", 401, "sign in again"},
		{"413", Exchange{Status: 413, Type: "text/plain", Reply: "large"}, -32001, "status", 413, "large"},
		{"429", Exchange{Status: 429, Set: map[string]string{"Retry-After": "7"}}, -32001, "status", 429, "ask again in 7 s"},
		{"500", Exchange{Status: 500, Type: "text/plain", Reply: strings.Repeat("é", 600)}, -32001, "status", 500, strings.Repeat("é", 500) + `"`},
		{"503 that is the answer", Exchange{Status: 503, Reply: callAnswer}, 0, "", 0, ""},
		{"400 with another's answer", Exchange{Status: 400, Reply: `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"m"}}`}, -32001, "status", 400, `\"message\":\"m\"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.answer.Call = "tools/call"
				mask := func(s string) string { return strings.ReplaceAll(s, "secret-1", "***") }
				h, _ := open(t, Config{Mask: mask}, tt.answer, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
				h.send(callLine)
				line := h.recv()
				if tt.code == 0 {
					if line != callAnswer {
						t.Errorf("got %s", line)
					}
				} else {
					a := decode(t, line)
					if string(a.ID) != "7" || a.Error.Code != tt.code || a.Error.Data.Kind != tt.kind || a.Error.Data.Status != tt.status ||
						!strings.Contains(line, tt.text) || a.Error.Message == "" {
						t.Errorf("got %s\nwant code %d kind %q status %d text %q", line, tt.code, tt.kind, tt.status, tt.text)
					}
					if strings.Contains(line, "secret-1") {
						t.Errorf("secret in %s", line)
					}
				}
				h.send(pingLine)
				h.want(pingAnswer)
				if err := h.close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRedirectSameOriginKeepsMethodAndBody(t *testing.T) {
	for _, status := range []int{307, 308} {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{},
				Exchange{Call: "tools/call", Path: "/mcp", Status: status, Set: map[string]string{"Location": "/mcp/?a=b"}},
				Exchange{Call: "tools/call", Path: "/mcp/", Body: callLine, Header: map[string]string{"Mcp-Session-Id": "s1"}, Reply: callAnswer}, Goodbye())
			h.send(callLine)
			h.want(callAnswer)
			h.close()
		})
	}
}

func TestRedirectLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, srv := open(t, Config{}, Exchange{Call: "tools/call", Repeat: true, Status: 307, Set: map[string]string{"Location": "/mcp"}}, Goodbye())
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "redirect" {
			t.Errorf("got %+v", a)
		}
		h.close()
		if got, want := strings.Count(strings.Join(srv.Seen(), "\n"), "tools/call"), maxRedirects+1; got != want {
			t.Errorf("%d requests, want %d", got, want)
		}
	})
}

// What the host sends wrong is answered, and the session goes on.
func TestHostFaults(t *testing.T) {
	tests := []struct {
		name, line, id string
		code           int
	}{
		{"not JSON", `{"jsonrpc":"2.0",`, "null", -32700},
		{"control character", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\x01\"}", "null", -32700},
		{"no message", `{"jsonrpc":"2.0"}`, "null", -32600},
		{"a number", `12`, "null", -32600},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, "null", -32600},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, "null", -32600},
		{"empty batch", `[]`, "null", -32600},
		{"too long", `{"jsonrpc":"2.0","method":"tools/call","params":{"a":"` + strings.Repeat("x", maxMessage) + `"},"id":"big\u0041"}`, `"big\u0041"`, -32600},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := open(t, Config{}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
				h.send(tt.line)
				line := h.recv()
				if a := decode(t, line); a.Error.Code != tt.code || !strings.Contains(line, `"id":`+tt.id+`,`) {
					t.Errorf("got %s", line)
				}
				h.send(pingLine)
				h.want(pingAnswer)
				h.close()
			})
		})
	}
}

func TestDiscoverBeforeInitializeIsRefusedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.send(`{"jsonrpc":"2.0","id":1,"method":"server/discover"}`)
		if a := decode(t, h.recv()); a.Error.Code != -32601 {
			t.Errorf("got %+v", a)
		}
		h.open()
		h.close()
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Repeat: true, Handle: Hold}, Goodbye())
		for i := range maxCalls {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{}}`, 100+i))
		}
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "busy" || string(a.ID) != "7" {
			t.Errorf("got %+v", a)
		}
		h.in.Close()
		for range maxCalls {
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

// A hint is ours and may hold the sign-in link, which a person must be able to use; text and body
// may be the upstream's.
func TestHintsAreNotMasked(t *testing.T) {
	link := "https://as.test/authorize?state=s3cret&scope=" + strings.Repeat("a+", maxText)
	o := &Obstacle{Kind: KindSignIn, Text: "a person is to sign in (s3cret)", URL: link, Hints: []string{"open this link:\n" + link}}
	f := o.fault()
	f.body = "s3cret"
	a := decode(t, string(f.line([]byte("1"), func(s string) string { return strings.ReplaceAll(s, "s3cret", "***") })))
	if d := a.Error.Data; d.URL != link || d.Hint != "open this link: "+link || len(d.Hints) != 1 || d.Hints[0] != d.Hint {
		t.Errorf("hint %q, hints %q, url %q", d.Hint, d.Hints, d.URL)
	}
	if d := a.Error.Data; a.Error.Message != "a person is to sign in (***)" || d.Body != "***" {
		t.Errorf("message %q, body %q", a.Error.Message, d.Body)
	}
}

// A name that the host makes up is cut in the log.
func TestLogCutsMethods(t *testing.T) {
	var log bytes.Buffer
	s := newSession(t.Context(), Config{Log: slog.New(slog.NewTextHandler(&log, nil)), URL: mustURL(URL)})
	s.calls.close()
	s.reader.notification(rawjson.Message{Kind: rawjson.Notification, Method: strings.Repeat("x", 1000)})
	if got := strings.Count(log.String(), "x"); got != 64 {
		t.Errorf("%d characters of the method in %.200s", got, log.String())
	}
}

// A 308 is followed once for a session; a new session starts at the configured URL again. A 307
// holds for one request only.
func TestPermanentRedirectIsRemembered(t *testing.T) {
	at := func(path string, list ...Exchange) []Exchange {
		for i := range list {
			list[i].Path = path
		}
		return list
	}
	to := func(status int, path, call string) Exchange {
		return Exchange{Call: call, Path: path, Status: status, Set: map[string]string{"Location": "/new"}}
	}
	synctest.Test(t, func(t *testing.T) {
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		again[1].Header, again[2].Header = nil, nil
		script := append([]Exchange{to(308, "/mcp", "initialize")}, at("/new", Opening(version)...)...)
		script = append(script, Exchange{Call: "tools/call", Path: "/new", Status: 404})
		// Now it leads nowhere, but for one call.
		script = append(script, at("/mcp", again...)...)
		script = append(script, to(307, "/mcp", "tools/call"), Exchange{Call: "tools/call", Path: "/new", Reply: callAnswer},
			Exchange{Call: "ping", Path: "/mcp", Reply: pingAnswer}, Exchange{Method: "DELETE", Path: "/mcp"})
		h := start(t, Config{Send: New(t, script...).Transport()})
		h.open()
		h.send(callLine)
		h.want(callAnswer)
		h.send(pingLine)
		h.want(pingAnswer)
		h.close()
	})
}
