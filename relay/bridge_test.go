package relay

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// hostMeta is the _meta that goes with each request of the host of bridgedInit.
const hostMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{},"n":1e400},"io.modelcontextprotocol/clientInfo":{"name":"h"}`

const bridgedInit = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"roots":{},"n":1e400},"clientInfo":{"name":"h"}}}`

// bridged runs f with a legacy host's session on a modern server that has the capabilities.
func bridged(t *testing.T, capabilities string, script []Exchange, f func(t *testing.T, h *host)) {
	t.Helper()
	discover := Exchange{Call: "server/discover", Header: map[string]string{"Mcp-Method": "server/discover", "Mcp-Protocol-Version": "2026-07-28"},
		Body:  `{"jsonrpc":"2.0","id":"sallyport-1","method":"server/discover","params":{` + hostMeta + `}}}`,
		Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":` + capabilities + `,"instructions":"do","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s", "version":"2"}}}}`}
	play2026(t, remembering(modernEra), append([]Exchange{discover}, script...), func(t *testing.T, h *host, srv *Server) {
		h.send(bridgedInit)
		h.want(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":` + capabilities + `,"serverInfo":{"name":"s", "version":"2"},"instructions":"do"}}`)
		h.send(initializedLine)
		synctest.Wait()
		f(t, h)
	})
}

func TestBridge(t *testing.T) {
	post := func(body, reply string) Exchange {
		return Exchange{Body: body, Reply: reply, Header: map[string]string{"Mcp-Protocol-Version": "2026-07-28", "Mcp-Session-Id": ""}}
	}
	bridged(t, `{"tools":{}}`, []Exchange{
		post(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+hostMeta+`}}}`, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[]}}`),
		post(`{"jsonrpc":"2.0","id":2, "method":"tools/call","params":{"name":"x","n":12345678901234567890,"_meta":{"progressToken":1e0,"x":0,"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
			strings.SplitN(hostMeta, ",", 2)[1]+`}}}`, `{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"m"}}`),
		post(`{"jsonrpc":"2.0","id":4,"method":"prompts/list","params":{`+hostMeta+`,"io.modelcontextprotocol/logLevel":"warning"}}}`, `{"jsonrpc":"2.0","id":4,"result":{}}`),
	}, func(t *testing.T, h *host) {
		h.send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
		h.want(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[]}}`)
		h.send(`{"jsonrpc":"2.0","id":2, "method":"tools/call","params":{"name":"x","n":12345678901234567890,"_meta":{"progressToken":1e0,"x":0,"io.modelcontextprotocol/protocolVersion":"0"}}}`)
		h.want(`{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"m"}}`)
		h.send(pingLine)
		h.want(pingAnswer)
		h.send(`{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"warning"}}`)
		h.want(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		h.send(`{"jsonrpc":"2.0","id":4,"method":"prompts/list","params":{}}`)
		h.want(`{"jsonrpc":"2.0","id":4,"result":{}}`)
		// Nothing of this reaches the server.
		h.send(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
		h.send(`{"jsonrpc":"2.0","id":"nobody asked","result":{}}`)
		for params, method := range map[string]string{`{"level":7}`: "logging/setLevel", `{}`: "resources/subscribe", `[]`: "tools/call"} {
			h.send(`{"jsonrpc":"2.0","id":5,"method":"` + method + `","params":` + params + `}`)
			if a := decode(t, h.recv()); a.Error.Code != codeParams {
				t.Errorf("%s: %+v", method, a)
			}
		}
	})
}

// A server that is modern, but tells nothing of itself, can be used all the same.
func TestBridgeWithoutDiscovery(t *testing.T) {
	refused := Exchange{Call: "server/discover", Status: 404, Reply: `{"jsonrpc":"2.0","error":{"code":-32601,"message":"m"}}`}
	refused.Reply = strings.Replace(refused.Reply, `"error"`, `"id":"sallyport-1","error"`, 1)
	again := refused
	again.Reply = strings.Replace(refused.Reply, "-1", "-2", 1)
	play2026(t, remembering(unknownEra), []Exchange{refused,
		{Call: "initialize", Status: 404, Reply: `{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"m"}}`}, again}, func(t *testing.T, h *host, srv *Server) {
		h.send(strings.Replace(bridgedInit, "2025-06-18", "1999-01-01", 1))
		h.want(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{},"prompts":{},"completions":{}},"serverInfo":{"version":"","name":"mcp.test"}}}`)
	})
}

// The questions of a modern server reach the host as requests, and its answers the server in the
// next round.
func TestBridgeInput(t *testing.T) {
	call := func(id, more string) Exchange {
		return Exchange{Header: map[string]string{"Mcp-Name": "x"}, Body: `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"x",` + hostMeta + `}` + more + `}}`}
	}
	reply := func(e Exchange, id, result string) Exchange {
		e.Reply = `{"jsonrpc":"2.0","id":` + id + `,"result":` + result + `}`
		return e
	}
	const state = `"s\u0000\ud800 1e400"`
	first := call("7", "")
	first.Handle = Stream(`data: {"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","inputRequests":{"a b":{"method":"elicitation/create","params":{"n":1e400}},"r":{"method":"roots/list"}},"requestState":` + state + `}}`)
	bridged(t, `{}`, []Exchange{
		first,
		reply(call(`"sallyport-4"`, `,"inputResponses":{"a b":{"action":"accept","n":1e400},"r":{"roots":[]}},"requestState":`+state), `"sallyport-4"`, `{"resultType":"input_required","requestState":""}`),
		reply(call(`"sallyport-5"`, `,"requestState":""`), `"sallyport-5"`, `{"resultType":"input_required","inputRequests":{"s":{"method":"sampling/createMessage","params":{}}}}`),
		reply(call(`"sallyport-7"`, `,"inputResponses":{"s":{}}`), `"sallyport-7"`, `{ "content":[], "n":1e400}`),
	}, func(t *testing.T, h *host) {
		h.send(callLine)
		h.want(`{"jsonrpc":"2.0","id":"sallyport-2","method":"elicitation/create","params":{"n":1e400}}`)
		h.want(`{"jsonrpc":"2.0","id":"sallyport-3","method":"roots/list"}`)
		h.send(`{"jsonrpc":"2.0","id":"sallyport-3","result":{"roots":[]}}`)
		h.send(`{"jsonrpc":"2.0","id":"sallyport-2","result":{"action":"accept","n":1e400}}`)
		h.want(`{"jsonrpc":"2.0","id":"sallyport-6","method":"sampling/createMessage","params":{}}`)
		h.send(`{"jsonrpc":"2.0","id":"sallyport-6","result":{}}`)
		h.want(`{"jsonrpc":"2.0","id":7,"result":{ "content":[], "n":1e400}}`)
	})
}

// A person may take long to answer. The call waits for that, and not for an obstacle that comes
// meanwhile. Config.Patience begins anew with the answer.
func TestBridgeInputTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`},
			Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}}}}`},
			Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":"sallyport-3","result":{"content":[]}}`})
		h := start(t, Config{Send: gated{b, srv.Transport(), true}, Obstacle: b.get, Load: remembering(modernEra).load, NoServerStream: true})
		h.open()
		h.send(callLine)
		h.want(`{"jsonrpc":"2.0","id":"sallyport-2","method":"roots/list"}`)
		b.set(down)
		time.Sleep(2 * time.Minute)
		h.send(`{"jsonrpc":"2.0","id":"sallyport-2","result":{"roots":[]}}`)
		time.Sleep(20 * time.Second)
		b.set(nil)
		h.want(callAnswer)
		h.close()
	})
}

// What a server asks for and cannot get ends the call with an error, and the host is told that its
// answer is not wanted any more.
func TestBridgeInputFails(t *testing.T) {
	ask := func(result string) Exchange {
		return Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":7,"result":` + result + `}`}
	}
	const question = `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create"},"b":{"method":"elicitation/create"}}}`
	const withdrawn = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"sallyport-%d","reason":"the request that needed it has ended"}}`
	asked := func(h *host) {
		h.want(`{"jsonrpc":"2.0","id":"sallyport-2","method":"elicitation/create"}`)
		h.want(`{"jsonrpc":"2.0","id":"sallyport-3","method":"elicitation/create"}`)
	}
	for _, tt := range []struct {
		name, result, want string
		host               func(h *host)
	}{
		{"the host has an error", question, `\"nobody here\"`, func(h *host) {
			asked(h)
			h.send(`{"jsonrpc":"2.0","id":"sallyport-2","error":{"code":-1,"message":"nobody here"}}`)
			h.want(fmt.Sprintf(withdrawn, 3))
		}},
		{"no answer in time", question, `"timeout"`, func(h *host) {
			asked(h)
			h.want(fmt.Sprintf(withdrawn, 2))
			h.want(fmt.Sprintf(withdrawn, 3))
		}},
		{"no question", `{"resultType":"input_required"}`, "does not say which", nil},
		{"another kind of question", `{"resultType":"input_required","inputRequests":{"a":{"method":"tools/call"}}}`, "no input", nil},
		{"another kind of result", `{"resultType":"task"}`, "does not know", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bridged(t, `{}`, []Exchange{ask(tt.result)}, func(t *testing.T, h *host) {
				h.send(callLine)
				if tt.host != nil {
					tt.host(h)
				}
				if got := h.recv(); !strings.Contains(got, tt.want) || decode(t, got).Error.Code == 0 {
					t.Errorf("got %s\nwant %s", got, tt.want)
				}
			})
		})
	}
	t.Run("cancelled by the host", func(t *testing.T) {
		bridged(t, `{}`, []Exchange{ask(question)}, func(t *testing.T, h *host) {
			h.send(callLine)
			asked(h)
			h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
			h.want(fmt.Sprintf(withdrawn, 2))
			h.want(fmt.Sprintf(withdrawn, 3))
			h.send(`{"jsonrpc":"2.0","id":"sallyport-2","result":{}}`) // too late
		})
	})
	t.Run("for ever", func(t *testing.T) {
		bridged(t, `{}`, []Exchange{{Call: "tools/call", Repeat: true, Handle: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			b := make([]byte, 1<<10)
			n, _ := r.Body.Read(b)
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"resultType\":\"input_required\",\"requestState\":\"\"}}\n\n", rawjson.Member(b[:n], "id"))
		}}}, func(t *testing.T, h *host) {
			begin := time.Now()
			h.send(callLine)
			if a := decode(t, h.recv()); !strings.Contains(a.Error.Message, "16 times") || time.Since(begin) < time.Minute {
				t.Errorf("after %v: %+v", time.Since(begin), a)
			}
		})
	})
}

// The host is told of changes as if the server did so by itself, and its subscriptions are part of
// the one upstream.
func TestBridgeSubscription(t *testing.T) {
	const (
		changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}`
		updated = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}`
	)
	listen := func(id int, filter string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":"sallyport-%d","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true%s},%s}}}`, id, filter, hostMeta)
	}
	ack := func(filter string) string {
		return `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{` + filter + `}}}`
	}
	firstEnds := make(chan struct{})
	bridged(t, `{"tools":{"listChanged":true},"prompts":{"listChanged":false},"resources":{"subscribe":true}}`, []Exchange{
		{Body: listen(2, ""), Status: 503},
		{Body: listen(2, ""), Handle: func(w http.ResponseWriter, r *http.Request) {
			Stream(ack(`"toolsListChanged":true`), "data: "+changed)(w, r)
			close(firstEnds)
		}},
		{Body: listen(3, `,"resourceSubscriptions":["file:///\u0061"]`), Handle: Stream(ack(`"resourceSubscriptions":["file:///a"]`), "data: "+updated)},
		{Body: listen(4, `,"resourceSubscriptions":["b","file:///\u0061"]`), Handle: Stream(ack(`"resourceSubscriptions":["file:///a"]`))},
		{Body: listen(5, ""), Handle: Stream(ack(""))},
	}, func(t *testing.T, h *host) {
		h.want(changed)
		h.send(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"file:///\u0061"}}`)
		lines := []string{h.recv(), h.recv()}
		if answer := `{"jsonrpc":"2.0","id":1,"result":{}}`; !(lines[0] == answer && lines[1] == updated || lines[1] == answer && lines[0] == updated) {
			t.Errorf("got %q", lines)
		}
		<-firstEnds
		h.send(`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"file:///a"}}`) // once more
		h.want(`{"jsonrpc":"2.0","id":2,"result":{}}`)
		h.send(`{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"b"}}`)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "no_subscription" {
			t.Errorf("got %+v", a)
		}
		h.send(`{"jsonrpc":"2.0","id":4,"method":"resources/unsubscribe","params":{"uri":"file:///a"}}`)
		h.want(`{"jsonrpc":"2.0","id":4,"result":{}}`)
		synctest.Wait()
		time.Sleep(time.Hour)
	})
}

// A server without changes to tell of is not asked for them, nor is it when the last wish is gone.
func TestBridgeWithoutSubscription(t *testing.T) {
	refused := Exchange{Call: "subscriptions/listen", Status: 403}
	ended := make(chan struct{})
	accepted := Exchange{Call: "subscriptions/listen", Handle: func(w http.ResponseWriter, r *http.Request) {
		Stream(`data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["a"]}}}`)(w, r)
		close(ended)
	}}
	bridged(t, `{"tools":{"listChanged":false},"resources":{"subscribe":true}}`, []Exchange{refused, accepted}, func(t *testing.T, h *host) {
		h.send(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a"}}`)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "no_subscription" {
			t.Errorf("got %+v", a)
		}
		h.send(`{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"a"}}`)
		h.want(`{"jsonrpc":"2.0","id":2,"result":{}}`)
		h.send(`{"jsonrpc":"2.0","id":3,"method":"resources/unsubscribe","params":{"uri":"a"}}`)
		h.want(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		<-ended
	})
}

// Config.NoServerStream keeps the bridge from asking for changes of the lists by itself.
func TestBridgeNoServerStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		discovered := Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}}`}
		h := start(t, Config{Send: New(t, discovered).Transport(), Load: remembering(modernEra).load, NoServerStream: true})
		h.open()
		h.send(pingLine)
		h.want(pingAnswer)
		if err := h.close(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
