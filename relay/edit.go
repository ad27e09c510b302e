package relay

import (
	"bytes"
	"encoding/json"
)

// locate returns where the value of a key lies in the raw object obj. Where a key repeats the last one counts, as in member.
func locate(obj []byte, key string) (start, end int, found bool) {
	if len(obj) == 0 || obj[0] != '{' {
		return 0, 0, false
	}
	s := scanner{b: obj}
	err := s.object(1, func(k string, val []byte) {
		if k == key {
			start, end, found = s.i-len(val), s.i, true
		}
	})
	return start, end, found && err == nil
}

// set returns a copy of the raw object obj, which the scanner has accepted, with the raw value val at the path of keys. Objects
// that are missing on the way are made; every byte outside the value stays as it is, but white space around obj goes.
func set(obj, val []byte, path ...string) []byte {
	obj = bytes.Trim(obj, " \t")
	lo, hi := 0, len(obj)
	for i, key := range path {
		start, end, found := locate(obj[lo:hi], key)
		if found && (i == len(path)-1 || obj[lo+start] == '{') {
			lo, hi = lo+start, lo+end
			continue
		}
		for j := len(path) - 1; j > i; j-- {
			val = wrap(path[j], val)
		}
		if found {
			lo, hi = lo+start, lo+end
			break
		}
		// A new member goes behind the others.
		added := wrap(key, val)
		val = added[1 : len(added)-1]
		if len(bytes.TrimSpace(obj[lo+1:hi-1])) > 0 {
			val = append([]byte{','}, val...)
		}
		lo, hi = hi-1, hi-1
		break
	}
	out := make([]byte, 0, len(obj)-(hi-lo)+len(val)+1) // a byte is left for the writer's newline
	return append(append(append(out, obj[:lo]...), val...), obj[hi:]...)
}

// edit returns object with each value of key replaced by what f returns for it, where that is not nil; nil: there was none. object
// may be any JSON text.
func edit(object []byte, key string, f func(val []byte) []byte) []byte {
	s := scanner{b: object}
	s.space()
	if s.peek() != '{' {
		return nil
	}
	var out []byte // the object up to done, as it is now
	done := 0
	s.object(1, func(k string, val []byte) {
		if k != key {
			return
		}
		if now := f(val); now != nil { // s stands behind val
			out = append(append(out, object[done:s.i-len(val)]...), now...)
			done = s.i
		}
	})
	if out == nil {
		return nil
	}
	return append(out, object[done:]...)
}

// quote returns the raw JSON string of s.
func quote(s string) []byte {
	b, _ := json.Marshal(s) // cannot fail
	return b
}

// wrap returns the object whose only member is val.
func wrap(key string, val []byte) []byte {
	out := append([]byte{'{'}, quote(key)...)
	return append(append(append(out, ':'), val...), '}')
}

// arrayOf returns the raw array of the raw values.
func arrayOf(vals [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(vals, []byte{','})...), ']')
}
