package person

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
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
	for text, want := range map[string]string{
		"a\u202eb\u2066c\u2069d\u200ee\u200ff\u061cg": "abcdefg", "a\u200bb\u200cc\u200dd\u2060e\ufefff": "abcdef",
		"a\u2028b\u2029c\u0085d\u00a0e\u3000f": "a b c d e f", "a\U000e0041b\U000e007fc": "abc", "a\ufff9b\ufffac\ufffbd": "abcd",
		"a\ue000b\U000f0000c\U00100000d": "abcd", "a\ufe0fb\U000e0100c\u180bd\u034fe": "abcde", "a\u3164b\u115fc\uffa0d\u2800e": "abcde",
		"a\xffb\xc2": "a\ufffdb\ufffd", "a\xed\xa0\x80b": "a\ufffd\ufffd\ufffdb", "a\u00adb": "ab", "a\ufffeb\U0001ffffc\u0378d": "abcd",
		"e" + strings.Repeat("\u0301", 9): "e\u0301\u0301\u0301\u0301", "gr\u00fc\u00dfe \u4f60\u597d \U0001f600": "gr\u00fc\u00dfe \u4f60\u597d \U0001f600",
		"see https://\u0430pple.com/\u00fc, https://x@b\u00fccher.example:8/": "see https://xn--pple-43d.com/\u00fc, https://x@xn--bcher-kva.example:8/",
		"://": "://", "https://a": "https://a", "x://\u202e": "x://",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%+q: got %+q, want %+q", text, got, want)
		}
	}
	if got, want := Lines("a\n\tb\x1b\r"), "a\n\tb  "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	long := OneLine(strings.Repeat("ä", maxLine))
	if !utf8.ValidString(long) || len(long) > maxLine+len("...") || !strings.HasSuffix(long, "...") {
		t.Errorf("a long line becomes %d bytes, valid %t", len(long), utf8.ValidString(long))
	}
}

func TestGate(t *testing.T) {
	var b strings.Builder
	const text = "one\n\x1b]0;two\x07\u202e\n"
	if n, err := Gate(&b).Write([]byte(text)); n != len(text) || err != nil || b.String() != "one\n ]0;two \n" {
		t.Errorf("%d, %v, %q", n, err, b.String())
	}
}

func TestWriteJSON(t *testing.T) {
	var b strings.Builder
	want := map[string]string{"k": "a\u009b\u202e\U000e0041\u00fc\x1b\u200b"}
	if err := WriteJSON(&b, want); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil || got["k"] != want["k"] {
		t.Errorf("%q, %v", got, err)
	}
	if b.String() != Lines(b.String()) {
		t.Errorf("%+q is not printable", b.String())
	}
}

// FuzzPrintable holds what the tables above hold for any text.
func FuzzPrintable(f *testing.F) {
	f.Add("https://\u0430.example\x1b[2J\u202e\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := Printable(text)
		if !utf8.ValidString(got) || Printable(got) != got {
			t.Errorf("%+q becomes %+q and then %+q", text, got, Printable(got))
		}
		for _, r := range got {
			if r != ' ' && !unicode.IsPrint(r) || unicode.In(r, unicode.C) || unicode.In(r, invisible...) {
				t.Errorf("%+q keeps %U", text, r)
			}
		}
	})
}
