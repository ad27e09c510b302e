package rawjson

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		name, obj, val string
		path           []string
		want           string
	}{
		{"replaced", `{"a":1,"b":2}`, `3`, []string{"a"}, `{"a":3,"b":2}`},
		{"added", `{"a":1}`, `3`, []string{"b"}, `{"a":1,"b":3}`},
		{"added to nothing", `{ }`, `3`, []string{"b"}, `{ "b":3}`},
		{"deep", `{"a": {"b" : 1}, "c":0}`, `[2]`, []string{"a", "b"}, `{"a": {"b" : [2]}, "c":0}`},
		{"objects made on the way", `{"x":1}`, `2`, []string{"a", "b", "c"}, `{"x":1,"a":{"b":{"c":2}}}`},
		{"no object in the way", `{"a":null,"z":1}`, `2`, []string{"a", "b"}, `{"a":{"b":2},"z":1}`},
		{"the last of equal keys", `{"a":{"b":1},"a":{"b":1}}`, `2`, []string{"a", "b"}, `{"a":{"b":1},"a":{"b":2}}`},
		{"an escaped key", `{"\u0061":1}`, `2`, []string{"a"}, `{"\u0061":2}`},
		{"everything else as it came", " {\"n\":12345678901234567890, \"e\":1e400,\"s\":\"\\ud800\xff\",\"n\":0}\t", `2`, []string{"x/y"},
			"{\"n\":12345678901234567890, \"e\":1e400,\"s\":\"\\ud800\xff\",\"n\":0,\"x/y\":2}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			obj := []byte(tt.obj)
			if got := Set(obj, []byte(tt.val), tt.path...); string(got) != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
			if string(obj) != tt.obj {
				t.Errorf("the original became %s", obj)
			}
		})
	}
}

// Whatever the object, the value can be found afterwards, the result is JSON, and all before and
// behind the change is as it was.
func FuzzSet(f *testing.F) {
	f.Add([]byte(`{"params":{"_meta":{"a":1},"x":[{}]},"id":1}`), []byte(`"v"`), "params", "_meta")
	f.Add([]byte(`{"a":1,"a":{"b":1e400}, "\u0061":{}}`), []byte(`{}`), "a", "b")
	f.Add([]byte(`{}`), []byte(`null`), "", "\xff")
	f.Fuzz(func(t *testing.T, obj, val []byte, outer, inner string) {
		o, err := Parse(bytes.Clone(obj))
		if err != nil || len(bytes.TrimSpace(o.Raw)) == 0 || bytes.TrimSpace(o.Raw)[0] != '{' {
			return
		}
		v, err := Parse(bytes.Clone(val))
		if err != nil {
			return
		}
		val = bytes.TrimSpace(v.Raw)
		before := bytes.Clone(o.Raw)
		got := Set(o.Raw, val, outer, inner)
		if !bytes.Equal(o.Raw, before) {
			t.Fatal("the original was changed")
		}
		if _, err := Parse(bytes.Clone(got)); err != nil {
			t.Fatalf("%v: %q", err, got)
		}
		// A key that is not UTF-8 is written with replacement characters.
		if key := string(Text(Quote(outer))); key == outer && Text(Quote(inner)) == inner && !bytes.Equal(Member(got, outer, inner), val) {
			t.Fatalf("%q is not in %q", val, got)
		}
		old := bytes.TrimSpace(before)
		head := 0
		for head < len(old) && head < len(got) && old[head] == got[head] {
			head++
		}
		tail := 0
		for tail < len(old)-head && tail < len(got)-head && old[len(old)-1-tail] == got[len(got)-1-tail] {
			tail++
		}
		// What is gone is at most one value, what is new at most one member.
		if gone := old[head : len(old)-tail]; len(gone) > 0 {
			if max := len(Member(old, outer)); len(gone) > max {
				t.Fatalf("%q went from %q", gone, old)
			}
		}
		if max := len(val) + len(Quote(outer)) + len(Quote(inner)) + len(`,:{:}`); len(got)-tail-head > max {
			t.Fatalf("%q came into %q", got[head:len(got)-tail], old)
		}
		if !json.Valid(before) {
			return
		}
		var a, b map[string]json.RawMessage
		if json.Unmarshal(before, &a) == nil && json.Unmarshal(got, &b) == nil {
			key := Text(Quote(outer)) // as json reads it
			delete(a, key)
			delete(b, key)
			for k := range a {
				if !bytes.Equal(a[k], b[k]) {
					t.Fatalf("member %q changed", k)
				}
			}
		}
	})
}
