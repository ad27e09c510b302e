package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// transcript prints what happens, each line with the milliseconds since the last heading. It may be
// used concurrently.
type transcript struct {
	// mu keeps lines of several servers apart.
	mu sync.Mutex
	// out gets the lines.
	out io.Writer
	// start is the time of the last heading.
	start time.Time
}

// newTranscript returns a transcript that prints on out.
func newTranscript(out io.Writer) *transcript { return &transcript{out: out, start: time.Now()} }

// heading opens a chapter and sets the clock to 0.
func (t *transcript) heading(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start = time.Now()
	fmt.Fprintf(t.out, "\n%s\n\n", text)
}

// say prints one line: when, where, what.
func (t *transcript) say(where, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%6d ms  %-9s %s\n", time.Since(t.start).Milliseconds(), where, fmt.Sprintf(format, args...))
}
