//go:build linux

package machines

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// CtrlC is what the key types.
const CtrlC = "\x03"

// Terminal is a program that runs in a pseudo-terminal of its own, as if a person had typed it. Its
// transcript is what the person sees.
type Terminal struct {
	*Transcript
	Cmd *exec.Cmd
	// Exited is closed when the program has ended.
	Exited <-chan struct{}

	keyboard *os.File
	err      error // set before Exited is closed
}

// StartInTerminal starts cmd as the leader of a session whose terminal it reads and writes. It ends
// with the test.
func StartInTerminal(t testing.TB, cmd *exec.Cmd) *Terminal {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	term := &Terminal{Transcript: NewTranscript(t.Output()), Cmd: cmd, Exited: exited, keyboard: ours}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.Copy(term.Transcript, ours) // ends with the last process that has the terminal open
		term.err = cmd.Wait()
		term.End()
		close(exited)
	}()
	t.Cleanup(func() {
		term.Stop()
		ours.Close()
	})
	return term
}

// Type waits until the screen matches the regular expression, then types text.
func (term *Terminal) Type(t testing.TB, pattern, text string) {
	t.Helper()
	term.Await(t, pattern)
	if _, err := io.WriteString(term.keyboard, text); err != nil {
		t.Fatal(err)
	}
}

// Stop kills the program and its children and waits for its end. It may be called again.
func (term *Terminal) Stop() {
	select {
	case <-term.Exited:
	default:
		syscall.Kill(-term.Cmd.Process.Pid, syscall.SIGKILL)
		<-term.Exited
	}
}

// Wait waits for the program to end by itself and returns its exit status.
func (term *Terminal) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-term.Exited:
	case <-time.After(Patience):
		t.Fatalf("%s did not end; the screen:\n%s", term.Cmd.Path, term)
	}
	return exitStatus(t, term.Cmd, term.err)
}
