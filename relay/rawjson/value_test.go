package rawjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMember(t *testing.T) {
	const obj = `{"a":{"b":1,"b":[2]},"s":"\u0041","a/b":null}`
	for _, tt := range []struct {
		path []string
		want string
	}{
		{nil, obj},
		{[]string{"a", "b"}, `[2]`}, // the last value of a repeated key
		{[]string{"s"}, `"\u0041"`},
		{[]string{"a/b"}, `null`},
		{[]string{"x"}, ``},
		{[]string{"s", "x"}, ``},
	} {
		if got := string(Member([]byte(obj), tt.path...)); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.path, got, tt.want)
		}
	}
	if got := MemberText([]byte(obj), "s"); got != "A" {
		t.Errorf("text %q", got)
	}
	if got := MemberText([]byte(obj), "a"); got != "" {
		t.Errorf("text of an object: %q", got)
	}
}

func TestMembersAndElements(t *testing.T) {
	var got []string
	for key, val := range Members([]byte(`{"a":1,"\u0061":[2, 3],"b":{}}`)) {
		if key == "b" {
			break
		}
		got = append(got, fmt.Sprintf("%s=%s", key, val))
	}
	if want := "[a=1 a=[2, 3]]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if got := slices.Collect(Elements([]byte(`["a", {"b":[]} ,3]`))); fmt.Sprintf("%s", got) != `["a" {"b":[]} 3]` {
		t.Errorf("got %s", got)
	}
	if got := Texts([]byte(`["a",1,"\u0062","c"]`), 3); fmt.Sprint(got) != "[a b]" {
		t.Errorf("got %v", got)
	}
	for range Members([]byte(`[1]`)) {
		t.Error("an array has members")
	}
	for e := range Elements(nil) {
		t.Errorf("nothing has the element %s", e)
	}
}

// The finder sees the id that Parse sees, however the text is cut.
func TestIDFinder(t *testing.T) {
	for _, in := range []string{
		`{"jsonrpc":"2.0","id":7,"method":"m","params":{"id":8,"a":[{"id":9}]}}`,
		`{"method":"m","params":"\"id\":1}","\u0069d":"a\"b"}`,
		`{"id":1,"method":"m","id":-2.5e3 }`,
	} {
		m, err := Parse([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		for size := 1; size <= len(in); size++ {
			var f IDFinder
			for rest := []byte(in); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				f.Feed(rest[:min(size, len(rest))])
			}
			if !bytes.Equal(f.ID(), m.ID) {
				t.Errorf("in pieces of %d: %q, want %q", size, f.ID(), m.ID)
			}
		}
	}
}

func TestFilter(t *testing.T) {
	short := func(element []byte) bool { return len(element) == 1 }
	for _, tt := range []struct{ array, want string }{
		{`[1, 2]`, ""},
		{`[]`, ""},
		{`{}`, ""},
		{`[10]`, `[]`},
		{`[1, 10, 2 , 20]`, `[1,2]`},
	} {
		if got := string(Filter([]byte(tt.array), short)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.array, got, tt.want)
		}
	}
}

// An object may have millions of members, and an array millions of elements. Looking at them takes
// no memory for each.
func TestNoMemoryForEach(t *testing.T) {
	members := []byte(`{"id":7` + strings.Repeat(`,"":0`, 1000) + strings.Repeat(`,"\u0061\u0061\u0061":0`, 1000) + `}`)
	array := []byte(`[0` + strings.Repeat(`,0`, 1000) + `]`)
	for name, f := range map[string]func(){
		"Parse":  func() { Parse(members) },
		"Member": func() { Member(members, "id") },
		"batch":  func() { Parse(array) },
		"Elements": func() {
			for range Elements(array) {
			}
		},
	} {
		if got := testing.AllocsPerRun(10, f); got > 10 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// What is found in an array is what encoding/json finds, and what is made of it is an array again.
func FuzzElements(f *testing.F) {
	f.Add([]byte(`[1, {"a":"\u0061\"" } ,[],"x"]`), 3)
	f.Add([]byte(`{"id":[], "\u0069d":"\ud83d\ude00"}`), 1)
	f.Add([]byte(`[ ]`), 0)
	f.Fuzz(func(t *testing.T, in []byte, n int) {
		m, err := Parse(bytes.Clone(in))
		if err != nil {
			return
		}
		var want []json.RawMessage
		if json.Unmarshal(m.Raw, &want) != nil {
			want = nil
		}
		got := slices.Collect(Elements(m.Raw))
		if len(got) != len(want) {
			t.Fatalf("%d elements, want %d, in %q", len(got), len(want), m.Raw)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("element %d: %q, want %q", i, got[i], want[i])
			}
			if got[i][0] == '"' && n > 0 {
				if text := TextPrefix(got[i], n); len(got[i])-2 <= n && text != Text(got[i]) {
					t.Errorf("%q: %q", got[i], text)
				}
			}
		}
		short := func(e []byte) bool { return len(e) < n }
		if kept := Filter(m.Raw, short); kept != nil {
			want := slices.DeleteFunc(slices.Clone(got), func(e []byte) bool { return !short(e) })
			if !bytes.Equal(kept, ArrayOf(want)) {
				t.Errorf("%q: kept %q", m.Raw, kept)
			}
		} else if slices.ContainsFunc(got, func(e []byte) bool { return !short(e) }) {
			t.Errorf("%q: nothing was cut", m.Raw)
		}
		joined := slices.Collect(Elements(Join(m.Raw, m.Raw)))
		if len(joined) != 2*len(got) {
			t.Errorf("%q joined: %d elements", m.Raw, len(joined))
		}
		values := slices.Collect(Values(m.Raw, "id"))
		if last := Member(m.Raw, "id"); len(values) > 0 != (last != nil) || last != nil && !bytes.Equal(values[len(values)-1], last) {
			t.Errorf("%q: values %q, member %q", m.Raw, values, last)
		}
	})
}
