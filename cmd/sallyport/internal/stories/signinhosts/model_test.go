//go:build linux

package signinhosts_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// model stands in for the model of a host. It speaks the streaming forms of four services: OpenAI's
// chat completions and responses, Anthropic's messages, Google's generateContent. Whatever the task
// is, it signs in and then calls the server's tool echo.
type model struct {
	// url is where it answers, without a path.
	url string

	mu      sync.Mutex
	begun   time.Time
	signIns int
	// log has one line for each step.
	log []string
}

// step is what the model does next: it calls a tool, or says that it has done its work.
type step struct {
	// tool is the name as the host has it, in the namespace of some hosts. It is empty if the work
	// is done.
	tool, namespace string
	arguments       string
}

func startModel(t *testing.T) *model {
	t.Helper()
	m := &model{begun: time.Now()}
	m.url = machines.Serve(t, m)
	return m
}

// said is what the log has.
func (m *model) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.log, "\n")
}

// tools are the tools of the proxy that a request of a host has, by the names that the server gives
// them. The values are those of the host.
func tools(request any) map[string]step {
	found := map[string]step{}
	var walk func(v any, namespace string)
	walk = func(v any, namespace string) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e, namespace)
			}
		case map[string]any:
			name, _ := v["name"].(string)
			if v["type"] == "namespace" {
				walk(v["tools"], name)
				return
			}
			for _, tool := range []string{"sallyport_sign_in", "sallyport_call_tool", "echo"} {
				if name == tool || strings.HasSuffix(name, "_"+tool) || strings.HasSuffix(name, "-"+tool) {
					found[tool] = step{tool: name, namespace: namespace}
				}
			}
			for key, e := range v {
				if key != "parameters" && key != "input_schema" {
					walk(e, namespace)
				}
			}
		}
	}
	body, _ := request.(map[string]any)
	walk(body["tools"], "")
	return found
}

// next decides what to do, as a sensible model would.
func (m *model) next(body []byte) step {
	var request any
	json.Unmarshal(body, &request)
	has, text := tools(request), string(body)
	m.mu.Lock()
	defer m.mu.Unlock()
	var s step
	switch echo, signIn, call := has["echo"], has["sallyport_sign_in"], has["sallyport_call_tool"]; {
	case strings.Contains(text, "Echo: hello"):
	case echo.tool != "":
		s = echo
		s.arguments = `{"message":"hello"}`
	case call.tool != "" && strings.Contains(text, "is connected, but its tools"):
		s = call
		s.arguments = `{"name":"echo","arguments":{"message":"hello"}}`
	case signIn.tool != "" && m.signIns < 6:
		m.signIns++
		s = signIn
		s.arguments = `{}`
	}
	var names []string
	for name := range has {
		names = append(names, name)
	}
	m.log = append(m.log, fmt.Sprintf("%5.1f s: has %d of ours %q, calls %q", time.Since(m.begun).Seconds(), len(has), names, s.tool))
	return s
}

// ServeHTTP implements http.Handler.
func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request struct {
		Stream bool
		Tools  []json.RawMessage
	}
	json.Unmarshal(body, &request)
	stream := request.Stream || strings.Contains(r.URL.Path, "streamGenerateContent")
	var s step
	if len(request.Tools) > 0 {
		s = m.next(body)
	}
	answer := func(format string, args ...any) { fmt.Fprintf(w, format, args...) }
	if stream {
		w.Header().Set("Content-Type", "text/event-stream")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/chat/completions"):
		s.completions(answer, stream)
	case strings.HasSuffix(r.URL.Path, "/responses"):
		s.responses(answer)
	case strings.HasSuffix(r.URL.Path, "/messages"):
		s.messages(answer, stream)
	case strings.Contains(r.URL.Path, "enerateContent"):
		s.content(answer, stream)
	case strings.HasSuffix(r.URL.Path, "/models"):
		answer(`{"object":"list","data":[{"id":"stand-in","object":"model"}]}`)
	case strings.HasSuffix(r.URL.Path, "/count_tokens"):
		answer(`{"input_tokens":10}`)
	case strings.Contains(r.URL.Path, "countTokens"):
		answer(`{"totalTokens":10}`)
	default:
		http.NotFound(w, r)
	}
}

// completions answers in the form of OpenAI's chat completions.
func (s step) completions(answer func(string, ...any), stream bool) {
	delta, reason := `"role":"assistant","content":"done"`, "stop"
	if s.tool != "" {
		delta = fmt.Sprintf(`"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_%d","type":"function","function":{"name":%q,"arguments":%q}}]`,
			time.Now().UnixNano(), s.tool, s.arguments)
		reason = "tool_calls"
	}
	const head = `"id":"c","created":1,"model":"stand-in","usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}`
	if !stream {
		answer(`{%s,"object":"chat.completion","choices":[{"index":0,"message":{%s},"finish_reason":%q}]}`, head, delta, reason)
		return
	}
	answer("data: {%s,\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":null}]}\n\n", head, delta)
	answer("data: {%s,\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":%q}]}\n\n", head, reason)
	answer("data: [DONE]\n\n")
}

// responses answers in the form of OpenAI's responses.
func (s step) responses(answer func(string, ...any)) {
	item := `{"type":"message","id":"m","role":"assistant","content":[{"type":"output_text","text":"done"}]}`
	if s.tool != "" {
		namespace := ""
		if s.namespace != "" {
			namespace = fmt.Sprintf(`"namespace":%q,`, s.namespace)
		}
		item = fmt.Sprintf(`{"type":"function_call","id":"f","call_id":"call_%d",%s"name":%q,"arguments":%q}`, time.Now().UnixNano(), namespace, s.tool, s.arguments)
	}
	answer("event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n")
	answer("event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":%s}\n\n", item)
	answer("event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"output\":[%s],\"usage\":{\"input_tokens\":1,\"output_tokens\":1,\"total_tokens\":2}}}\n\n", item)
}

// messages answers in the form of Anthropic's messages.
func (s step) messages(answer func(string, ...any), stream bool) {
	block, delta, reason := `{"type":"text","text":""}`, `{"type":"text_delta","text":"done"}`, "end_turn"
	if s.tool != "" {
		block = fmt.Sprintf(`{"type":"tool_use","id":"toolu_%d","name":%q,"input":{}}`, time.Now().UnixNano(), s.tool)
		delta, reason = fmt.Sprintf(`{"type":"input_json_delta","partial_json":%q}`, s.arguments), "tool_use"
	}
	const head = `"id":"msg","type":"message","role":"assistant","model":"stand-in","usage":{"input_tokens":1,"output_tokens":1}`
	if !stream {
		content := `{"type":"text","text":"done"}`
		if s.tool != "" {
			content = strings.Replace(block, `"input":{}`, `"input":`+s.arguments, 1)
		}
		answer(`{%s,"content":[%s],"stop_reason":%q}`, head, content, reason)
		return
	}
	for _, event := range []string{
		`{"type":"message_start","message":{` + head + `,"content":[],"stop_reason":null}}`,
		`{"type":"content_block_start","index":0,"content_block":` + block + `}`,
		`{"type":"content_block_delta","index":0,"delta":` + delta + `}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"` + reason + `"},"usage":{"output_tokens":1}}`,
		`{"type":"message_stop"}`,
	} {
		var kind struct{ Type string }
		json.Unmarshal([]byte(event), &kind)
		answer("event: %s\ndata: %s\n\n", kind.Type, event)
	}
}

// content answers in the form of Google's generateContent.
func (s step) content(answer func(string, ...any), stream bool) {
	part := `{"text":"done"}`
	if s.tool != "" {
		part = fmt.Sprintf(`{"functionCall":{"name":%q,"args":%s}}`, s.tool, s.arguments)
	}
	line := `{"candidates":[{"content":{"role":"model","parts":[` + part + `]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}`
	if stream {
		line = "data: " + line + "\n\n"
	}
	answer("%s", line)
}
