package world

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxRequest is how many bytes of one request are read.
const maxRequest = 1 << 20

// practiceTools are the tools of Practice, as tools/list has them.
var practiceTools = []map[string]any{
	{"name": "greet", "description": "Greets somebody from behind two bastions", "inputSchema": map[string]any{
		"type": "object", "properties": map[string]any{"name": map[string]string{"type": "string"}}, "required": []string{"name"}}},
	{"name": "clock", "description": "Tells the time behind the bastions", "inputSchema": map[string]any{"type": "object"}},
}

// Practice is an MCP server with two tools (Streamable HTTP, revision 2025-06-18). It has no
// library behind it, because it is a part of the program that every MCP host starts.
func Practice(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Name      string `json:"name"`
			Arguments struct {
				Name string `json:"name"`
			} `json:"arguments"`
		} `json:"params"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&m); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted) // a notification
		return
	}
	answer := map[string]any{"jsonrpc": "2.0", "id": m.ID}
	text := ""
	switch m.Method + " " + m.Params.Name {
	case "initialize ":
		answer["result"] = map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{"tools": map[string]any{}},
			"serverInfo": map[string]string{"name": "practice", "version": "1.0.0"}}
	case "ping ":
		answer["result"] = map[string]any{}
	case "tools/list ":
		answer["result"] = map[string]any{"tools": practiceTools}
	case "tools/call greet":
		text = fmt.Sprintf("Hello %s, from behind two bastions", m.Params.Arguments.Name)
	case "tools/call clock":
		text = time.Now().Format(time.RFC1123)
	default:
		answer["error"] = map[string]any{"code": -32601, "message": "no such method or tool"}
	}
	if text != "" {
		answer["result"] = map[string]any{"content": []map[string]string{{"type": "text", "text": text}}}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}
