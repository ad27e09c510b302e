package person

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine is the length of one line for people, in bytes.
const maxLine = 600

// OneLine returns text as one line without control characters, cut to 600 bytes. Its line breaks
// become "; ".
func OneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if text = Printable(text); len(text) <= maxLine {
		return text
	}
	end := maxLine
	// The cut must not split a character of UTF-8.
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}

// Printable returns text of any length with a space in place of each control character, those of
// ISO 6429 above 0x7f included. An escape sequence could otherwise move the cursor or change the
// title of the terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
