package sshconfig

import (
	"slices"
	"testing"
)

func TestSplitCommand(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" a  b\tc ", []string{"a", "b", "c"}},
		{`"a b" 'c "d'`, []string{"a b", `c "d`}},
		{`a"b c"d`, []string{"ab cd"}},
		{`a\ b \"c \\d e\f`, []string{"a b", `"c`, `\d`, `e\f`}},
		{`"a\ b"`, []string{`a\ b`}},
		{"a b#c #d e", []string{"a", "b#c"}},
		{`""`, []string{""}},
	} {
		got, err := SplitCommand(tt.text)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("SplitCommand(%q) = %q, %v, want %q", tt.text, got, err, tt.want)
		}
	}
	if _, err := SplitCommand(`a "b`); err == nil {
		t.Error("an open quote is no error")
	}
}

func TestLinesOfAFile(t *testing.T) {
	directives, err := parseConfig("f", "# c\n\nHost  a b\n\tUser=bob # x\n Match all\n\"Port\" 22\r\nUser x\x00y")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range directives {
		got = append(got, d.origin.String()+" "+d.keyword+" "+d.rest)
	}
	want := []string{"f:3 host a b", "f:4 user bob # x", "f:5 match all", "f:6 port 22", "f:7 user x"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
