package relay

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// auditor collects entries.
type auditor struct {
	mu      sync.Mutex
	entries []AuditEntry
}

func (a *auditor) add(e AuditEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(a.entries, e)
}

// Each call has one entry that says how it ended, and nothing of what was in it.
func TestAudit(t *testing.T) {
	request := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":` + params + `}`
	}
	later := func(reply string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(1500 * time.Millisecond)
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(reply))
		}
	}
	for _, tt := range []struct {
		name, send string
		exchange   Exchange
		want       AuditEntry
	}{
		{"ok", callLine, Exchange{Call: "tools/call", Handle: later(callAnswer)},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeOK, Duration: 1500 * time.Millisecond}},
		{"a tool error", callLine, Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":7,"result":{"isError":true,"content":[]}}`},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeToolError}},
		{"an error", callLine, Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"secret"}}`},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeError, Code: -32603}},
		{"a status", callLine, Exchange{Call: "tools/call", Status: 500, Reply: "secret"},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeError, Code: codeStatus, Kind: "status"}},
		{"no answer", callLine, Exchange{Call: "tools/call", Status: 202},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeNoAnswer, Code: codeTransport, Kind: "bad_answer"}},
		{"refused", request("tools/call", `{"name":"rm","arguments":{"secret":1}}`), Exchange{},
			AuditEntry{Method: "tools/call", Name: "rm", Outcome: OutcomeRefused, Code: codeParams, Kind: "ignored_tool"}},
		{"a prompt", request("prompts/get", `{"name":"p","arguments":{"secret":"1"}}`), Exchange{Call: "prompts/get", Reply: callAnswer},
			AuditEntry{Method: "prompts/get", Name: "p", Outcome: OutcomeOK}},
		{"a resource", request("resources/read", `{"uri":"file:///a?secret#secret"}`), Exchange{Call: "resources/read", Reply: callAnswer},
			AuditEntry{Method: "resources/read", Name: "file:///a", Outcome: OutcomeOK}},
		{"a list", request("prompts/list", `{}`), Exchange{Call: "prompts/list", Reply: callAnswer}, AuditEntry{}},
		{"a trace", request("tools/call", `{"name":"x","_meta":{"traceparent":"`+traceparent+`"}}`), Exchange{Call: "tools/call", Reply: callAnswer},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeOK, TraceID: "0af7651916cd43dd8448eb211c80319c"}},
		{"no trace", request("tools/call", `{"name":"x","_meta":{"traceparent":"00-secret-1-1"}}`), Exchange{Call: "tools/call", Reply: callAnswer},
			AuditEntry{Method: "tools/call", Name: "x", Outcome: OutcomeOK}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a auditor
				script := []Exchange{tt.exchange, Goodbye()}
				if tt.exchange.Call == "" {
					script = script[1:]
				}
				h, _ := open(t, Config{Audit: a.add, IgnoreTools: []string{"rm"}}, script...)
				begin := time.Now()
				h.send(tt.send)
				h.recv()
				h.close()
				var want []AuditEntry
				if tt.want.Method != "" {
					tt.want.Time, tt.want.Client = begin, "h"
					want = append(want, tt.want)
				}
				if !slices.Equal(a.entries, want) {
					t.Errorf("got %+v, want %+v", a.entries, want)
				}
			})
		})
	}
}

// A call that the host cancels, and one that the end of the session cuts off, have one entry each.
func TestAuditOfEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a auditor
		h, _ := open(t, Config{Audit: a.add}, Exchange{Call: "tools/call", Handle: Hold, Repeat: true},
			Exchange{Call: "notifications/cancelled"}, Goodbye())
		h.send(callLine)
		synctest.Wait()
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		synctest.Wait()
		h.send(strings.Replace(callLine, "7", "8", 1))
		synctest.Wait()
		h.in.Close()
		h.recv()
		<-h.result
		var got []string
		for _, e := range a.entries {
			got = append(got, e.Outcome+" "+e.Kind)
		}
		if want := []string{"cancelled ", "no_answer closed"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// The trace context of a call, and of its answer, passes on each wire as it came. The modern
// revision repeats none of it in a header.
func TestTraceContextPasses(t *testing.T) {
	const trace = `"traceparent":"` + traceparent + `","tracestate":"a=1,b=2","baggage":"user=\u0061da;p=1"`
	const answer = `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[],"_meta":{` + trace + `}}}`
	none := map[string]string{"Traceparent": "", "Tracestate": "", "Baggage": ""}
	t.Run("legacy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const line = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","_meta":{` + trace + `}}}`
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Body: line, Header: none, Reply: answer}, Goodbye())
			h.send(line)
			h.want(answer)
			h.close()
		})
	})
	t.Run("modern", func(t *testing.T) {
		line := strings.Replace(request2026("tools/call", `"name":"x"`), `"_meta":{`, `"_meta":{`+trace+`,`, 1)
		play2026(t, remembering(modernEra), []Exchange{{Call: "tools/call", Body: line, Header: none, Reply: answer}}, func(t *testing.T, h *host, _ *Server) {
			h.send(line)
			h.want(answer)
		})
	})
	t.Run("bridge", func(t *testing.T) {
		body := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","_meta":{` + trace + `,` + strings.TrimPrefix(hostMeta, `"_meta":{`) + `}}}`
		bridged(t, `{"prompts":{}}`, []Exchange{{Call: "tools/call", Body: body, Header: none, Reply: answer}}, func(t *testing.T, h *host) {
			h.send(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","_meta":{` + trace + `}}}`)
			h.want(answer)
		})
	})
}
