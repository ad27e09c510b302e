//go:build linux

package machines

import (
	"context"
	"io"
	"regexp"
	"sync"
	"testing"
)

// Transcript keeps what a program wrote and passes it on to the test's log. It is an io.Writer. All
// its methods may be called at once.
type Transcript struct {
	log io.Writer

	mu    sync.Mutex
	text  []byte
	ended bool
	// changed is closed and replaced at each change.
	changed chan struct{}
}

// NewTranscript returns an empty transcript that copies to log.
func NewTranscript(log io.Writer) *Transcript {
	return &Transcript{log: log, changed: make(chan struct{})}
}

func (tr *Transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.text = append(tr.text, p...)
	close(tr.changed)
	tr.changed = make(chan struct{})
	return tr.log.Write(p)
}

// End says that nothing more will come: who waits for something else is told so.
func (tr *Transcript) End() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.ended {
		tr.ended = true
		close(tr.changed)
	}
}

// String returns the text so far.
func (tr *Transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return string(tr.text)
}

// Find waits until the text so far matches the regular expression and returns the match and its
// groups. It returns nil if the program or the context ends before.
func (tr *Transcript) Find(ctx context.Context, pattern string) []string {
	want := regexp.MustCompile(pattern)
	for {
		tr.mu.Lock()
		match, ended, changed := want.FindStringSubmatch(string(tr.text)), tr.ended, tr.changed
		tr.mu.Unlock()
		if match != nil || ended {
			return match
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Await is Find that fails the test if there is no match within Patience.
func (tr *Transcript) Await(t testing.TB, pattern string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	match := tr.Find(ctx, pattern)
	switch {
	case match != nil:
	case ctx.Err() != nil:
		t.Fatalf("still waiting for %q: %v; so far:\n%s", pattern, ctx.Err(), tr)
	default:
		t.Fatalf("the program ended before it wrote %q; it wrote:\n%s", pattern, tr)
	}
	return match
}

// FirstLine waits for the first whole line and returns it without its newline.
func (tr *Transcript) FirstLine(t testing.TB) string {
	t.Helper()
	return tr.Await(t, `\A(.*)\n`)[1]
}
