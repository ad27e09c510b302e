package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// What extensions and later revisions put into messages: MCP Apps, tasks, JSON Schema, icons and
// members that nobody knows. Each row is the params of a request and the result of its answer.
var extensionRows = []struct {
	name, method, params, result string
}{
	{"tools of MCP Apps", "tools/list", `{"cursor":"a"}`,
		`{"tools":[{"name":"chart","_meta":{"ui":{"resourceUri":"ui://charts/view.html","visibility":["model","app"],"csp":{"connectDomains":["https://a.test"]}},"ui/resourceUri":"ui://charts/view.html"},"inputSchema":{"type":"object"}}],"nextCursor":"b","ttlMs":0}`},
	{"page of an app", "resources/read", `{"uri":"ui://charts/view.html"}`,
		`{"contents":[{"uri":"ui://charts/view.html","mimeType":"text/html;profile=mcp-app","text":"<!doctype html>\u003cscript>let a = \"\\u2028\"</script>","_meta":{"ui":{"prefersBorder":true}}}]}`},
	{"schemas", "tools/list", `{}`,
		`{"tools":[{"inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"urn:x","$defs":{"n":{"$anchor":"n","type":["integer","null"],"minimum":-9223372036854775809,"multipleOf":1e-7}},"type":"object","properties":{"$ref":{"$ref":"#/$defs/n"},"a.b/c":{"$dynamicRef":"#n"}},"anyOf":[true,{"if":{},"then":false}],"unevaluatedProperties":false,"x-vendor":{"":null}},"outputSchema":{"$ref":"#/$defs/o","$defs":{"o":{}}},"name":"s"}]}`},
	{"icons and task support", "tools/list", `{}`,
		`{"tools":[{"name":"t","title":"T","icons":[{"src":"data:image/png;base64,iVBOR/+=","sizes":["48x48","any"],"theme":"dark"}],"execution":{"taskSupport":"optional"},"annotations":{"readOnlyHint":true},"inputSchema":{"type":"object"}}]}`},
	{"task is begun", "tools/call", `{"name":"t","arguments":{"x":1.0},"task":{"ttl":60000},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"é"},"com.example/x":[1,2.50]}}`,
		`{"task":{"taskId":"786512e2","status":"working","createdAt":"2025-11-25T10:30:00Z","ttl":null,"pollInterval":5000},"_meta":{"io.modelcontextprotocol/model-immediate-response":"soon"}}`},
	{"task is asked for", "tasks/get", `{"taskId":"786512e2"}`, `{"taskId":"786512e2","status":"input_required","ttl":1e3}`},
	{"task's result", "tasks/result", `{"taskId":"786512e2"}`, `{"content":[],"structuredContent":{"n":18446744073709551617},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"786512e2"}}}`},
	{"tasks", "tasks/list", `{"cursor":""}`, `{"tasks":[],"nextCursor":null}`},
	{"task is ended", "tasks/cancel", `{"taskId":"786512e2"}`, `{"taskId":"786512e2","status":"cancelled"}`},
	{"task is told", "tasks/update", `{"taskId":"786512e2","inputResponses":{"a":{"action":"accept"}}}`, `{}`},
	{"unknown method", "com.example/do.it", `{"a":{"b":[[]]},"params":{},"id":9,"method":"x"}`, `{"result":{"id":7,"method":"y"}}`},
	{"completion", "completion/complete", `{"ref":{"type":"ref/resource","uri":"ui://{a}"},"argument":{"name":"a","value":""}}`, `{"completion":{"values":[],"hasMore":false}}`},
}

// extensionNotes are notifications of a server that the host gets as they are.
var extensionNotes = []string{
	`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"786512e2","status":"working","ttl":null}}`,
	`{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"786512e2"}}`,
	`{"method":"com.example/changed","params":{"_meta":{"ui":{"x":1e400}}},"jsonrpc":"2.0","extra":[0.10]}`,
	`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"ui://charts/view.html","title":"é\u00e9"}}`,
}

// carriesExtensions plays all rows. asSent is what the server gets for a line of the host.
func carriesExtensions(t *testing.T, asSent func(line string) string, extra string, play func(t *testing.T, script []Exchange, f func(t *testing.T, h *host))) {
	for _, tt := range extensionRows {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %v", tt.name, stream), func(t *testing.T) {
				line := fmt.Sprintf(`{"jsonrpc":"2.0","params":%s,"id":7, "method":%q}`, tt.params, tt.method)
				if extra != "" {
					line = string(rawjson.Set([]byte(line), rawjson.Set(orEmpty(rawjson.Member([]byte(line), "params", "_meta")), []byte(`"2026-07-28"`), metaPrefix+"protocolVersion"), "params", "_meta"))
				}
				answer := `{"id":7,"result":` + tt.result + `, "jsonrpc":"2.0"}`
				e := Exchange{Call: tt.method, Body: asSent(line), Reply: answer}
				if stream {
					events := []string{}
					for _, note := range extensionNotes {
						events = append(events, "data: "+note)
					}
					e.Handle = Events(append(events, "data: "+answer)...)
				}
				play(t, []Exchange{e}, func(t *testing.T, h *host) {
					h.send(line)
					if stream {
						for _, note := range extensionNotes {
							h.want(note)
						}
					}
					h.want(answer)
				})
			})
		}
	}
}

// All of it passes unharmed on each wire. Under the bridge, only _meta is set.
func TestExtensionsPass(t *testing.T) {
	asIs := func(line string) string { return line }
	t.Run("legacy", func(t *testing.T) {
		carriesExtensions(t, asIs, "", func(t *testing.T, script []Exchange, f func(*testing.T, *host)) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := open(t, Config{}, append(script, Goodbye())...)
				synctest.Wait()
				f(t, h)
				h.close()
			})
		})
	})
	t.Run("modern", func(t *testing.T) {
		carriesExtensions(t, asIs, "modern", func(t *testing.T, script []Exchange, f func(*testing.T, *host)) {
			play2026(t, remembering(modernEra), script, func(t *testing.T, h *host, srv *Server) { f(t, h) })
		})
	})
	t.Run("bridge", func(t *testing.T) {
		withMeta := func(line string) string {
			who := identity{version: "2026-07-28", capabilities: []byte(`{"roots":{},"n":1e400}`), info: []byte(`{"name":"h"}`)}
			return string(rawjson.Set([]byte(line), who.meta(rawjson.Member([]byte(line), "params", "_meta")), "params", "_meta"))
		}
		carriesExtensions(t, withMeta, "", func(t *testing.T, script []Exchange, f func(*testing.T, *host)) {
			bridged(t, `{"tasks":{"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}}`, script, f)
		})
	})
	t.Run("HTTP+SSE", func(t *testing.T) {
		for _, tt := range extensionRows {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					line := fmt.Sprintf(`{"jsonrpc":"2.0","params":%s,"id":7, "method":%q}`, tt.params, tt.method)
					answer := `{"id":7,"result":` + tt.result + `, "jsonrpc":"2.0"}`
					h, _ := openPush(t, Exchange{Call: tt.method, Body: line, Reply: answer})
					h.send(line)
					h.want(answer)
					h.close()
				})
			})
		}
	})
}

// What a legacy server asks the host, and what the host tells it, passes as it is, known or not.
func TestUnknownMessagesPassBothWays(t *testing.T) {
	questions := []string{
		`{"jsonrpc":"2.0","id":"q-1","method":"com.example/ask","params":{"_meta":{"ui":{}},"n":1e400}}`,
		`{"jsonrpc":"2.0","id":18446744073709551616,"method":"sampling/createMessage","params":{"task":{"ttl":1},"tools":[{"inputSchema":{"$ref":"#"}}]}}`,
		`{"jsonrpc":"2.0","id":"e","method":"elicitation/create","params":{"mode":"url","elicitationId":"1","url":"https://a.test/"}}`,
		`{"jsonrpc":"2.0","id":"t","method":"tasks/get","params":{"taskId":"1"}}`,
	}
	answers := []string{
		`{"jsonrpc":"2.0","id":"q-1","error":{"code":-32601,"message":"m","data":{"x":1e400}}}`,
		`{"jsonrpc":"2.0","id":18446744073709551616,"result":{"task":{"taskId":"1","status":"working"}}}`,
		`{"jsonrpc":"2.0","id":"e","result":{"action":"decline"}}`,
		`{"jsonrpc":"2.0","id":"t","result":{"taskId":"1","status":"completed"}}`,
	}
	notes := []string{
		`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"1","status":"completed"}}`,
		`{"params":{"a":[1e400]},"method":"com.example/note","jsonrpc":"2.0"}`,
		`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`,
	}
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)[:2]
		events := []string{}
		for _, q := range append(questions, extensionNotes...) {
			events = append(events, "data: "+q)
		}
		script = append(script, Exchange{Method: "GET", Handle: Stream(events...)})
		for _, a := range answers {
			script = append(script, Exchange{Call: ResponseCall, Body: a})
		}
		for _, n := range notes {
			script = append(script, Exchange{Body: n})
		}
		h := start(t, Config{Send: New(t, append(script, Goodbye())...).Transport()})
		h.open()
		for _, want := range append(questions, extensionNotes...) {
			h.want(want)
		}
		for _, line := range append(answers, notes...) {
			h.send(line)
			synctest.Wait()
		}
		h.close()
	})
}

// Across the bridge, an extension's notification of the host is sent on with _meta, and a result of
// its kind reaches a host that has declared extensions.
func TestExtensionsAcrossTheBridge(t *testing.T) {
	const discovered = `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"],"capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}`
	const handle = `{"jsonrpc":"2.0","id":7,"result":{"resultType":"task","taskId":"1","status":"working","ttlMs":1e3}}`
	synctest.Test(t, func(t *testing.T) {
		meta := `"_meta":{"x":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}`
		srv := New(t, Exchange{Call: "server/discover", Reply: discovered},
			Exchange{Call: "com.example/note", Body: `{"jsonrpc":"2.0","method":"com.example/note","params":{"a":1e400,` + meta + `}}`, Header: map[string]string{"Mcp-Method": "com.example/note"}},
			Exchange{Call: "tools/call", Reply: handle},
			Exchange{Call: "tasks/get", Header: map[string]string{"Mcp-Name": "1"}, Reply: `{"jsonrpc":"2.0","id":8,"result":{"resultType":"complete","status":"completed","result":{}}}`})
		h := start(t, Config{Send: srv.Transport(), Load: remembering(modernEra).load, NoServerStream: true})
		h.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}`)
		if line := h.recv(); !strings.Contains(line, `"capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}`) {
			t.Errorf("got %s", line)
		}
		h.send(initializedLine)
		h.send(`{"jsonrpc":"2.0","method":"com.example/note","params":{"a":1e400,"_meta":{"x":1}}}`)
		h.send(callLine)
		h.want(handle)
		h.send(`{"jsonrpc":"2.0","id":8,"method":"tasks/get","params":{"taskId":"1"}}`)
		h.want(`{"jsonrpc":"2.0","id":8,"result":{"resultType":"complete","status":"completed","result":{}}}`)
		h.close()
	})
}
