package rawjson

import (
	"bytes"
	"encoding/json"
	"iter"
)

// Text decodes a raw string.
func Text(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var t string
	if json.Unmarshal(raw, &t) != nil {
		return ""
	}
	return t
}

// Member returns the raw value at the path of keys inside the raw object obj, and nil if it is not
// there. Where a key repeats, its last value counts.
func Member(obj []byte, path ...string) []byte {
	for _, want := range path {
		if len(obj) == 0 || obj[0] != '{' {
			return nil
		}
		var found []byte
		s := scanner{b: obj}
		if s.object(1, func(key, val []byte) bool {
			if isKey(key, want) {
				found = val
			}
			return true
		}) != nil {
			return nil
		}
		obj = found
	}
	return obj
}

// MemberText is Member for a string, which it decodes. It returns "" if there is no value, or one
// that is no string.
func MemberText(obj []byte, path ...string) string {
	if v := Member(obj, path...); len(v) > 0 && v[0] == '"' {
		return Text(v)
	}
	return ""
}

// Members yields the decoded key and the raw value of each member of the raw object obj, in their
// order. A repeated key comes repeatedly. Anything but an object has no members.
func Members(obj []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if len(obj) == 0 || obj[0] != '{' {
			return
		}
		s := scanner{b: obj}
		s.object(1, func(key, val []byte) bool { return yield(Text(key), val) })
	}
}

// Values yields the raw values that the key has in the raw object obj, in their order. There are
// several where the key repeats.
func Values(obj []byte, key string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(obj) == 0 || obj[0] != '{' {
			return
		}
		s := scanner{b: obj}
		s.object(1, func(k, val []byte) bool { return !isKey(k, key) || yield(val) })
	}
}

// Elements yields the raw elements of the raw array, in their order. Anything but an array has
// none. There is no function that returns them all: a slice of them would take 24 bytes for each,
// where an element may have two.
func Elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(array) > 0 && array[0] == '[' {
			s := scanner{b: array}
			s.array(1, yield)
		}
	}
}

// Texts returns the decoded strings among the first max elements of the raw array.
func Texts(array []byte, max int) (all []string) {
	for v := range Elements(array) {
		if max--; max < 0 {
			break
		}
		if v[0] == '"' {
			all = append(all, Text(v))
		}
	}
	return all
}

// Filter returns a copy of the raw array with those elements for which keep returns true. It
// returns nil if these are all. keep is called twice with some elements.
func Filter(array []byte, keep func(element []byte) bool) []byte {
	all := true
	for v := range Elements(array) {
		if all = keep(v); !all {
			break
		}
	}
	if all {
		return nil
	}
	out := append(make([]byte, 0, len(array)), '[')
	for v := range Elements(array) {
		if !keep(v) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return append(out, ']')
}

// TextPrefix decodes at most the first max bytes of a raw string.
func TextPrefix(raw []byte, max int) string {
	if len(raw)-2 <= max {
		return Text(raw)
	}
	for end := max + 1; end > 0; end-- { // the cut may be inside an escape
		s := scanner{b: append(raw[:end:end], '"')}
		if s.str() == nil && s.i == len(s.b) {
			return Text(s.b)
		}
	}
	return ""
}

// Quote returns s as a raw string. A byte that is not UTF-8 becomes the replacement character.
func Quote(s string) []byte {
	b, _ := json.Marshal(s) // cannot fail
	return b
}

// ObjectOf returns a raw object with one member.
func ObjectOf(key string, val []byte) []byte {
	out := append([]byte{'{'}, Quote(key)...)
	return append(append(append(out, ':'), val...), '}')
}

// ArrayOf returns a raw array with the given raw elements.
func ArrayOf(vals [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(vals, []byte{','})...), ']')
}

// Join returns a raw array with the elements of two. It takes anything but an array for an empty
// one.
func Join(a, b []byte) []byte {
	out := []byte{'['}
	for _, array := range [][]byte{a, b} {
		for range Elements(array) {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, array[1:len(array)-1]...)
			break
		}
	}
	return append(out, ']')
}

// Append returns a copy of the raw array with the raw val as its last element. It takes anything
// but an array for an empty one.
func Append(array, val []byte) []byte {
	return Join(array, ArrayOf([][]byte{val}))
}
