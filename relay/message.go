package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// bom is the UTF-8 byte order mark, which some servers put before a body.
var bom = []byte("\xef\xbb\xbf")

type kind int

const (
	invalid      kind = iota // JSON, but no JSON-RPC message
	request                  // method and id
	notification             // method
	response                 // id and result or error
	batch                    // an array of the others, 2025-03-26 only
)

// message is one JSON-RPC message: its bytes as they came and where the few members lie that the relay looks at.
// Nothing is decoded that is not asked for.
type message struct {
	raw    []byte // one line: no byte order mark, no line break
	kind   kind
	id     []byte   // raw JSON
	method string   // decoded
	params []byte   // raw JSON
	result []byte   // raw JSON
	elems  [][]byte // a batch's elements, raw JSON
}

// syntaxError says where a text stops being JSON. It never holds the text.
type syntaxError struct {
	off  int
	what string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("not JSON at byte %d: %s", e.off, e.what) }

// parse checks that b is one JSON text and finds the members of a message in it. The result shares b's memory, unless there were line breaks
// between the tokens, which are dropped. The error is always a *syntaxError. Where a key repeats the last one counts, as in most decoders.
func parse(b []byte) (message, error) { return parseAll(&scanner{b: b}) }

// parseAll is parse for what s, which stands at the beginning, gets.
func parseAll(s *scanner) (message, error) {
	if s.peek() == bom[0] {
		for i := range bom {
			if s.peek() != bom[i] {
				return message{}, s.fail("no value")
			}
			s.i++
		}
	}
	m, err := scan(s)
	if err == nil && s.breaks {
		// Inside a string a line break is an error, so every one here lies between tokens.
		m, err = scan(&scanner{b: dropBreaks(m.raw)})
	}
	return m, err
}

// scan finds the members of the message that s stands before, and takes all to the end. White space around the message goes.
func scan(s *scanner) (message, error) {
	m := message{}
	hasError := false
	s.space()
	start := s.i
	s.breaks = false
	var err error
	switch s.peek() {
	case '{':
		err = s.object(1, func(key string, val []byte) {
			switch key {
			case "id":
				m.id = val
			case "method":
				m.method = ""
				if val[0] == '"' {
					m.method = text(val)
				}
			case "params":
				m.params = val
			case "result":
				m.result = val
			case "error":
				hasError = true
			}
		})
	case '[':
		m.kind = batch
		err = s.array(1, func(val []byte) { m.elems = append(m.elems, val) })
	default:
		err = s.value(1)
	}
	if err != nil {
		return message{}, err
	}
	end, within := s.i, s.breaks
	if s.space(); s.i < len(s.b) {
		return message{}, s.fail("text after the value")
	}
	s.breaks = within
	m.raw = s.b[start:end]
	switch {
	case m.kind == batch:
	case m.method != "" && m.id != nil:
		if validID(m.id) {
			m.kind = request
		}
	case m.method != "":
		m.kind = notification
	case m.id != nil && (m.result != nil || hasError):
		m.kind = response
	}
	return m, nil
}

// validID reports whether raw may name a request: a string or a number, never null.
func validID(raw []byte) bool {
	return raw[0] == '"' || raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'
}

// idKey maps every spelling of an id to one string: "\u0061" and "a" are one, 1 and 1.0 too, 1 and "1" are not.
// Integers are compared digit by digit, so ids above 2^53 stay apart.
func idKey(raw []byte) string {
	if raw[0] == '"' {
		return `"` + text(raw)
	}
	if bytes.ContainsAny(raw, ".eE") {
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
	}
	return string(raw)
}

// progressKey is the idKey of the progressToken in params, or in the member of params at path; "" if there is none.
func progressKey(params []byte, path ...string) string {
	if t := member(params, append(path, "progressToken")...); t != nil && validID(t) {
		return idKey(t)
	}
	return ""
}

// text decodes a JSON string that the scanner has accepted.
func text(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var t string
	if json.Unmarshal(raw, &t) != nil {
		return ""
	}
	return t
}

// member returns the raw value at the path of keys inside the object obj; nil if it is not there.
func member(obj []byte, path ...string) []byte {
	for _, want := range path {
		if len(obj) == 0 || obj[0] != '{' {
			return nil
		}
		var found []byte
		s := scanner{b: obj}
		if s.object(1, func(key string, val []byte) {
			if key == want {
				found = val
			}
		}) != nil {
			return nil
		}
		obj = found
	}
	return obj
}

// memberText is member for a string; "" if it is absent or something else.
func memberText(obj []byte, path ...string) string {
	if v := member(obj, path...); len(v) > 0 && v[0] == '"' {
		return text(v)
	}
	return ""
}

// dropBreaks returns b without its line breaks.
func dropBreaks(b []byte) []byte {
	out := make([]byte, 0, len(b)+1) // a byte is left for the writer's newline
	for line := range bytes.Lines(b) {
		for part := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'}) {
			out = append(out, part...)
		}
	}
	return out
}
