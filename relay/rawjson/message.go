package rawjson

import (
	"bytes"
	"fmt"
	"strconv"
)

// MaxMethod is the longest name of a method that Parse decodes, in bytes of its raw string.
const MaxMethod = 8 << 10

// bom is the UTF-8 byte order mark. Some servers put it before a body.
var bom = []byte("\xef\xbb\xbf")

// Kind says what a Message is (JSON-RPC 2.0, sections 4 to 6).
type Kind int

const (
	// Invalid is JSON, but no JSON-RPC message.
	Invalid Kind = iota
	// Request has a method and an id.
	Request
	// Notification has a method and no id.
	Notification
	// Response has an id, and a result or an error.
	Response
	// Batch is an array of messages, which Elements yields. Of MCP's revisions only 2025-03-26 has
	// it.
	Batch
)

// Message is one JSON-RPC message: its bytes as they came, and its members as parts of these. All
// members but Method are raw and share the memory of Raw.
type Message struct {
	// Raw is the whole message. It is one line, and has neither a byte order mark nor white space
	// around it. Its capacity is not cut: whoever owns the text may append a newline to Raw in
	// place.
	Raw []byte
	// Kind says which of the members below mean something.
	Kind Kind
	// ID is the id. Nil means that there is none.
	ID []byte
	// Method is the decoded name of the method. It is "" if there is none, or if it is no string of
	// at most MaxMethod bytes.
	Method string
	// Params are the parameters. Nil means that there are none.
	Params []byte
	// Result is the result. Nil means that there is none; the JSON value null is not nil.
	Result []byte
}

// SyntaxError says where a text stops being JSON. It never quotes the text, which may hold secrets.
type SyntaxError struct {
	// Offset is the index of the byte that was not expected.
	Offset int

	what string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("not JSON at byte %d: %s", e.Offset, e.what) }

// Parse checks that b is one JSON text and finds the members of a message in it. The message shares
// the memory of b, unless there are line breaks between tokens: Parse drops these, in a copy. Where
// a key repeats, its last value counts, as in most decoders. The error is always a *SyntaxError.
func Parse(b []byte) (Message, error) {
	s := &scanner{b: b}
	if bytes.HasPrefix(b, bom) {
		s.i = len(bom)
	}
	m, err := s.message()
	if err == nil && s.breaks {
		// A line break inside a string is an error, so each of them lies between two tokens.
		m, err = (&scanner{b: dropBreaks(m.Raw)}).message()
	}
	return m, err
}

// message scans the rest of the text, which has to be one value, and finds the members of a message
// in it.
func (s *scanner) message() (Message, error) {
	m := Message{}
	hasError := false
	s.space()
	start := s.i
	s.breaks = false
	var err error
	switch s.peek() {
	case '{':
		err = s.object(1, func(key, val []byte) bool {
			switch {
			case isKey(key, "id"):
				m.ID = val
			case isKey(key, "method"):
				m.Method = ""
				if val[0] == '"' && len(val) <= MaxMethod {
					m.Method = Text(val)
				}
			case isKey(key, "params"):
				m.Params = val
			case isKey(key, "result"):
				m.Result = val
			case isKey(key, "error"):
				hasError = true
			}
			return true
		})
	case '[':
		m.Kind = Batch
		err = s.array(1, nil)
	default:
		err = s.value(1)
	}
	if err != nil {
		return Message{}, err
	}
	end, within := s.i, s.breaks
	if s.space(); s.i < len(s.b) {
		return Message{}, s.fail("text after the value")
	}
	s.breaks = within // those behind the value do not count
	m.Raw = s.b[start:end]
	switch {
	case m.Kind == Batch:
	case m.Method != "" && m.ID != nil:
		if ValidID(m.ID) {
			m.Kind = Request
		}
	case m.Method != "":
		m.Kind = Notification
	case m.ID != nil && (m.Result != nil || hasError):
		m.Kind = Response
	}
	return m, nil
}

// dropBreaks returns a copy of b without its line breaks.
func dropBreaks(b []byte) []byte {
	out := make([]byte, 0, len(b)+1) // whoever writes the line may append a newline in place
	for line := range bytes.Lines(b) {
		for part := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'}) {
			out = append(out, part...)
		}
	}
	return out
}

// ValidID reports whether the raw value may be the id of a request. MCP allows a string or a
// number, and not null. We allow at most MaxID bytes.
func ValidID(raw []byte) bool {
	return len(raw) <= MaxID && (raw[0] == '"' || raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

// IDKey returns the same string for every spelling of an id: "\u0061" and "a" are one id, and so
// are 1 and 1.0, but 1 and "1" are two. Integers are compared digit by digit, so that ids above
// 2^53 stay apart.
func IDKey(raw []byte) string {
	if raw[0] == '"' {
		return `"` + Text(raw)
	}
	if bytes.ContainsAny(raw, ".eE") {
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
	}
	return string(raw)
}
