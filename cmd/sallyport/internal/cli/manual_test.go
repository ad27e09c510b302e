package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the flags into the man page")

const (
	manualFile = "../../sallyport.1"
	readmeFile = "../../../../README.md"
	// synopsisFile has the package comment that is the manual.
	synopsisFile = "../../doc.go"
)

// TestManual keeps the man page equal to the grammar: the flags between its two marks are those of
// all commands, each with its variables, its field of the JSON file, and its default.
func TestManual(t *testing.T) {
	page, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte(".\\\" flags: begin\n"), []byte(".\\\" flags: end\n")
	before, rest, _ := bytes.Cut(page, begin)
	_, after, ok := bytes.Cut(rest, end)
	if !ok {
		t.Fatal("the man page has lost its marks")
	}
	want := slices.Concat(before, begin, manualFlags(allFlags(t)), end, after)
	if *update {
		if err := os.WriteFile(manualFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(page, want) {
		t.Error("the man page is not that of the grammar; run this test with -update")
	}
}

// TestCommandsInManuals keeps the synopses complete: each command of the grammar is in the man
// page, with a paragraph of its own, and in the package comment that `sallyport help` prints. Those
// that nobody types may be missing.
func TestCommandsInManuals(t *testing.T) {
	page, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(synopsisFile)
	if err != nil {
		t.Fatal(err)
	}
	_, synopsis, _ := strings.Cut(string(page), ".SH SYNOPSIS\n")
	synopsis, commands, _ := strings.Cut(synopsis, ".SH COMMANDS\n")
	commands, _, _ = strings.Cut(commands, "\n.SH ")
	parser, err := newKong(new(grammar), &sources{getenv: func(string) string { return "" }}, kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	leaves := parser.Model.Leaves(true)
	if len(leaves) < 12 {
		t.Errorf("the grammar has %d commands", len(leaves))
	}
	for _, command := range leaves {
		if command.Name == "proxy" { // the default: its synopsis has no name
			continue
		}
		if name := strings.ReplaceAll(command.Name, "-", `\-`); !strings.Contains(synopsis, ".B sallyport "+name) || !strings.Contains(commands, ".TP\n.B "+name+"\n") {
			t.Errorf("the man page does not explain %s", command.Name)
		}
		if !strings.Contains(string(source), "//\tsallyport "+command.Name) {
			t.Errorf("the package comment does not have %s", command.Name)
		}
	}
}

// TestREADMESize keeps the README short enough to read.
func TestREADMESize(t *testing.T) {
	text, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) > 200 {
		t.Errorf("the README has %d lines, more than 200", len(lines))
	}
	for i, line := range lines {
		if utf8.RuneCountInString(line) > 140 {
			t.Errorf("line %d of the README has more than 140 columns: %s", i+1, line)
		}
	}
}

// TestREADMEFlags compares the README's table of flags with the grammar.
func TestREADMEFlags(t *testing.T) {
	text, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Flags\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|") // "", flag, variable, default, meaning, ""
		if len(cells) != 6 || !strings.Contains(cells[1], "`--") {
			continue
		}
		rows++
		words := strings.FieldsFunc(cells[1], func(r rune) bool { return strings.ContainsRune(" `,", r) })
		found := false
		for _, f := range allFlags(t) {
			if !slices.Contains(words, "--"+f.Name) {
				continue
			}
			found = true
			if names := variables(f.Flag); !f.Hidden && (len(names) == 0 || !strings.Contains(cells[2], "`"+names[0]+"`")) {
				t.Errorf("--%s: the README's variable is %s, want %v", f.Name, cells[2], names)
			}
			if f.Default != "" && !strings.Contains(cells[3], strings.TrimSuffix(f.Default, "s")) {
				t.Errorf("--%s: the README's default is %s, want %s", f.Name, cells[3], f.Default)
			}
		}
		if !found {
			t.Errorf("the README has %s, which is no flag", cells[1])
		}
	}
	if rows < 10 {
		t.Errorf("the README's table has %d flags", rows)
	}
}

// manualFlag is a flag of one or more commands.
type manualFlag struct {
	*kong.Flag
	// commands have the flag. It is nil for a flag of the proxy, which most commands share.
	commands []string
}

// allFlags lists the flags of all commands once each, hidden ones included, in the grammar's order.
func allFlags(t *testing.T) []*manualFlag {
	t.Helper()
	parser, err := newKong(new(grammar), &sources{getenv: func(string) string { return "" }}, kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	var flags []*manualFlag
	for _, command := range parser.Model.Leaves(false) {
		for _, f := range slices.Concat(command.AllFlags(false)...) {
			if f.Name == "help" {
				continue
			}
			known := slices.IndexFunc(flags, func(g *manualFlag) bool { return g.Name == f.Name })
			switch isProxy := command.Name == "proxy"; {
			case known < 0 && isProxy:
				flags = append(flags, &manualFlag{Flag: f})
			case known < 0:
				flags = append(flags, &manualFlag{Flag: f, commands: []string{command.Name}})
			case flags[known].commands != nil:
				flags[known].commands = append(flags[known].commands, command.Name)
			}
		}
	}
	if len(flags) < 40 {
		t.Fatalf("only %d flags", len(flags))
	}
	return flags
}

// manualFlags renders flags for man(7), a section for each group. Settings that have only a
// variable come last.
func manualFlags(flags []*manualFlag) []byte {
	var b bytes.Buffer
	for _, group := range append([]kong.Group{{Title: "General"}}, flagGroups...) {
		fmt.Fprintf(&b, ".SS %s\n", group.Title)
		for _, f := range flags {
			if key := ""; !f.Hidden {
				if f.Group != nil {
					key = f.Group.Key
				}
				if key == group.Key {
					writeManualFlag(&b, f)
				}
			}
		}
	}
	b.WriteString(".SS Settings of mcp-oauth2-proxy that have no flag\n")
	for _, f := range flags {
		if f.Hidden && len(variables(f.Flag)) > 0 {
			fmt.Fprintf(&b, ".TP\n.B %s\nField %s.\n", roff(strings.Join(variables(f.Flag), ", ")), roff(f.Tag.Get("field")))
		}
	}
	return b.Bytes()
}

// writeManualFlag renders one flag.
func writeManualFlag(w io.Writer, f *manualFlag) {
	names := "--" + f.Name
	if f.Short != 0 {
		names = "-" + string(f.Short) + ", " + names
	}
	fmt.Fprintf(w, ".TP\n.B %s", roff(names))
	switch {
	case !f.IsBool():
		fmt.Fprintf(w, " %s", roff(f.FormatPlaceHolder()))
	case f.PlaceHolder != "": // a value that may be left out
		fmt.Fprintf(w, "[%s]", roff(f.PlaceHolder))
	}
	fmt.Fprint(w, "\n")
	if f.commands != nil {
		fmt.Fprintf(w, "Of %s.\n", roff(strings.Join(f.commands, " and ")))
	}
	fmt.Fprintf(w, "%s\n", roff(f.Help))
	if list := variables(f.Flag); len(list) > 0 {
		fmt.Fprintf(w, "Variable %s.\n", roff(strings.Join(list, ", ")))
	}
	if field := f.Tag.Get("field"); field != "" {
		fmt.Fprintf(w, "Field %s.\n", roff(field))
	}
	if f.Default != "" {
		fmt.Fprintf(w, "The default is %s.\n", roff(f.Default))
	}
}

// roff escapes text for man(7).
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(strings.ReplaceAll(text, "$${", "${"))
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
