package person

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain":               "plain",
		"one\r\ntwo\n\nthree": "one; two; three",
		"\x1b[31mred\x07":     " [31mred ",
		"tab\there":           "tab here",
		"\u009b2Jclear":       " 2Jclear",
	} {
		if got := OneLine(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	long := OneLine(strings.Repeat("ä", maxLine))
	if !utf8.ValidString(long) || len(long) > maxLine+len("...") || !strings.HasSuffix(long, "...") {
		t.Errorf("a long line becomes %d bytes, valid %t", len(long), utf8.ValidString(long))
	}
}
