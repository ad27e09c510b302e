package rawjson

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// maxDepth is how deep a text may nest. It is the same limit as in encoding/json.
const maxDepth = 10000

// scanner walks over one JSON text without decoding it. It is strict about everything but UTF-8: it
// does not look at the bytes above 0x7f inside a string.
type scanner struct {
	// b is the text, and i the index in it of the next byte to look at.
	b []byte
	i int
	// breaks says that there was a line break between two tokens.
	breaks bool
}

func (s *scanner) fail(what string) error { return &SyntaxError{s.i, what} }

// peek returns the next byte, or 0 at the end of the text. No JSON token begins with 0.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// space skips white space.
func (s *scanner) space() {
	for ; ; s.i++ {
		switch s.peek() {
		case ' ', '\t':
		case '\n', '\r':
			s.breaks = true
		default:
			return
		}
	}
}

// value skips one value. depth is how many objects and arrays it lies in, plus one.
func (s *scanner) value(depth int) error {
	switch c := s.peek(); c {
	case '{':
		return s.object(depth, nil)
	case '[':
		return s.array(depth, nil)
	case '"':
		return s.str()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return s.number()
		}
		return s.fail("no value")
	}
}

// errStopped ends a scan before its end, because nobody wants the rest.
var errStopped = errors.New("stopped")

// object skips an object. It calls f, if that is not nil, with the raw key and the raw value of
// each member. While f runs, s stands behind the value. If f returns false, object ends with
// errStopped.
//
// Keys are not decoded here: an object of 60 MiB may have ten million, and most of them mean
// nothing to us.
func (s *scanner) object(depth int, f func(key, val []byte) bool) error {
	return s.list(depth, '}', func() error {
		if s.peek() != '"' {
			return s.fail("no key")
		}
		k := s.i
		if err := s.str(); err != nil {
			return err
		}
		key := s.b[k:s.i]
		s.space()
		if s.peek() != ':' {
			return s.fail("no colon after a key")
		}
		s.i++
		s.space()
		v := s.i
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if f != nil && !f(key, s.b[v:s.i:s.i]) {
			return errStopped
		}
		return nil
	})
}

// isKey reports whether the raw string is key. It takes no memory for a key of ASCII, which all
// keys of the protocol are.
func isKey(raw []byte, key string) bool {
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text) == key
	}
	at := 0 // key[:at] is what text has brought so far
	for len(text) > 0 {
		if at == len(key) {
			return false
		}
		if key[at] >= utf8.RuneSelf {
			return len(text) <= 6*len(key) && Text(raw) == key
		}
		c, rest := asciiOf(text)
		if c != key[at] {
			return false
		}
		text, at = rest, at+1
	}
	return at == len(key)
}

// asciiOf decodes the first character of the inside of a raw string. It returns 0xff for one that
// is not ASCII.
func asciiOf(text []byte) (c byte, rest []byte) {
	if text[0] != '\\' {
		return text[0], text[1:]
	}
	switch c := text[1]; c {
	case 'b':
		return '\b', text[2:]
	case 'f':
		return '\f', text[2:]
	case 'n':
		return '\n', text[2:]
	case 'r':
		return '\r', text[2:]
	case 't':
		return '\t', text[2:]
	case 'u':
		code, _ := strconv.ParseUint(string(text[2:6]), 16, 16)
		if code >= utf8.RuneSelf {
			code = 0xff
		}
		return byte(code), text[6:]
	default:
		return c, text[2:]
	}
}

// array skips an array. It calls f, if that is not nil, with each raw element. If f returns false,
// array ends with errStopped.
func (s *scanner) array(depth int, f func(val []byte) bool) error {
	return s.list(depth, ']', func() error {
		v := s.i
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if f != nil && !f(s.b[v:s.i:s.i]) {
			return errStopped
		}
		return nil
	})
}

// list skips an opening bracket, items with commas between them, and the closing bracket end.
func (s *scanner) list(depth int, end byte, item func() error) error {
	if depth > maxDepth {
		return s.fail("nested too deep")
	}
	s.i++
	s.space()
	if s.peek() == end {
		s.i++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case end:
			s.i++
			return nil
		default:
			return s.fail("no comma or closing bracket")
		}
	}
}

// str skips a string. It looks at 32 bytes at a time, because a large result is mostly one long
// string.
func (s *scanner) str() error {
	s.i++
	for {
		for s.i+32 <= len(s.b) {
			b := s.b[s.i:][:32]
			if special(b[0:])|special(b[8:])|special(b[16:])|special(b[24:]) != 0 {
				break
			}
			s.i += 32
		}
		for s.i+8 <= len(s.b) {
			if stop := special(s.b[s.i:]); stop != 0 {
				s.i += bits.TrailingZeros64(stop) / 8
				break
			}
			s.i += 8
		}
		switch c := s.peek(); {
		case s.i >= len(s.b):
			return s.fail("string without an end")
		case c == '"':
			s.i++
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < 0x20:
			return s.fail("control character in a string")
		default:
			s.i++
		}
	}
}

// special looks for a quote, a backslash or a control character in the first eight bytes of b. It
// returns 0 if there is none. Otherwise the lowest bit that is set in the result lies in the first
// such byte; higher bits mean nothing.
func special(b []byte) uint64 {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	w := binary.LittleEndian.Uint64(b)
	low := w ^ lo*0x02 // swaps space and quote, so that the quote comes right after the control characters
	esc := w ^ lo*'\\'
	return ((low-lo*0x21)&^low | (esc-lo)&^esc) & hi
}

// escape skips a backslash and what it stands before.
func (s *scanner) escape() error {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		// A surrogate without its pair is let through, as the string is not decoded here.
		for range 4 {
			s.i++
			if c := s.peek() | 0x20; (c < '0' || c > '9' || s.peek() < '0') && (c < 'a' || c > 'f') {
				return s.fail("bad \\u escape")
			}
		}
		s.i++
		return nil
	}
	return s.fail("bad escape")
}

// word skips the literal w.
func (s *scanner) word(w string) error {
	for i := range len(w) {
		if s.peek() != w[i] {
			return s.fail("no value")
		}
		s.i++
	}
	return nil
}

// number skips a number.
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return s.fail("bad number")
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.fail("bad number")
		}
	}
	if s.peek()|0x20 == 'e' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.fail("bad number")
		}
	}
	return nil
}

// digits skips decimal digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.i
	for s.peek() >= '0' && s.peek() <= '9' {
		s.i++
	}
	return s.i > start
}
