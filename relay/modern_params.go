package relay

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"sallyport/relay/rawjson"
)

// The header of a modern request repeats parts of its body (2026-07-28,
// basic/transports/streamable-http, "Request Metadata").

// header returns the header of the POST that carries req in the given protocol version.
func (m *modern) header(req rawjson.Message, version string) http.Header {
	h := m.userHeader()
	h["Content-Type"] = []string{"application/json"}
	h["Accept"] = []string{"application/json, text/event-stream"}
	h["Mcp-Protocol-Version"] = []string{encodeValue(version)}
	h["Mcp-Method"] = []string{encodeValue(req.Method)}
	switch req.Method {
	case "tools/call":
		name := rawjson.MemberText(req.Params, "name")
		h["Mcp-Name"] = []string{encodeValue(name)}
		for _, p := range m.tools.mirrored(name) {
			if v, ok := headerText(rawjson.Member(req.Params, append([]string{"arguments"}, p.path...)...)); ok {
				h.Set("Mcp-Param-"+p.header, encodeValue(v))
			}
		}
	case "prompts/get":
		h["Mcp-Name"] = []string{encodeValue(rawjson.MemberText(req.Params, "name"))}
	case "resources/read":
		h["Mcp-Name"] = []string{encodeValue(rawjson.MemberText(req.Params, "uri"))}
	case "tasks/get", "tasks/update", "tasks/cancel": // of the extension io.modelcontextprotocol/tasks
		if id := rawjson.MemberText(req.Params, "taskId"); id != "" {
			h["Mcp-Name"] = []string{encodeValue(id)}
		}
	}
	return h
}

const (
	sentinelStart = "=?base64?"
	sentinelEnd   = "?="
)

// encodeValue makes s fit for a header ("Value Encoding"). Plain ASCII without white space at its
// ends stays as it is, and everything else becomes Base64 between the sentinels.
func encodeValue(s string) string {
	plain := s == strings.TrimSpace(s) && !(strings.HasPrefix(s, sentinelStart) && strings.HasSuffix(s, sentinelEnd))
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] <= '~'
	}
	if plain {
		return s
	}
	return sentinelStart + base64.StdEncoding.EncodeToString([]byte(s)) + sentinelEnd
}

// headerText is the text of a raw argument in a header. It reports false if the argument goes in no
// header. The type of the value decides, and not the one that the schema asks for, because the
// server compares header and value before it looks at the schema.
func headerText(raw []byte) (string, bool) {
	if len(raw) == 0 {
		return "", false
	}
	switch raw[0] {
	case '"':
		return rawjson.Text(raw), true
	case 't', 'f':
		return string(raw), true
	case 'n', '{', '[':
		return "", false
	}
	if !strings.ContainsAny(string(raw), ".eE") {
		return string(raw), true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return "", false
	}
	return strconv.FormatFloat(f, 'f', 0, 64), true
}

// mirroredParam is a parameter of a tool that is repeated in the header Mcp-Param-{header}.
type mirroredParam struct {
	header string
	// path is the path of keys in the arguments.
	path []string
}

const (
	// maxToolMemory is how many bytes the tools with mirrored parameters may take that are
	// remembered. Parameters of a tool beyond that are not repeated in headers.
	maxToolMemory = 4 << 20
	// maxMarks is how many parameters of one tool may be marked. They all have to fit into the
	// header of one request.
	maxMarks = 100
	// maxSchemaDepth is how deep a schema is looked at. Deeper down there may be no marks.
	maxSchemaDepth = 64
)

// toolHeaders knows the mirrored parameters of the tools in the lists that have passed by. The zero
// value knows none.
type toolHeaders struct {
	mu     sync.Mutex
	byName map[string][]mirroredParam
	// size is about how many bytes byName takes.
	size int
}

// sizeOf is about how many bytes the entry of one tool takes in memory.
func sizeOf(tool string, params []mirroredParam) int {
	n := len(tool) + 100
	for _, p := range params {
		n += len(p.header) + 100
		for _, key := range p.path {
			n += len(key) + 20
		}
	}
	return n
}

// mirrored returns the mirrored parameters of a tool.
func (t *toolHeaders) mirrored(tool string) []mirroredParam {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byName[tool]
}

// learn notes what a tool's raw definition says. The error says why the definition is invalid.
func (t *toolHeaders) learn(tool []byte) error {
	params, err := mirroredParams(rawjson.Member(tool, "inputSchema"))
	name := rawjson.MemberText(tool, "name")
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, known := t.byName[name]; known {
		t.size -= sizeOf(name, old)
		delete(t.byName, name)
	}
	if size := sizeOf(name, params); err == nil && len(params) > 0 && t.size+size <= maxToolMemory {
		if t.byName == nil {
			t.byName = map[string][]mirroredParam{}
		}
		t.byName[name] = params
		t.size += size
	}
	return err
}

// mirroredParams finds the parameters marked x-mcp-header in a raw input schema.
func mirroredParams(schema []byte) ([]mirroredParam, error) {
	if !bytes.Contains(schema, []byte("x-mcp-header")) && !bytes.ContainsRune(schema, '\\') {
		return nil, nil // no mark, not even one that is spelled with escapes
	}
	w := schemaWalk{seen: map[string]bool{}}
	w.schema(schema, nil, true)
	return w.found, w.err
}

// schemaWalk looks through an input schema for marks.
type schemaWalk struct {
	found []mirroredParam
	// seen has the names of headers so far, in lower case.
	seen map[string]bool
	// err is the first one.
	err error
	// depth is how many values the one that is being looked at lies in.
	depth int
}

// enter goes one level down, and reports false if that is too deep. Each level is scanned for the
// keys of its own, so that a value at depth n is scanned n times.
func (w *schemaWalk) enter() bool {
	w.depth++
	return w.depth <= maxSchemaDepth && w.err == nil
}

func (w *schemaWalk) leave() { w.depth-- }

// schema looks through one schema. reachable says that only keys of properties led here from the
// root, by path.
func (w *schemaWalk) schema(raw []byte, path []string, reachable bool) {
	defer w.leave()
	if !w.enter() || len(raw) == 0 || raw[0] != '{' {
		return
	}
	var mark, kind []byte
	for key, val := range rawjson.Members(raw) {
		switch key {
		case "x-mcp-header":
			mark = val
		case "type":
			kind = val
		case "const", "default", "enum", "examples":
			// This is data and no schema.
		case "properties":
			w.named(val, path, reachable)
		case "patternProperties", "$defs", "definitions", "dependentSchemas":
			w.named(val, path, false)
		default:
			w.anywhere(val, path)
		}
	}
	if mark != nil {
		w.mark(mark, kind, path, reachable)
	}
}

// named looks through an object whose values are schemas.
func (w *schemaWalk) named(raw []byte, path []string, reachable bool) {
	for key, val := range rawjson.Members(raw) {
		w.schema(val, append(path[:len(path):len(path)], key), reachable)
	}
}

// anywhere looks through the value of a keyword that may hold schemas. They are not reachable.
func (w *schemaWalk) anywhere(raw []byte, path []string) {
	defer w.leave()
	switch {
	case !w.enter():
	case raw[0] == '{':
		w.schema(raw, path, false)
	case raw[0] == '[':
		for val := range rawjson.Elements(raw) {
			w.anywhere(val, path)
		}
	}
}

// mark checks one mark and notes it. kind is the raw type of the schema that it stands in.
func (w *schemaWalk) mark(raw, kind []byte, path []string, reachable bool) {
	fail := func(format string, args ...any) {
		if w.err == nil {
			w.err = fmt.Errorf("x-mcp-header %q: %s", excerpt(string(raw[:min(len(raw), maxShown)]), 80), fmt.Sprintf(format, args...))
		}
	}
	if raw[0] != '"' {
		fail("not a string")
		return
	}
	name := shortText(raw)
	switch low := strings.ToLower(name); {
	case !isToken(name):
		fail("not a header name")
	case w.seen[low]:
		fail("used twice")
	case len(w.found) == maxMarks:
		fail("more than %d in one tool", maxMarks)
	case !reachable || len(path) == 0:
		fail("not on a parameter that properties alone lead to")
	case !mirrorable(kind):
		fail("on a parameter that is neither string nor integer nor boolean")
	default:
		w.seen[low] = true
		w.found = append(w.found, mirroredParam{name, path})
	}
}

// mirrorable reports whether kind, the raw type of a schema, fits into a header. It may be a list
// of such a type and null, which stands for an absent value.
func mirrorable(kind []byte) bool {
	if len(kind) > 0 && kind[0] == '[' {
		var other []byte
		for val := range rawjson.Elements(kind) {
			switch {
			case string(val) == `"null"`:
			case other != nil:
				return false
			default:
				other = val
			}
		}
		kind = other
	}
	switch string(kind) {
	case `"string"`, `"integer"`, `"boolean"`:
		return true
	}
	return false
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
