// Package display prepares foreign text for people: what a server, a file or the system says,
// before it enters an error, a question or a line of the log.
package display

import (
	"errors"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// Limit is how much Cut leaves of a text, in bytes.
const Limit = 200

// Cut shortens s to Limit bytes. Three dots at the end stand for what is missing.
func Cut(s string) string {
	if len(s) <= Limit {
		return s
	}
	end := Limit
	for end > Limit-utf8.UTFMax && !utf8.RuneStart(s[end]) { // a character is not torn apart
		end--
	}
	return s[:end] + "..."
}

// Printable removes the control characters of s, but for newlines and tabs, so that s cannot steer
// a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// ShellQuote returns s as one word for the shell, for commands that are shown to people.
func ShellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./-_", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Reason returns err without the operation and the path of an *fs.PathError. It is for callers
// whose own message names the file.
func Reason(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}
