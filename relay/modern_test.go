package relay

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

const metaText = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}}}`

const discoverLine = `{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{` + metaText + `}}`

func remembering(e era) *memory {
	return &memory{m: map[string]string{memoryEra: string(rawjson.Quote(string(e)))}}
}

func (m *memory) era() string {
	b, _ := m.load(memoryEra)
	return strings.Trim(string(b), `"`)
}

// play2026 runs f with a session on srv that begins with the memory mem.
func play2026(t *testing.T, mem *memory, script []Exchange, f func(t *testing.T, h *host, srv *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := New(t, script...)
		h := start(t, Config{Send: srv.Transport(), Load: mem.load, Save: mem.save})
		f(t, h, srv)
		if err := h.close(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// request2026 is a modern host's request with the id 7.
func request2026(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0", "id":7,"method":%q,"params":{%s,%s}}`, method, params, metaText)
}

func TestModernHost(t *testing.T) {
	input := `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","requestState":"s","n":12345678901234567890, "n":1e400}}`
	for _, tt := range []struct {
		name, line, reply string
		header            map[string]string
	}{
		{"tool", request2026("tools/call", `"name":"é","arguments":{"a":1}`), input,
			map[string]string{"Mcp-Method": "tools/call", "Mcp-Name": "=?base64?w6k=?="}},
		{"prompt", request2026("prompts/get", `"name":"p q"`), input, map[string]string{"Mcp-Method": "prompts/get", "Mcp-Name": "p q"}},
		{"resource", request2026("resources/read", `"uri":"file:///a"`), input, map[string]string{"Mcp-Method": "resources/read", "Mcp-Name": "file:///a"}},
		{"extension", request2026("skills/list", `"name":"n"`), `{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":"m"}}`,
			map[string]string{"Mcp-Method": "skills/list", "Mcp-Name": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Accept": "application/json, text/event-stream", "Mcp-Session-Id": "",
				"Content-Type": "application/json"} {
				tt.header[k] = v
			}
			const note = `{"jsonrpc":"2.0","method":"notifications/progress","params":{}}`
			for name, e := range map[string]Exchange{
				"JSON":    {Reply: tt.reply, Status: 400},
				"stream":  {Handle: Events(": hello", "event: message\ndata: "+note, "data: "+tt.reply)},
				"held on": {Handle: Stream("data: "+note, "data: "+tt.reply)},
			} {
				t.Run(name, func(t *testing.T) {
					e.Body, e.Header = tt.line, tt.header
					play2026(t, remembering(modernEra), []Exchange{e}, func(t *testing.T, h *host, srv *Server) {
						h.send(tt.line)
						if name != "JSON" {
							h.want(note)
						}
						h.want(tt.reply)
					})
				})
			}
		})
	}
}

// The server's answer to server/discover decides, for a host of either kind, and what was learnt is
// saved.
func TestEra(t *testing.T) {
	const accepts = `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{}}}`
	const refuses = `{"jsonrpc":"2.0","id":"sallyport-1","error":{"code":%d,"message":"m","data":{"supported":["%s"]}}}`
	for _, tt := range []struct {
		name   string
		script []Exchange // answers to the probe
		want   era
	}{
		{"discovered", []Exchange{{Reply: accepts}}, modernEra},
		{"only older versions", []Exchange{{Reply: strings.Replace(accepts, `"2026-07-28",`, "", 1)}}, legacyEra},
		{"discovered at the second attempt", []Exchange{{Status: 400, Reply: fmt.Sprintf(refuses, codeVersion, "2026-07-28")},
			{Reply: strings.Replace(accepts, "-1", "-2", 1)}}, modernEra},
		{"another version", []Exchange{{Status: 400, Reply: fmt.Sprintf(refuses, codeVersion, "2025-11-25")}}, legacyEra},
		{"error in a 200", []Exchange{{Reply: fmt.Sprintf(refuses, codeNoMethod, "")}}, legacyEra},
		{"other error", []Exchange{{Status: 400, Reply: `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: no session"}}`}}, legacyEra},
		{"page", []Exchange{{Status: 404, Type: "text/html", Reply: "<html>"}}, legacyEra},
		{"nothing", []Exchange{{Status: 405}}, legacyEra},
		{"accepted like a notification", []Exchange{{Status: 202}}, legacyEra},
	} {
		for i := range tt.script {
			tt.script[i].Call = "server/discover"
		}
		t.Run(tt.name+"/legacy host", func(t *testing.T) {
			mem := remembering(unknownEra)
			script := slices.Clone(tt.script)
			if tt.want == legacyEra {
				script = append(append(script, Opening(version)...), Goodbye())
			}
			play2026(t, mem, script, func(t *testing.T, h *host, srv *Server) { h.open(); synctest.Wait() })
			if got := mem.era(); got != string(tt.want) {
				t.Errorf("saved %q, want %q", got, tt.want)
			}
		})
		t.Run(tt.name+"/modern host", func(t *testing.T) {
			mem := remembering(unknownEra)
			script := slices.Clone(tt.script)
			if tt.want == modernEra {
				script = append(script, Exchange{Call: "server/discover", Body: discoverLine, Reply: `{"jsonrpc":"2.0","id":"d","result":{}}`})
			}
			play2026(t, mem, script, func(t *testing.T, h *host, srv *Server) {
				h.send(discoverLine)
				got := h.recv()
				if modern := strings.Contains(got, `"result"`); modern != (tt.want == modernEra) {
					t.Errorf("got %s", got)
				} else if !modern && decode(t, got).Error.Code != codeNoMethod {
					t.Errorf("the error is taken for a modern one: %s", got)
				}
			})
		})
	}
}

// A server that does not answer is given up on after a while, and the host's initialize goes on.
func TestEraOfASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := remembering(unknownEra)
		srv := New(t, append(append([]Exchange{{Call: "server/discover", Handle: Hold}}, Opening(version)...), Goodbye())...)
		h := start(t, Config{Send: srv.Transport(), Load: mem.load, Save: mem.save})
		h.open() // the host is answered early
		time.Sleep(noticeWait)
		h.in.Close()
		if err := <-h.result; err != nil || mem.era() != string(legacyEra) {
			t.Errorf("Run: %v, saved %q", err, mem.era())
		}
	})
}

// What says nothing of the protocol is not taken for an answer: a legacy host's initialize goes on,
// and nothing is saved.
func TestEraUnknown(t *testing.T) {
	for _, status := range []int{401, 403, 500} {
		mem := remembering(unknownEra)
		play2026(t, mem, []Exchange{{Call: "server/discover", Status: status}, {Call: "initialize", Status: status}},
			func(t *testing.T, h *host, srv *Server) {
				h.send(initLine)
				if a := decode(t, h.recv()); a.Error.Data.Status != status {
					t.Errorf("got %+v", a)
				}
			})
		play2026(t, mem, []Exchange{{Call: "server/discover", Status: status}}, func(t *testing.T, h *host, srv *Server) {
			h.send(discoverLine)
			if a := decode(t, h.recv()); a.Error.Data.Status != status {
				t.Errorf("modern host: got %+v", a)
			}
		})
		if mem.era() != "" {
			t.Errorf("%d: saved %q", status, mem.era())
		}
	}
}

func TestRememberedEra(t *testing.T) {
	discovered := Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`}
	refused := Exchange{Call: "server/discover", Status: 400}
	modernRefusal := fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"error":{"code":%d,"message":"no version"}}`, codeHeaderMismatch)
	call := request2026("tools/call", `"name":"x"`)
	for _, tt := range []struct {
		name, line, want string // what the host sends and a part of the answer
		before, after    era
		script           []Exchange
	}{
		{"modern, and so it is", call, callAnswer, modernEra, modernEra, []Exchange{{Call: "tools/call", Reply: callAnswer}}},
		{"modern, but no longer", call, "-32601", modernEra, modernEra, []Exchange{{Call: "tools/call", Status: 400}, refused}},
		{"modern, and this was another refusal", call, `"status":400`, modernEra, modernEra, []Exchange{{Call: "tools/call", Status: 400}, discovered, {Call: "tools/call", Status: 400}}},
		{"modern, but no longer, for a legacy host", initLine, `"serverInfo"`, modernEra, legacyEra,
			append([]Exchange{refused}, append(Opening(version)[:1], Goodbye())...)},
		{"legacy, but no longer", initLine, `"protocolVersion":"2025-11-25"`, legacyEra, modernEra,
			[]Exchange{{Call: "initialize", Status: 400, Reply: modernRefusal}, discovered}},
		{"legacy, and this was another refusal", initLine, `"no version"`, legacyEra, legacyEra,
			[]Exchange{{Call: "initialize", Status: 400, Reply: modernRefusal}, refused}},
		{"legacy, and the host asks", discoverLine, "-32601", legacyEra, legacyEra, nil},
		{"legacy, and the host knows nothing else", call, callAnswer, legacyEra, modernEra, []Exchange{discovered, {Call: "tools/call", Reply: callAnswer}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mem := remembering(tt.before)
			play2026(t, mem, tt.script, func(t *testing.T, h *host, srv *Server) {
				h.send(tt.line)
				if got := h.recv(); !strings.Contains(got, tt.want) {
					t.Errorf("got %s\nwant %s", got, tt.want)
				}
				synctest.Wait()
			})
			if got := mem.era(); got != string(tt.after) {
				t.Errorf("saved %q, want %q", got, tt.after)
			}
		})
	}
}

// Only an origin never seen is asked, and requests that come together share one question.
func TestProbeOnce(t *testing.T) {
	mem := remembering(unknownEra)
	discovered := Exchange{Call: "server/discover", Handle: func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"]}}`)
	}}
	answer := Exchange{Call: "tools/call", Repeat: true, Handle: func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, rawjson.Member(b, "id"))
	}}
	for _, script := range [][]Exchange{{discovered, answer}, {answer}} {
		play2026(t, mem, script, func(t *testing.T, h *host, srv *Server) {
			for i := range 10 {
				h.send(strings.Replace(request2026("tools/call", `"name":"x"`), `"id":7`, fmt.Sprint(`"id":`, i), 1))
			}
			for range 10 {
				if got := h.recv(); !strings.Contains(got, `"result"`) {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

const (
	toolRegion = `{"name":"sql", "n":1e400,"inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"in":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}}}}}`
	toolBad    = `{"name":"bad","inputSchema":{"properties":{"x":{"type":"number","x-mcp-header":"X"}}}}`
)

func TestToolsWithHeaders(t *testing.T) {
	list := request2026("tools/list", `"cursor":"c"`)
	call := request2026("tools/call", `"name":"sql","arguments":{"region":"é","in":{"n":4.2e1}}`)
	for name, tt := range map[string]struct{ reply, want string }{
		"all are valid": {`{"jsonrpc":"2.0","id":7,"result":{"tools":[` + toolRegion + `, {"name":"x"}], "k":1}}`, ""},
		"one is not": {`{"jsonrpc":"2.0","id":7, "result":{"k":1e400,"tools": [` + toolBad + `,` + toolRegion + `], "k":1}}`,
			`{"jsonrpc":"2.0","id":7, "result":{"k":1e400,"tools": [` + toolRegion + `], "k":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.reply
			}
			play2026(t, remembering(modernEra), []Exchange{{Call: "tools/list", Reply: tt.reply},
				{Call: "tools/call", Body: call, Header: map[string]string{"Mcp-Param-Region": "=?base64?w6k=?=", "Mcp-Param-N": "42"}, Reply: callAnswer}},
				func(t *testing.T, h *host, srv *Server) {
					h.send(list)
					h.want(tt.want)
					h.send(call)
					h.want(callAnswer)
				})
		})
	}
}

// A server that misses a header is asked for its tools, and the call repeated once.
func TestHeaderMismatch(t *testing.T) {
	call := request2026("tools/call", `"name":"sql","arguments":{"region":"eu"}`)
	mismatch := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"error":{"code":%d,"message":"Mcp-Param-Region"}}`, codeHeaderMismatch)
	bare := strings.Replace(mismatch, `"id":7,`, "", 1)
	page := func(id int, tool, more string) Exchange {
		return Exchange{Call: "tools/list", Header: map[string]string{"Mcp-Method": "tools/list", "Mcp-Protocol-Version": "2026-07-28"},
			Reply: fmt.Sprintf(`{"jsonrpc":"2.0","id":"sallyport-%d","result":{"tools":[%s]%s}}`, id, tool, more)}
	}
	first := Exchange{Call: "tools/call", Status: 400, Header: map[string]string{"Mcp-Param-Region": ""}, Reply: mismatch}
	for _, tt := range []struct {
		name, want string
		script     []Exchange
	}{
		{"mended", callAnswer, []Exchange{first, page(1, toolBad, `,"nextCursor":"2"`), page(2, toolRegion, ""),
			{Call: "tools/call", Body: call, Header: map[string]string{"Mcp-Param-Region": "eu"}, Reply: callAnswer}}},
		{"refused again, without an id", `{"jsonrpc":"2.0","error":{"code":-32020,"message":"Mcp-Param-Region"},"id":7}`,
			[]Exchange{first, page(1, toolRegion, ""), {Call: "tools/call", Status: 400, Reply: bare}}},
		{"no list", mismatch, []Exchange{first, {Call: "tools/list", Status: 500}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play2026(t, remembering(modernEra), tt.script, func(t *testing.T, h *host, srv *Server) {
				h.send(call)
				h.want(tt.want)
			})
		})
	}
}

// Leaving the stream is the cancellation: nothing is posted, and nothing comes back.
func TestModernCancel(t *testing.T) {
	gone := make(chan struct{})
	script := []Exchange{{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
		Stream("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}")(w, r)
		close(gone)
	}}, {Call: "tools/call", Handle: Hold}}
	play2026(t, remembering(modernEra), script, func(t *testing.T, h *host, srv *Server) {
		h.send(request2026("tools/call", `"name":"x"`))
		h.want(`{"jsonrpc":"2.0","method":"notifications/progress"}`)
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		<-gone
		h.send(request2026("tools/call", `"name":"x"`))
		if a := decode(t, h.recv()); a.Error.Data.Kind != "timeout" {
			t.Errorf("got %+v", a)
		}
	})
}

// A subscription has no end of its own: it outlasts the time limit and a break of the link, and
// does not hold up the goodbye.
func TestModernSubscription(t *testing.T) {
	listen := request2026("subscriptions/listen", `"notifications":{"toolsListChanged":true}`)
	const ack = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}`
	const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}`
	const end = `{"jsonrpc":"2.0","id":7,"result":{}}`
	play2026(t, remembering(modernEra), []Exchange{
		{Body: listen, Handle: func(w http.ResponseWriter, r *http.Request) {
			Events("data: "+ack, "data: "+changed)(w, r)
			time.Sleep(time.Hour)
		}},
		{Body: listen, Status: 502},
		{Body: listen, Handle: Stream("data: "+ack, "data: "+changed)},
		{Body: strings.Replace(listen, "7", "8", 1), Handle: Events("data: "+strings.Replace(ack, "7", "8", 1), "data: "+strings.Replace(end, "7", "8", 1))},
		{Body: strings.Replace(listen, "7", "9", 1), Status: 502},
	}, func(t *testing.T, h *host, srv *Server) {
		h.send(listen)
		h.want(ack)
		h.want(changed)
		h.want(changed) // after an hour and a break
		h.send(strings.Replace(listen, "7", "8", 1))
		h.want(strings.Replace(ack, "7", "8", 1))
		h.want(strings.Replace(end, "7", "8", 1))
		h.send(strings.Replace(listen, "7", "9", 1))
		if a := decode(t, h.recv()); a.Error.Data.Status != 502 {
			t.Errorf("got %+v", a)
		}
		begin := time.Now()
		h.in.Close()
		if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" || time.Since(begin) > 0 {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
	})
}

// A subscription that was accepted waits as long as it takes for the way to come back.
func TestModernSubscriptionWaits(t *testing.T) {
	listen := request2026("subscriptions/listen", `"notifications":{}`)
	const ack = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}`
	const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, Exchange{Body: listen, Handle: Events("data: " + ack)}, Exchange{Body: listen, Handle: Stream("data: "+ack, "data: "+changed)})
		tr, attempts := srv.Transport(), 0
		send := roundTrip(func(r *http.Request) (*http.Response, error) {
			if attempts++; attempts == 2 {
				b.set(down)
				return nil, errors.New("the link is gone")
			}
			return tr.RoundTrip(r)
		})
		h := start(t, Config{Send: send, Obstacle: b.get, Load: remembering(modernEra).load})
		h.send(listen)
		h.want(ack)
		time.Sleep(time.Hour)
		b.set(nil)
		h.want(changed)
		h.cancel()
		if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
			t.Errorf("got %+v", a)
		}
	})
}

// A modern server's stream cannot be resumed: the call is lost with it.
func TestModernStreamBreaks(t *testing.T) {
	play2026(t, remembering(modernEra), []Exchange{{Call: "tools/call", Handle: Events("id: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}")}},
		func(t *testing.T, h *host, srv *Server) {
			h.send(request2026("tools/call", `"name":"x"`))
			h.want(`{"jsonrpc":"2.0","method":"n"}`)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "bad_answer" {
				t.Errorf("got %+v", a)
			}
		})
}
