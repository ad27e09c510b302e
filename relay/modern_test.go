package relay

import (
	"errors"
	"fmt"
	"net/http"
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
