package person

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Messages writes what a command tells the person on stderr. It may be used concurrently, as far as
// the writer may.
type Messages struct {
	// out is stderr.
	out io.Writer
	// log is the log file alone, because stderr shows the same in another form.
	log *slog.Logger
}

// NewMessages returns messages to out. The log file gets those of Report too.
func NewMessages(out io.Writer, fileLog *slog.Logger) *Messages {
	return &Messages{out: out, log: fileLog}
}

// Say writes one line. It may be longer than those of Report, because it may hold a link.
func (m *Messages) Say(format string, args ...any) {
	m.write("sallyport: " + Printable(fmt.Sprintf(format, args...)) + "\n")
}

// More writes a line that belongs to the one before.
func (m *Messages) More(format string, args ...any) {
	m.write("  " + Printable(fmt.Sprintf(format, args...)) + "\n")
}

// Report writes an error or an obstacle in words: one line, and the hints below it.
func (m *Messages) Report(text string, hints []string) {
	m.log.Warn(text, "hint", strings.Join(hints, "; "))
	var b strings.Builder
	fmt.Fprintf(&b, "sallyport: %s\n", OneLine(text))
	for _, hint := range hints {
		fmt.Fprintf(&b, "hint: %s\n", OneLine(hint))
	}
	m.write(b.String())
}

// sayLink writes a line, and the link on a line of its own below it.
func (m *Messages) sayLink(link, format string, args ...any) {
	m.write("sallyport: " + Printable(fmt.Sprintf(format, args...)) + "\n  " + Printable(link) + "\n")
}

// hint writes one hint that may hold a link.
func (m *Messages) hint(format string, args ...any) {
	m.write("hint: " + Printable(fmt.Sprintf(format, args...)) + "\n")
}

// write writes whole lines at once, so that those of several goroutines do not mix.
func (m *Messages) write(lines string) { io.WriteString(m.out, lines) }
