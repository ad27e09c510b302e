package relay

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

const (
	signInCall8 = `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	echoTool    = `{"name":"echo","title":"T","description":"Says \u003cit\u003e.","inputSchema":{"n": 1e400},"outputSchema":{}}`
)

// toolsExchange answers a tools/list of any id with a raw array of tools.
func toolsExchange(tools string) Exchange {
	return Exchange{Call: "tools/list", Handle: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(resultLine(rawjson.Member(body, "id"), []byte(`{"tools":`+tools+`}`)))
	}}
}

// withTools is the usual opening, of a server that has tools.
func withTools() []Exchange {
	script := Opening(version)
	script[0].Reply = strings.Replace(script[0].Reply, `"capabilities":{}`, `"capabilities":{"tools":{"listChanged":true}}`, 1)
	return script
}

// signedIn runs f with a host whose call of the sign-in tool waits, with the id 8, for a sign-in
// that has come just now. The host was told that the tools have changed.
func signedIn(t *testing.T, cfg Config, script []Exchange, f func(h *host, begin time.Time)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(signInNeeded)
		srv := New(t, append(append(withTools(), script...), Goodbye())...)
		cfg.Send, cfg.Obstacle = gated{b, srv.Transport(), false}, b.get
		h := start(t, cfg)
		h.open()
		h.send(signInCall8)
		if line := h.recv(); !strings.HasPrefix(line, `{"jsonrpc":"2.0","id":8,"result":{"content":[{"text":"`+signInURL+`\n`) {
			t.Errorf("the first call: %s", line)
		}
		h.send(signInCall8)
		synctest.Wait()
		time.Sleep(20 * time.Second)
		b.set(nil)
		h.want(toolsChanged)
		f(h, time.Now())
		h.close()
	})
}

// A host that lists at once has the tools before the sign-in tool is answered, and the tool that
// calls others is gone then.
func TestHostThatListsAtOnce(t *testing.T) {
	const reply = `{"jsonrpc":"2.0","id":9,"result":{"tools":[` + echoTool + `]}}`
	signedIn(t, Config{}, []Exchange{{Call: "tools/list", Reply: reply}}, func(h *host, begin time.Time) {
		h.send(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
		h.want(reply)
		if got, want := h.after(begin, relistSettle), connectedAnswer("8"); got != want {
			h.t.Errorf("got %s, want %s", got, want)
		}
		h.send(`{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"sallyport_call_tool","arguments":{"name":"echo"}}}`)
		if a := decode(h.t, h.recv()); a.Error.Data.Kind != "reserved_tool" || !strings.Contains(a.Error.Data.Hint, "by its own name") {
			h.t.Errorf("got %+v", a)
		}
	})
}

// A slow host is waited for, to the last page of the list.
func TestHostThatListsSlowly(t *testing.T) {
	pages := func(id int, next string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"tools":[%s]%s}}`, id, echoTool, next)
	}
	script := []Exchange{{Call: "tools/list", Reply: pages(9, `,"nextCursor":"2"`)}, {Call: "tools/list", Reply: pages(10, "")}}
	signedIn(t, Config{}, script, func(h *host, begin time.Time) {
		time.Sleep(relistBegin - 10*time.Millisecond)
		h.send(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
		h.want(script[0].Reply)
		time.Sleep(4 * time.Second)
		h.send(`{"jsonrpc":"2.0","id":10,"method":"tools/list","params":{"cursor":"2"}}`)
		h.want(script[1].Reply)
		if got, want := h.recv(), connectedAnswer("8"); got != want {
			h.t.Errorf("got %s, want %s", got, want)
		}
	})
}

// A host that begins to list and never ends it is waited for, but not for ever.
func TestHostThatListsHalf(t *testing.T) {
	first := Exchange{Call: "tools/list", Reply: `{"jsonrpc":"2.0","id":9,"result":{"tools":[],"nextCursor":"2"}}`}
	signedIn(t, Config{}, []Exchange{first, toolsExchange(`[]`)}, func(h *host, begin time.Time) {
		h.send(`{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
		h.want(first.Reply)
		if line := h.after(begin, relistEnd); !strings.Contains(line, "may not be in your list") {
			h.t.Errorf("got %s", line)
		}
	})
}

// A host that never lists again gets the tools from the sign-in tool, and calls them by the other
// one. It is waited for once. Of the call only the name changes, and what belongs to it: the id,
// _meta, progress, a cancellation and a structured result are those of any call.
func TestHostThatNeverListsAgain(t *testing.T) {
	const all = `[{"name":"sallyport_call_tool"},` + echoTool + `,{"name":"rm","description":"d"}]`
	const call = `{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"_meta":{"progressToken":1e0,"x": [1]},"name":"sallyport_call_tool","arguments":{"arguments":{"n": 1e400},"name":"ec\u0068o"},"task":{}}}`
	const sent = `{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"ec\u0068o","arguments":{"n": 1e400},"_meta":{"progressToken":1e0,"x": [1]},"task":{}}}`
	const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1e0,"progress":1}}`
	const answer = `{"jsonrpc":"2.0","id":10,"result":{"content":[],"structuredContent":{"n":18446744073709551617}}}`
	running := make(chan struct{})
	script := []Exchange{toolsExchange(all), toolsExchange(all),
		{Call: "tools/call", Body: sent, Handle: Events("data: "+progress, "data: "+answer)},
		{Call: "tools/call", Handle: func(_ http.ResponseWriter, r *http.Request) { close(running); <-r.Context().Done() }},
		{Call: "notifications/cancelled", Body: `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":10}}`}}
	signedIn(t, Config{IgnoreTools: []string{"r*"}}, script, func(h *host, begin time.Time) {
		line := h.after(begin, relistBegin)
		text := rawjson.MemberText([]byte(line), "result", "content") // no text: it is an array
		for element := range rawjson.Elements(rawjson.Member([]byte(line), "result", "content")) {
			text = rawjson.MemberText(element, "text")
		}
		head, tools, _ := strings.Cut(text, "\n\n")
		if want := `{"name":"echo","description":"Says \u003cit\u003e.","inputSchema":{"n": 1e400}}` + "\n"; tools != want || !strings.Contains(head, "sallyport_call_tool") {
			h.t.Errorf("got %q, want %q after %q", tools, want, head)
		}
		h.send(signInCall8)
		if again := h.after(begin, relistBegin); again != line {
			h.t.Errorf("again: %s", again)
		}
		h.send(call)
		h.want(progress)
		h.want(answer)
		for arguments, kind := range map[string]string{`{"name":"RM"}`: "ignored_tool", `{"name":"sallyport_sign_in"}`: "reserved_tool", `{"name":"sallyport_call_tool"}`: "reserved_tool",
			`{"name":"Sallyport-x"}`: "reserved_tool", `{}`: "invalid_request", `{"name":7}`: "invalid_request", `[]`: "invalid_request", `{"name":"echo","arguments":[]}`: "invalid_request"} {
			h.send(`{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{"name":"sallyport_call_tool","arguments":` + arguments + `}}`)
			if a := decode(h.t, h.recv()); a.Error.Code != codeParams || a.Error.Data.Kind != kind {
				h.t.Errorf("%s: got %+v, want %s", arguments, a, kind)
			}
		}
		h.send(call)
		<-running
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":10}}`)
		synctest.Wait()
	})
}

// What the server's list cannot be read for is said, and read again.
func TestToolsThatCannotBeRead(t *testing.T) {
	refusal := Exchange{Call: "tools/list", Status: 500}
	signedIn(t, Config{}, []Exchange{refusal, toolsExchange(`[` + echoTool + `]`)}, func(h *host, begin time.Time) {
		if line := h.recv(); !strings.Contains(line, "could not be read: upstream answered with status 500") {
			h.t.Errorf("got %s", line)
		}
		h.send(signInCall8)
		if line := h.recv(); !strings.Contains(line, `\"name\":\"echo\"`) {
			h.t.Errorf("got %s", line)
		}
	})
}

// A list that nobody could keep is not kept.
func TestToolsThatAreTooLong(t *testing.T) {
	huge := `[{"name":"a","description":"` + strings.Repeat("x", maxMemory) + `"}]`
	signedIn(t, Config{}, []Exchange{toolsExchange(huge)}, func(h *host, begin time.Time) {
		if line := h.recv(); !strings.Contains(line, "could not be read: it is too long.") || len(line) > 1000 {
			h.t.Errorf("got %.1000s", line)
		}
	})
}

// The host may do without the sign-in tool's answer while its tools are read.
func TestSignInToolCancelledWhileListing(t *testing.T) {
	hang := Exchange{Call: "tools/list", Handle: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	cancel := Exchange{Call: "notifications/cancelled", Repeat: true}
	signedIn(t, Config{}, []Exchange{hang, cancel}, func(h *host, begin time.Time) {
		time.Sleep(relistBegin + time.Second)
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}`)
		synctest.Wait()
	})
}

// A call by the other tool that comes before the sign-in waits for that, as any call does. A person
// who hides the tool has none.
func TestCallToolBeforeTheServerIsReached(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_call_tool","arguments":{"name":"x"}}}`
	for _, hidden := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(signInNeeded)
			script := withTools()
			cfg := Config{Obstacle: b.get, IgnoreTools: []string{"nothing"}}
			if hidden {
				cfg.IgnoreTools = []string{"*_call_tool"}
			} else {
				script = append(script, Exchange{Call: "tools/call", Body: callLine, Reply: callAnswer})
			}
			cfg.Send = gated{b, New(t, append(script, Goodbye())...).Transport(), false}
			h := start(t, cfg)
			h.open()
			h.send(request7("tools/list"))
			if got := strings.Contains(h.recv(), callTool); got == hidden {
				t.Errorf("hidden %v: listed %v", hidden, got)
			}
			h.send(call)
			if hidden {
				if a := decode(t, h.recv()); a.Error.Data.Kind != "reserved_tool" {
					t.Errorf("got %+v", a)
				}
				b.set(nil)
				h.want(toolsChanged)
			} else {
				time.Sleep(20 * time.Second)
				b.set(nil)
				h.wantAll(toolsChanged, callAnswer)
			}
			h.close()
		})
	}
}

// Where nothing was answered early there is no such tool.
func TestCallToolOfASessionThatWasOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Goodbye())
		h.send(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_call_tool","arguments":{"name":"x"}}}`)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "reserved_tool" {
			t.Errorf("got %+v", a)
		}
		h.send(signInCall8)
		h.want(connectedAnswer("8"))
		h.close()
	})
}

func TestObjectIn(t *testing.T) {
	for raw, want := range map[string]string{"": "", "null": "", `""`: "", `"null"`: "", `{"a": 1}`: `{"a": 1}`, `"{\"a\": 1}"`: `{"a": 1}`,
		`" {} "`: "{}", `[]`: "no", `"x"`: "no", `"[]"`: "no", "7": "no", `"7"`: "no", "true": "no"} {
		object, ok := objectIn([]byte(raw))
		if got := string(object); ok != (want != "no") || ok && got != want {
			t.Errorf("%q: got %q, %v; want %q", raw, got, ok, want)
		}
	}
}

// Tools are shown whole while all of them fit. Otherwise their names are, and one can be seen
// whole.
func TestToolsText(t *testing.T) {
	many := func(n, size int) []byte {
		list := []byte("[7,{}")
		for i := range n {
			list = fmt.Appendf(list, `,{"name":"t%d","description":%q,"inputSchema":{"x":%q}}`, i, strings.Repeat("d", 300), strings.Repeat("s", size))
		}
		return append(list, ']')
	}
	for _, tt := range []struct {
		name, wanted string
		tools        []byte
		has, hasNot  []string
	}{
		{"none", "", []byte("[]"), []string{"H The server has no tools."}, []string{callTool}},
		{"no list", "", []byte("{}"), []string{"no tools"}, nil},
		{"few", "", many(3, 10), []string{`"t0"`, `"t2"`, `"ssssssssss"`, callTool}, []string{"too long", "left out"}},
		{"more than fit", "", many(30, 1000), []string{`"t0"`, `"t29"`, "too long", `{"tool":"NAME"}`}, []string{"sss", strings.Repeat("d", maxToolBrief+1), "left out"}},
		{"more than fit even in short", "", many(200, 1000), []string{`"t0"`, "more tools are left out"}, []string{"sss", `"t199"`}},
		{"one of many", "t199", many(200, 1000), []string{`"t199"`, strings.Repeat("s", 1000), strings.Repeat("d", 300)}, []string{`"t0"`}},
		{"one of few", "t1", many(3, 10), []string{`"t0"`, `"t1"`}, nil},
		{"one that is not there", "t9", many(3, 20000), []string{`"t0"`, "too long"}, []string{"sss"}},
		{"one that is too long itself", "t0", many(3, maxToolsText), []string{`"t0"`, "too long"}, []string{"sss"}},
	} {
		text := toolsText("H", tt.tools, tt.wanted)
		if len(text) > maxToolsText+1000 {
			t.Errorf("%s: %d bytes", tt.name, len(text))
		}
		for _, part := range tt.has {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q is missing in %.1000s", tt.name, part, text)
			}
		}
		for _, part := range tt.hasNot {
			if strings.Contains(text, part) {
				t.Errorf("%s: %q is in %.1000s", tt.name, part, text)
			}
		}
	}
}

// Where the tool that calls others is hidden, no words send a model to it.
func TestHiddenCallToolIsNotNamed(t *testing.T) {
	signedIn(t, Config{IgnoreTools: []string{"sallyport_*"}}, nil, func(h *host, _ time.Time) {
		line := h.recv()
		if strings.Contains(line, callTool) || !strings.Contains(line, "new session") {
			h.t.Errorf("got %s", line)
		}
	})
}
