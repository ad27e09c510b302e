package world

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Transcript prints what happens, each line with the milliseconds since the last heading. It may be
// used concurrently.
type Transcript struct {
	// mu keeps lines of several servers apart.
	mu sync.Mutex
	// out gets the lines.
	out io.Writer
	// start is the time of the last heading.
	start time.Time
}

// NewTranscript returns a transcript that prints on out.
func NewTranscript(out io.Writer) *Transcript { return &Transcript{out: out, start: time.Now()} }

// Heading opens a chapter and sets the clock to 0.
func (t *Transcript) Heading(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = time.Now()
	fmt.Fprintf(t.out, "\n%s\n\n", text)
}

// Say prints one line: when, where, what.
func (t *Transcript) Say(where, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%6d ms  %-9s %s\n", time.Since(t.start).Milliseconds(), where, fmt.Sprintf(format, args...))
}
