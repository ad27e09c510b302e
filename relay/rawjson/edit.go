package rawjson

import "bytes"

// Set returns a copy of the raw object obj in which the value at the path of keys is the raw val.
// It makes the objects that are missing on the path, and puts an object in place of a value on the
// path that is none. Where a key repeats, its last value is replaced, as that is the one that
// [Member] finds. Every other byte stays as it is, but white space around obj goes.
func Set(obj, val []byte, path ...string) []byte {
	obj = bytes.Trim(obj, " \t")
	lo, hi := 0, len(obj) // obj[lo:hi] is the value at the part of the path so far
	for i, key := range path {
		start, end, found := locate(obj[lo:hi], key)
		if found && (i == len(path)-1 || obj[lo+start] == '{') {
			lo, hi = lo+start, lo+end
			continue
		}
		for j := len(path) - 1; j > i; j-- {
			val = ObjectOf(path[j], val)
		}
		if found {
			lo, hi = lo+start, lo+end
			break
		}
		// A new member goes behind the others.
		added := ObjectOf(key, val)
		val = added[1 : len(added)-1]
		if len(bytes.TrimSpace(obj[lo+1:hi-1])) > 0 {
			val = append([]byte{','}, val...)
		}
		lo, hi = hi-1, hi-1
		break
	}
	out := make([]byte, 0, len(obj)-(hi-lo)+len(val)+1) // whoever writes the line may append a newline in place
	return append(append(append(out, obj[:lo]...), val...), obj[hi:]...)
}

// locate returns where the value of a key lies in the raw object obj. Where the key repeats, its
// last value counts.
func locate(obj []byte, key string) (start, end int, found bool) {
	if len(obj) == 0 || obj[0] != '{' {
		return 0, 0, false
	}
	s := scanner{b: obj}
	err := s.object(1, func(k, val []byte) bool {
		if isKey(k, key) {
			start, end, found = s.i-len(val), s.i, true
		}
		return true
	})
	return start, end, found && err == nil
}

// Edit calls f with each value that key has in the object, which may be several where the key
// repeats. It returns a copy of the object in which each value for which f returned something is
// replaced by that. It returns nil if f never did, or if object is any other JSON text. object may
// have white space before it.
func Edit(object []byte, key string, f func(val []byte) []byte) []byte {
	s := scanner{b: object}
	s.space()
	if s.peek() != '{' {
		return nil
	}
	var out []byte
	done := 0 // out stands for object[:done]
	s.object(1, func(k, val []byte) bool {
		if !isKey(k, key) {
			return true
		}
		if replacement := f(val); replacement != nil {
			out = append(append(out, object[done:s.i-len(val)]...), replacement...)
			done = s.i
		}
		return true
	})
	if out == nil {
		return nil
	}
	return append(out, object[done:]...)
}
