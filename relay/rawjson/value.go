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
		s, left := scanner{b: obj}, false
		s.object(1, func(key string, val []byte) { left = left || !yield(key, val) })
	}
}

// Elements returns the raw elements of the raw array. Anything but an array has none.
func Elements(array []byte) (all [][]byte) {
	if len(array) > 0 && array[0] == '[' {
		s := scanner{b: array}
		s.array(1, func(val []byte) { all = append(all, val) })
	}
	return all
}

// Texts returns the decoded strings of the raw array, and leaves out its other elements.
func Texts(array []byte) (all []string) {
	for _, v := range Elements(array) {
		if v[0] == '"' {
			all = append(all, Text(v))
		}
	}
	return all
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
