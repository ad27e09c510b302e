package cli

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestREADMEListsTheSettings compares the README with the grammar: every flag that --help shows,
// with its variables, and every variable of a setting that has no flag.
func TestREADMEListsTheSettings(t *testing.T) {
	text, err := os.ReadFile("../../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	parser, err := newParser([]string{"https://u.example/mcp"}, &sources{getenv: func(string) string { return "" }}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	trace, err := kong.Trace(parser, []string{"https://u.example/mcp"})
	if err != nil {
		t.Fatal(err)
	}
	flags := slices.DeleteFunc(trace.Flags(), func(f *kong.Flag) bool { return f.Name == "help" })
	if len(flags) < 40 {
		t.Fatalf("only %d flags", len(flags))
	}
	for _, flag := range flags {
		row := ""
		for line := range strings.Lines(readme) {
			cells := strings.Split(line, "|") // "", flag, variable, ...
			if len(cells) >= 6 && slices.Contains(strings.FieldsFunc(cells[1], func(r rune) bool { return strings.ContainsRune(" `,", r) }), "--"+flag.Name) {
				row = line
			}
		}
		if (row != "") == flag.Hidden {
			t.Errorf("--%s: hidden %t, but the README's row is %q", flag.Name, flag.Hidden, row)
		}
		if flag.Hidden {
			row = readme
		}
		for _, name := range variables(flag) {
			if !strings.Contains(row, "`"+name+"`") {
				t.Errorf("--%s: the README does not name %s", flag.Name, name)
			}
		}
	}
}
