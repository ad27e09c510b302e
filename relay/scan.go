package relay

import (
	"bytes"
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
}

func (s *scanner) fail(what string) error { return &syntaxError{s.i, what} }

// peek returns the byte at hand; 0, which no JSON token begins with, at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
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

// str walks over the string at hand, eight bytes at a time: large results are mostly one long string.
func (s *scanner) str() error {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	s.i++
	for {
		for s.i+8 <= len(s.b) {
			// The lowest high bit set in stop marks the first quote, backslash or control character.
			w := binary.LittleEndian.Uint64(s.b[s.i:])
			quote, esc := w^(lo*'"'), w^(lo*'\\')
			stop := ((w-lo*0x20)&^w | (quote-lo)&^quote | (esc-lo)&^esc) & hi
			if stop != 0 {
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
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return s.fail("no value")
	}
	s.i += len(w)
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
