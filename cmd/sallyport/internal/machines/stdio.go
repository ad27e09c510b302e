//go:build linux

package machines

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// InitializeLine is the first line of a host, with the id "first".
const InitializeLine = `{"jsonrpc":"2.0","id":"first","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}` + "\n"

// Stdio is a host's end of stdin and stdout for tests that look at single lines: at those a host's
// library would hide, or at a moment that it gives no hold of.
type Stdio struct {
	*Process
	// Input is the pipe to the program's stdin. Its end is how a host ends a session.
	Input *os.File
}

// StartStdio starts cmd. It ends with the test, and so does the pipe to its stdin.
func StartStdio(t testing.TB, cmd *exec.Cmd) *Stdio {
	t.Helper()
	stdin, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close() })
	cmd.Stdin = stdin
	p := StartProcess(t, cmd)
	stdin.Close()
	return &Stdio{p, input}
}

// Initialize sends InitializeLine. It does not wait for the answer.
func (s *Stdio) Initialize(t testing.TB) {
	t.Helper()
	s.Send(t, InitializeLine)
}

// Send sends text, which is one line or several. The program may have ended already.
func (s *Stdio) Send(t testing.TB, text string) {
	t.Helper()
	io.WriteString(s.Input, text)
}

// Answer waits for the line that answers the request with this id, as JSON has it, and returns it
// without its newline.
func (s *Stdio) Answer(t testing.TB, id string) string {
	t.Helper()
	return s.Out.Await(t, `(?m)^(\{"jsonrpc":"2\.0","id":`+regexp.QuoteMeta(id)+`,.*)\n`)[1]
}

// End ends the program's input and returns its exit status.
func (s *Stdio) End(t testing.TB) int {
	t.Helper()
	s.Input.Close()
	return s.Wait(t)
}

// AnswerError is the error in an answer.
type AnswerError struct {
	Code    int
	Message string
	Data    struct{ Kind, Hint string }
}

// ParseError returns the error in a line that answers the request with this id.
func ParseError(t testing.TB, line, id string) AnswerError {
	t.Helper()
	var answer struct {
		ID    json.RawMessage
		Error *AnswerError
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if answer.Error == nil || string(answer.ID) != id {
		t.Fatalf("no error answers %s: %s", id, line)
	}
	return *answer.Error
}
