package person

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxLine is the length of one line for people, in bytes.
const maxLine = 600

// OneLine returns text as one line of printable characters, cut to 600 bytes. Its line breaks
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

// Printable returns text of any length as one line of printable characters. It is the one rule for
// what a person may be shown: all other functions of this package apply it.
//
//   - Each control character becomes a space, those of ISO 6429 above 0x7f included: an escape
//     sequence could move the cursor or change the title of the terminal. So does each separator of
//     lines and paragraphs, and each odd space.
//   - What cannot be seen is removed: the controls of writing direction, characters of no width,
//     variation selectors, tags, fillers, and what is private or unassigned. It could make one name
//     look like another, or reverse a line.
//   - A character may have four marks above and below it. More could cover other lines.
//   - A byte that is not UTF-8 becomes U+FFFD.
//   - The host of a URL is shown in ASCII (RFC 3492), because letters of another alphabet can look
//     like those of the host that is expected.
func Printable(text string) string { return printable(text, false) }

// Lines is Printable for text of several lines: it keeps newlines and tabs.
func Lines(text string) string { return printable(text, true) }

// printable keeps newlines and tabs if lines is set.
func printable(text string, lines bool) string {
	if isPlain(text, lines) {
		return text
	}
	marks := 0
	return asciiHosts(strings.Map(func(r rune) rune {
		if !unicode.Is(unicode.M, r) {
			marks = 0
		} else if marks++; marks > maxMarks {
			return -1
		}
		switch {
		case lines && (r == '\n' || r == '\t'):
			return r
		case unicode.IsControl(r), unicode.IsSpace(r), unicode.In(r, unicode.Z):
			return ' '
		case !unicode.IsPrint(r), unicode.In(r, invisible...):
			return -1
		}
		return r
	}, text))
}

// maxMarks is how many combining marks may follow one character.
const maxMarks = 4

// invisible are characters that count as printable and show nothing. The last one is a pattern of
// Braille without dots.
var invisible = []*unicode.RangeTable{
	unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}},
}

// isPlain reports whether text is printable ASCII, as nearly all text is.
func isPlain(text string, lines bool) bool {
	for i := range len(text) {
		c := text[i]
		if (c < ' ' || c > '~') && !(lines && (c == '\n' || c == '\t')) {
			return false
		}
	}
	return true
}

// asciiHosts rewrites the hosts of the URLs in text.
func asciiHosts(text string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "://")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("://")
		end := strings.IndexFunc(after, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("/?#\\\"'<>:;,()[]", r) })
		if end < 0 {
			end = len(after)
		}
		at := strings.LastIndexByte(after[:end], '@') + 1
		b.WriteString(after[:at])
		host := after[at:end]
		if !isPlain(host, false) {
			// The other results of idna are worse: it refuses what it cannot convert.
			if ascii, err := idna.Punycode.ToASCII(host); err == nil {
				host = ascii
			}
		}
		b.WriteString(host)
		text = after[end:]
	}
}

// Clock writes how long something lasts, in minutes and seconds: 4:59.
func Clock(d time.Duration) string {
	s := max(0, int(d.Round(time.Second)/time.Second))
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
