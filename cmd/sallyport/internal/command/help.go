package command

import (
	"cmp"
	"errors"
	"fmt"
	"go/doc/comment"
	"io"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/explain"
)

// helpWidth is how wide a line of the manual is printed, in columns.
const helpWidth = 80

// help prints what there is to say of a topic: a kind of error, a chapter of the manual, or a
// command. Without a topic it lists the first two.
func help(a *app, topic string) error {
	chapters := readManual(a.env.Manual)
	if topic == "" {
		return listTopics(a, chapters)
	}
	word := strings.ToLower(topic)
	text, names := explain.Topic(word), explain.Topics()
	for _, c := range chapters {
		names = append(names, c.name)
		if text == "" && c.name == strings.ReplaceAll(word, " ", "-") {
			text = c.text
		}
	}
	if text = cmp.Or(text, explain.Topic(strings.ReplaceAll(word, "-", "_"))); text != "" {
		_, err := io.WriteString(a.std.Out, text)
		return err
	}
	if slices.Contains(cli.CommandNames(), word) {
		_, err := cli.Parse([]string{word, "--help"}, a.env, a.std.Out, a.std.Err)
		if errors.Is(err, cli.ErrHelp) {
			return nil
		}
		return err
	}
	e := &cli.UsageError{Text: fmt.Sprintf("no help topic %q", topic), Hints: []string{"sallyport help lists the topics"}}
	if near := cli.Nearest(word, names); near != "" {
		e.Hints = slices.Insert(e.Hints, 0, "did you mean: sallyport help "+near)
	}
	return e
}

// listTopics prints the names of all topics, and what each kind of error is.
func listTopics(a *app, chapters []chapter) error {
	var b strings.Builder
	b.WriteString("sallyport --help lists commands and flags.\n\nKinds of errors: sallyport help KIND\n")
	for _, kind := range explain.Topics() {
		text, _, _ := strings.Cut(explain.Topic(kind), "\n\n")
		writeTopic(&b, kind, firstSentence(text))
	}
	b.WriteString("\nChapters of the manual: sallyport help CHAPTER\n")
	for _, c := range chapters {
		fmt.Fprintf(&b, "  %s\n", c.name)
	}
	_, err := io.WriteString(a.std.Out, b.String())
	return err
}

// firstSentence returns the first sentence of text, or what it says before a colon. It is in one
// line, and has no full stop.
func firstSentence(text string) string {
	sentence, _, _ := strings.Cut(strings.Join(strings.Fields(text), " "), ". ")
	sentence, _, _ = strings.Cut(sentence, ": ")
	return strings.TrimSuffix(sentence, ".")
}

// writeTopic writes a name and what it is about, beside each other in lines of helpWidth.
func writeTopic(b *strings.Builder, name, text string) {
	const indent = 20
	line := fmt.Sprintf("  %-*s", indent-3, name)
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > helpWidth {
			fmt.Fprintln(b, line)
			line = strings.Repeat(" ", indent-1)
		}
		line += " " + word
	}
	fmt.Fprintln(b, line)
}

// chapter is one section of the manual.
type chapter struct {
	// name is its heading in lower case, with hyphens between the words.
	name string
	// text is what it says, its heading included.
	text string
}

// readManual cuts the package comment of a Go source into its chapters. What stands before the
// first heading is the chapter "overview".
func readManual(source string) []chapter {
	var lines []string
	for line := range strings.Lines(source) {
		text, ok := strings.CutPrefix(line, "//")
		if !ok {
			break
		}
		lines = append(lines, strings.TrimPrefix(text, " "))
	}
	if len(lines) == 0 {
		return nil
	}
	var chapters []chapter
	var heading string
	var section comment.Doc
	printer := &comment.Printer{TextWidth: helpWidth}
	end := func() {
		text := string(printer.Text(&section))
		if heading != "" {
			text = heading + "\n\n" + text
		}
		name := strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(heading, ",", "")), " ", "-")
		chapters = append(chapters, chapter{name: cmp.Or(name, "overview"), text: text})
		section = comment.Doc{}
	}
	for _, block := range new(comment.Parser).Parse(strings.Join(lines, "")).Content {
		if h, ok := block.(*comment.Heading); ok {
			end()
			heading = string(printer.Text(&comment.Doc{Content: []comment.Block{&comment.Paragraph{Text: h.Text}}}))
			heading = strings.TrimSpace(heading)
			continue
		}
		section.Content = append(section.Content, block)
	}
	end()
	return chapters
}
