package service

import (
	"context"
	"fmt"
	"strings"
)

// The value of the registry that Windows starts at log-on.
const (
	runKey   = `HKCU\Software\Microsoft\Windows\CurrentVersion\Run`
	runValue = "sallyport-callback"
)

// runText returns the command line. A program of the console would open a window, which conhost
// keeps away.
func runText(p Program) string {
	words := []string{"conhost.exe", "--headless", quoteWindows(p.Path)}
	for _, arg := range p.Args {
		words = append(words, quoteWindows(arg))
	}
	return strings.Join(words, " ")
}

// quoteWindows quotes a word as the programs of Windows take their command line apart: backslashes
// count only in front of a quotation mark.
func quoteWindows(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\"") {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	backslashes := 0
	for _, r := range word {
		switch r {
		case '\\':
			backslashes++
		case '"':
			b.WriteString(strings.Repeat(`\`, backslashes+1))
			backslashes = 0
		default:
			backslashes = 0
		}
		b.WriteRune(r)
	}
	b.WriteString(strings.Repeat(`\`, backslashes))
	b.WriteByte('"')
	return b.String()
}

// installRunKey writes the value of the registry.
func (m Machine) installRunKey(ctx context.Context, p Program) (Report, error) {
	r := Report{Place: runKey + `\` + runValue, Text: runText(p)}
	out, err := m.Run(ctx, "reg", "add", runKey, "/v", runValue, "/t", "REG_SZ", "/d", r.Text, "/f")
	if err != nil {
		return r, fmt.Errorf("%s: %w", note(out, err, "reg", "add", runKey), err)
	}
	r.Notes = []string{"it starts at your next log-on; until then, type: " + commandLine(Program{Path: "sallyport", Args: p.Args})}
	return r, nil
}

// removeRunKey takes the value away.
func (m Machine) removeRunKey(ctx context.Context) (Report, error) {
	if _, err := m.Run(ctx, "reg", "query", runKey, "/v", runValue); err != nil {
		return Report{}, nil // there is none
	}
	r := Report{Place: runKey + `\` + runValue, Notes: []string{"the one that runs now ends when you log off"}}
	if out, err := m.Run(ctx, "reg", "delete", runKey, "/v", runValue, "/f"); err != nil {
		return r, fmt.Errorf("%s: %w", note(out, err, "reg", "delete", runKey), err)
	}
	return r, nil
}
