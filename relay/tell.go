package relay

import (
	"errors"
	"net/http"
	"sync"
)

// maxFailures is how many calls in a row may fail each for itself, until that is told as a trouble
// with the upstream.
const maxFailures = 3

// outcomes remembers how the last calls ended. Its methods may be called concurrently.
type outcomes struct {
	mu sync.Mutex
	// worked says that the upstream has answered something in this session.
	worked bool
	// failures counts the calls that failed since the last one that was answered.
	failures int
}

// answered notes an answer of the upstream.
func (o *outcomes) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.worked, o.failures = true, 0
}

// failed notes that a call has failed. It reports whether more than this call seems to be
// concerned: nothing has worked so far, or nothing has for some calls.
func (o *outcomes) failed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	return !o.worked || o.failures >= maxFailures
}

// tell puts f into words and tells Config.Answered. A nil f stands for an answer of the upstream. A
// fault that says nothing about the upstream is not told. Several calls may share f, so f itself
// stays as it is.
func (s *session) tell(f *fault) *fault {
	if f == nil {
		s.outcomes.answered()
		s.cfg.Answered(nil)
		return nil
	}
	f = s.worded(f)
	if f.kind != kindClosed && f.url == "" { // what a person has to open is an obstacle, which the caller knows
		s.cfg.Answered(&Explanation{Kind: f.kind, Text: clean(f.text, s.cfg.Mask, maxText), Hints: f.hints, Final: f.final, NotRun: f.notRun})
	}
	return f
}

// tellOfCall is tell for the outcome of one call. What this call alone has met is told to the host
// and to nobody else, because hosts show what stands on stderr as an error of the whole server.
func (s *session) tellOfCall(f *fault) *fault {
	if f != nil && f.concernsOneCall() && !s.outcomes.failed() {
		return s.worded(f)
	}
	return s.tell(f)
}

// worded returns f, with the words of Config.Explain if f is about a status.
func (s *session) worded(f *fault) *fault {
	if status, ok := errors.AsType[*StatusError](f.cause); ok {
		worded := *f
		worded.text, worded.kind, worded.hints = f.textOf(s.cfg.Explain(status))
		f = &worded
	}
	return f
}

// concernsOneCall reports whether the upstream was reached, and f may be about this call alone.
func (f *fault) concernsOneCall() bool {
	switch f.kind {
	case "timeout", "too_large", "bad_answer":
		return true
	}
	return f.status != 0 && f.status != http.StatusProxyAuthRequired
}
