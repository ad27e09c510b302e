// Package toolreport shows people and programs which tools of an upstream were accepted, and what
// has changed since.
//
// A server writes all that is shown here, and may want to mislead. So each line of its text has a
// sign of ours in front, a character that nobody sees is shown by its number, and a long line is
// broken, never cut.
package toolreport

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"sallyport/cmd/sallyport/internal/person"
	"sallyport/relay/pins"
	"sallyport/relay/rawjson"

	"github.com/rogpeppe/go-internal/diff"
)

// version is that of the JSON.
const version = 1

// maxColumns is how long a line of a server's text becomes before it is broken.
const maxColumns = 100

// Report is what `sallyport tools` shows. Its JSON is a contract with programs.
type Report struct {
	// Version is 1.
	Version int `json:"version"`
	// Upstream is the URL without its query, and Profile names the account there.
	Upstream string `json:"upstream"`
	Profile  string `json:"profile"`
	// Since is when the tools were accepted last. It is zero if none are remembered.
	Since time.Time `json:"since,omitzero"`
	// Remembered are the names of the accepted tools.
	Remembered []string `json:"remembered"`
	// Asked says that the upstream has told its tools now.
	Asked bool `json:"asked"`
	// Failure says in one line why it has not. It is empty otherwise.
	Failure string `json:"failure,omitempty"`
	// Changes are what differs. They are empty if the upstream was not asked.
	Changes []Change `json:"changes"`
	// Accepted says that the tools of now were accepted by this command.
	Accepted bool `json:"accepted"`
}

// Change is one tool that differs.
type Change struct {
	// Name is empty if the tool has none.
	Name string `json:"name"`
	// Kind is added, changed, removed, or unfit for a tool that cannot be remembered.
	Kind pins.ChangeKind `json:"kind"`
	// Before and Now are what counts of the tool, with sorted keys. A name may have several.
	Before []json.RawMessage `json:"before,omitempty"`
	Now    []json.RawMessage `json:"now,omitempty"`
}

// New returns the report of a record, which is nil if nothing is remembered.
func New(upstream, profile string, record *pins.Record) *Report {
	r := &Report{Version: version, Upstream: upstream, Profile: profile, Remembered: []string{}, Changes: []Change{}}
	if record == nil {
		return r
	}
	r.Since = record.Since
	r.Remembered = append(r.Remembered, record.Names()...)
	return r
}

// Compare adds what differs between the record and the tools that the upstream has now.
func (r *Report) Compare(record *pins.Record, now []pins.Tool) {
	r.Asked = true
	for _, c := range record.Changes(now) {
		r.Changes = append(r.Changes, Change{Name: c.Name, Kind: c.Kind, Before: lines(c.Before), Now: lines(c.Now)})
	}
}

// lines returns the forms in b, one on each line.
func lines(b []byte) (all []json.RawMessage) {
	for line := range bytes.Lines(b) {
		all = append(all, json.RawMessage(bytes.TrimSpace(line)))
	}
	return all
}

// Write prints the report for people.
func (r *Report) Write(out io.Writer) error {
	var b strings.Builder
	account := r.Upstream
	if r.Profile != "default" {
		account += " (profile " + r.Profile + ")"
	}
	switch {
	case r.Since.IsZero():
		fmt.Fprintf(&b, "%s: no tools are remembered\n", account)
	default:
		fmt.Fprintf(&b, "%s: %s, accepted %s\n", account, count(len(r.Remembered)), r.Since.Local().Format(time.DateTime))
	}
	switch {
	case r.Asked && len(r.Changes) == 0:
		b.WriteString("the upstream has just these\n")
	case !r.Asked:
		for _, name := range r.Remembered {
			fmt.Fprintf(&b, "  %s\n", visible(name))
		}
	}
	for _, c := range r.Changes {
		c.write(&b)
	}
	if r.Accepted {
		b.WriteString("the tools are accepted as the upstream has them now\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func count(n int) string {
	if n == 1 {
		return "1 tool"
	}
	return fmt.Sprintf("%d tools", n)
}

func (c Change) write(b *strings.Builder) {
	switch c.Kind {
	case pins.Removed:
		fmt.Fprintf(b, "removed  %s\n", visible(c.Name))
		return
	case pins.Refused:
		b.WriteString("unfit    (no name): it has no single name, or is too large, so it stays hidden\n")
		return
	}
	fmt.Fprintf(b, "%-8s %s\n", c.Kind, visible(c.Name))
	if c.Kind == pins.Altered && c.Before == nil {
		b.WriteString("    (it was too large to be kept; this is what it is now)\n")
	}
	text := string(diff.Diff("accepted", shown(c.Before), "now", shown(c.Now)))
	_, text, _ = strings.Cut(text, "\n") // "diff accepted now" says nothing
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
}

// shown returns the forms of a tool as lines of text.
func shown(forms []json.RawMessage) []byte {
	var b bytes.Buffer
	for _, form := range forms {
		for _, key := range []string{"name", "title", "description"} {
			if val := rawjson.Member(form, key); len(val) > 0 && val[0] == '"' {
				write(&b, key+": ", rawjson.Text(val))
			}
		}
		for key, val := range rawjson.Members(form) {
			if (key == "name" || key == "title" || key == "description") && val[0] == '"' {
				continue
			}
			var text bytes.Buffer
			if json.Indent(&text, val, "", "  ") != nil {
				text.Write(val)
			}
			write(&b, key+": ", text.String())
		}
	}
	return b.Bytes()
}

// write writes a text of several lines behind a head. Long lines are broken.
func write(b *bytes.Buffer, head, text string) {
	indent := visible(head)
	for line := range strings.Lines(text + "\n") {
		runes := []rune(indent + visible(strings.TrimSuffix(line, "\n")))
		for len(runes) > maxColumns {
			b.WriteString(string(runes[:maxColumns]) + "\n")
			runes = append([]rune("  "), runes[maxColumns:]...)
		}
		b.WriteString(string(runes) + "\n")
		indent = "  "
	}
}

// visible returns text in which each character that nobody sees, and each that a terminal would
// not show as it is, is written by its number.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		shown := person.Printable(string(r))
		if shown == string(r) && (r == ' ' || !unicode.IsSpace(r)) && !unicode.Is(unicode.M, r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\u{%x}`, r)
	}
	return b.String()
}
