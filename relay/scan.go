package relay

import (
	"encoding/binary"
	"math/bits"
)

// maxDepth is how deep a message may nest, as in encoding/json.
const maxDepth = 10000

// scanner walks over one JSON text (RFC 8259) without decoding it. It is strict about everything but UTF-8: a byte
// above 0x7f inside a string is passed on as it came.
type scanner struct {
	b      []byte
	i      int
	breaks bool // a line break was seen between tokens
	// more returns b with what comes after it, in other memory where it has grown; nothing: b is the whole text. nil: it is.
	more func(b []byte) []byte
}

func (s *scanner) fail(what string) error { return &syntaxError{s.i, what} }

// peek returns the byte at hand; 0, which no JSON token begins with, at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return s.peekMore()
}

// peekMore is peek at the end of what has come.
func (s *scanner) peekMore() byte {
	if s.more == nil {
		return 0
	}
	b := s.more(s.b)
	if len(b) == len(s.b) {
		s.more = nil
		return 0
	}
	s.b = b
	return s.b[s.i]
}

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

// object walks over an object and gives f, if there is one, every decoded key with its raw value.
func (s *scanner) object(depth int, f func(key string, val []byte)) error {
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
		if f != nil {
			f(text(key), s.b[v:s.i:s.i])
		}
		return nil
	})
}

// array walks over an array and gives f, if there is one, every raw element. The elements' capacity is cut, so that
// appending to one cannot reach into the next.
func (s *scanner) array(depth int, f func(val []byte)) error {
	return s.list(depth, ']', func() error {
		v := s.i
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if f != nil {
			f(s.b[v:s.i:s.i])
		}
		return nil
	})
}

// list walks from the opening bracket at hand over comma-separated items to the byte after end.
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

// str walks over the string at hand, 32 bytes at a time: large results are mostly one long string.
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

// special looks at the first eight bytes of b. The lowest bit set in what it returns is in the first byte that is a quote, a backslash or a
// control character; those above it mean nothing.
func special(b []byte) uint64 {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	w := binary.LittleEndian.Uint64(b)
	low := w ^ lo*0x02 // swaps space and quote, so that the quote is the next after the control characters
	esc := w ^ lo*'\\'
	return ((low-lo*0x21)&^low | (esc-lo)&^esc) & hi
}

func (s *scanner) escape() error {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		// Whether surrogates pair up is not asked: a lone one goes through as it came.
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

func (s *scanner) word(w string) error {
	for i := range len(w) {
		if s.peek() != w[i] {
			return s.fail("no value")
		}
		s.i++
	}
	return nil
}

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

func (s *scanner) digits() bool {
	start := s.i
	for s.peek() >= '0' && s.peek() <= '9' {
		s.i++
	}
	return s.i > start
}
