package person

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// Gate returns a writer to out, which lets only printable text, newlines and tabs pass. Whatever is
// written for people goes through it last, so that a place which forgot about [Printable] harms
// nobody. A character must not be split between two calls of Write. The writer may be used
// concurrently, as far as out may.
func Gate(out io.Writer) io.Writer { return gate{out} }

// gate is the writer of Gate.
type gate struct{ out io.Writer }

// Write implements io.Writer. It writes what passes at once.
func (g gate) Write(p []byte) (int, error) {
	if _, err := io.WriteString(g.out, Lines(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteJSON writes a value as indented JSON. Characters that are not printable are escaped, so that
// a program reads them as they are, and a terminal shows their numbers.
func WriteJSON(out io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeEscaped(out, text)
}

// WriteJSONLine is WriteJSON on one line.
func WriteJSONLine(out io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return writeEscaped(out, text)
}

// writeEscaped writes JSON and a newline, with the characters escaped that are not printable.
func writeEscaped(out io.Writer, text []byte) error {
	var b strings.Builder
	for _, r := range string(text) {
		if r == '\n' || Printable(string(r)) == string(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, "\\u%04x", unit)
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(out, b.String())
	return err
}
