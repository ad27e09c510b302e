package person

import (
	"strings"
	"unicode"
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

// Printable returns text of any length with a space in place of each control character, those of
// ISO 6429 above 0x7f included.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
