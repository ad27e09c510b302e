package person

import (
	"strings"
	"unicode/utf8"
)

const maxLine = 600 // bytes of one line for people

// OneLine returns text as one line without control characters, cut to 600 bytes. Its line breaks
// become "; ".
func OneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if text = Printable(text); len(text) <= maxLine {
		return text
	}
	end := maxLine
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// Printable returns text of any length with each control character replaced by a space.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}
