package rawjson

import "bytes"

// MaxID is the longest id, in bytes, that is taken for one. Every id is copied, compared and kept
// in a table, so a long one would cost much.
const MaxID = 8 << 10

// IDFinder finds the id of a message that comes in pieces and is too large to keep. It does not
// check the text: of one that is not JSON it may find anything, or nothing. The zero value is ready
// for use by one goroutine.
type IDFinder struct {
	id    []byte
	depth int
	// str says that the last byte lies in a string, esc that it is a backslash in one.
	str, esc bool
	// afterKey says that the last byte lies at depth 1, behind a colon and before the comma.
	afterKey bool
	// key is the last key at depth 1, decoded.
	key string
	// tok is the string or the other scalar at depth 1 that is being read. More than MaxID bytes of
	// it are not kept.
	tok []byte
}

// ID returns the raw value of the last "id" of the top-level object so far, if it is one that a
// request may have, else nil.
func (f *IDFinder) ID() []byte { return f.id }

// Feed takes the next piece of the text. It does not keep b.
func (f *IDFinder) Feed(b []byte) {
	for _, c := range b {
		if f.depth == 1 && (f.str || c == '"' || f.afterKey && c > ' ' && c != ',' && c != '}') && len(f.tok) <= MaxID {
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
			if f.key = ""; len(f.tok) > 1 && len(f.tok) <= MaxID {
				f.key = Text(f.tok)
			}
			f.tok, f.afterKey = f.tok[:0], true
		case c == ',' && f.depth == 1:
			f.endMember()
		case c == '}' || c == ']':
			if f.depth == 1 {
				f.endMember()
			}
			f.depth--
		}
	}
}

// endMember takes the end of a member of the top-level object.
func (f *IDFinder) endMember() {
	if f.afterKey && f.key == "id" && len(f.tok) > 0 && len(f.tok) <= MaxID {
		if s := (&scanner{b: f.tok}); ValidID(f.tok) && s.value(1) == nil && s.i == len(f.tok) {
			f.id = bytes.Clone(f.tok)
		}
	}
	f.tok, f.key, f.afterKey = f.tok[:0], "", false
}
