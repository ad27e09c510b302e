package relay

import (
	"bytes"
)

// maxID is the longest id, in bytes, that is taken from a message too large to keep.
const maxID = 1 << 10

// idFinder finds the top-level id of an object that comes in pieces and is not kept. It is lenient: on text that is not
// JSON it finds nothing of use, and no harm is done.
type idFinder struct {
	id       []byte // raw JSON of the last "id" that is a string or a number
	depth    int
	str, esc bool
	afterKey bool   // at depth 1, between a colon and the comma
	key      string // decoded, the last one at depth 1
	tok      []byte // the scalar being read at depth 1
}

func (f *idFinder) feed(b []byte) {
	for _, c := range b {
		if f.depth == 1 && (f.str || c == '"' || f.afterKey && c > ' ' && c != ',' && c != '}') && len(f.tok) <= maxID {
			f.tok = append(f.tok, c)
		}
		switch {
		case f.esc:
			f.esc = false
		case f.str && c == '\\':
			f.esc = true
		case c == '"':
			f.str = !f.str
		case f.str:
		case c == '{' || c == '[':
			f.depth++
			if f.depth == 1 {
				f.tok = f.tok[:0]
			}
		case c == ':' && f.depth == 1:
			if f.key = ""; len(f.tok) > 1 && len(f.tok) <= maxID {
				f.key = text(f.tok)
			}
			f.tok, f.afterKey = f.tok[:0], true
		case c == ',' && f.depth == 1:
			f.end()
		case c == '}' || c == ']':
			if f.depth == 1 {
				f.end()
			}
			f.depth--
		}
	}
}

// end closes one member of the top-level object.
func (f *idFinder) end() {
	if f.afterKey && f.key == "id" && len(f.tok) > 0 && len(f.tok) <= maxID {
		if s := (&scanner{b: f.tok}); validID(f.tok) && s.value(1) == nil && s.i == len(f.tok) {
			f.id = bytes.Clone(f.tok)
		}
	}
	f.tok, f.key, f.afterKey = f.tok[:0], "", false
}
