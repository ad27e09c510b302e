package doctor

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/person"
)

// Printer prints rows for people as they come. On a terminal it also shows the row that is being
// looked at, and for how long. Its methods may be called concurrently.
type Printer struct {
	// out gets text that is printable already, and our own escape sequences.
	out io.Writer
	Look

	// mu guards what follows, and out.
	mu sync.Mutex
	// id is the row that is being looked at, since began. It is empty if none is.
	id    string
	began time.Time
	// waiting are rows in a row that were skipped for the same reason, and because is that reason.
	waiting []string
	because string
	// shown says that the last line of the terminal is that of id.
	shown bool
	// stop ends the updates of that line, and stopped is closed when they have ended.
	stop, stopped chan struct{}
}

// Look says how rows are shown.
type Look struct {
	// Live says that the output is a terminal, Color that it may have colours, and Verbose that
	// good rows show what they were concluded from, too.
	Live, Color, Verbose bool
}

// NewPrinter returns a printer to out. The caller must Close it.
func NewPrinter(out io.Writer, look Look) *Printer {
	p := &Printer{out: out, Look: look, stop: make(chan struct{}), stopped: make(chan struct{})}
	if !look.Live {
		close(p.stopped)
		return p
	}
	go p.update() // ends with Close
	return p
}

// Close ends the updates, and leaves no half line behind.
func (p *Printer) Close() {
	p.mu.Lock()
	p.clear()
	p.flush()
	p.id = ""
	p.mu.Unlock()
	close(p.stop)
	<-p.stopped
}

// quick is how long a row may take before it is shown as one that is being looked at.
const quick = 300 * time.Millisecond

// update shows the row that is being looked at.
func (p *Printer) update() {
	defer close(p.stopped)
	ticker := time.NewTicker(quick)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		if took := time.Since(p.began); p.id != "" && took >= quick {
			p.clear()
			fmt.Fprintf(p.out, "%s %-20s %ds", p.paint(dim, "...    "), p.id, int(took/time.Second))
			p.shown = true
		}
		p.mu.Unlock()
	}
}

// Begin is Config.Begin.
func (p *Printer) Begin(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.began = id, time.Now()
}

// Done is Config.Done.
func (p *Printer) Done(c Check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.began = time.Now()
	if c.Result == Skipped && len(p.waiting) > 0 && c.Summary == p.because && len(c.Next) == 0 {
		p.waiting = append(p.waiting, c.ID)
		return
	}
	p.flush()
	if c.Result == Skipped && len(c.Next) == 0 {
		p.waiting, p.because = []string{c.ID}, c.Summary
		return
	}
	p.row(c.Result, c.ID, c.Summary)
	bad := c.Result == Fail || c.Result == Warn
	if bad {
		p.more("why", c.Why)
	}
	for _, text := range c.Evidence {
		if bad || p.Verbose {
			p.more("seen", text)
		}
	}
	for _, text := range c.Next {
		p.more("next", text)
	}
}

// more prints a line below a row.
func (p *Printer) more(name, text string) {
	fmt.Fprintf(p.out, "        %-8s %s\n", name, person.OneLine(text))
}

// row prints the line of one row, or of several that were skipped.
func (p *Printer) row(result Result, ids, summary string) {
	fmt.Fprintf(p.out, "%s %-20s %s\n", p.paint(colors[result], fmt.Sprintf("%-7s", result)), ids, person.Printable(summary))
}

// flush prints the rows that wait, in one line.
func (p *Printer) flush() {
	if len(p.waiting) > 0 {
		p.row(Skipped, strings.Join(p.waiting, ", "), p.because)
		p.waiting = nil
	}
}

// Summary counts the results.
func (p *Printer) Summary(r *Report) {
	counts := map[Result]int{}
	for _, c := range r.Checks {
		counts[c.Result]++
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.flush()
	fmt.Fprintf(p.out, "%d failed, %d warned, %d good, %d not looked at\n", counts[Fail], counts[Warn], counts[OK], counts[Skipped])
}

// clear removes the line of the row that is being looked at.
func (p *Printer) clear() {
	if p.shown {
		io.WriteString(p.out, "\r\x1b[K")
		p.shown = false
	}
}

// The colours (ECMA-48, SGR).
const red, green, yellow, dim = "31", "32", "33", "2"

// colors are those of the results.
var colors = map[Result]string{OK: green, Warn: yellow, Fail: red, Skipped: dim}

// paint colours text, if the output may have colours.
func (p *Printer) paint(color, text string) string {
	if !p.Color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
