package display

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCut(t *testing.T) {
	if s := strings.Repeat("x", Limit); Cut(s) != s {
		t.Error("a text of the limit is cut")
	}
	if got, want := Cut(strings.Repeat("x", Limit+1)), strings.Repeat("x", Limit)+"..."; got != want {
		t.Errorf("got %q", got)
	}
	for shift := range 4 { // a character of three bytes lies across the limit
		got := Cut(strings.Repeat("x", shift) + strings.Repeat("€", Limit))
		if !utf8.ValidString(got) || len(got) > Limit+3 || len(got) < Limit {
			t.Errorf("shift %d: %d bytes, %q", shift, len(got), got)
		}
	}
	if got := Cut(strings.Repeat("\x80", 2*Limit)); len(got) > Limit+3 || len(got) < Limit-utf8.UTFMax {
		t.Errorf("bytes that are no text: %d are left", len(got))
	}
}

func TestPrintable(t *testing.T) {
	if got, want := Printable("a\x1b[31mb\r\n\tc\u009b\x7fé"), "a[31mb\n\tcé"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestShellQuote(t *testing.T) {
	for s, want := range map[string]string{
		"": "''", "web": "web", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "me@[::1]:22": "'me@[::1]:22'", "~/x": "'~/x'",
		"/home/me/.ssh/id_rsa": "/home/me/.ssh/id_rsa",
	} {
		if got := ShellQuote(s); got != want {
			t.Errorf("ShellQuote(%q) = %s, want %s", s, got, want)
		}
	}
}

func TestReason(t *testing.T) {
	_, err := os.Open(t.TempDir() + "/missing")
	if got := Reason(err); !errors.Is(got, fs.ErrNotExist) || strings.Contains(got.Error(), "missing") {
		t.Errorf("got %v", got)
	}
	other := errors.New("other")
	if got := Reason(other); got != other {
		t.Errorf("got %v", got)
	}
}
