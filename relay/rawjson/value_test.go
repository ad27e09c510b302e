package rawjson

import (
	"bytes"
	"fmt"
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
	if got := Elements([]byte(`["a", {"b":[]} ,3]`)); fmt.Sprintf("%s", got) != `["a" {"b":[]} 3]` {
		t.Errorf("got %s", got)
	}
	if got := Texts([]byte(`["a",1,"\u0062"]`)); fmt.Sprint(got) != "[a b]" {
		t.Errorf("got %v", got)
	}
	for range Members([]byte(`[1]`)) {
		t.Error("an array has members")
	}
	if got := Elements(nil); got != nil {
		t.Errorf("nothing has the elements %s", got)
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
