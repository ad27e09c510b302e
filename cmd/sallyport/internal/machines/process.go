//go:build linux

package machines

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds every wait for another program. It is never an assertion: it only turns a hang
// into a failure that names what was awaited.
const Patience = 60 * time.Second

// Process is a program that runs beside the test.
type Process struct {
	Cmd *exec.Cmd
	// Out and Err are what it has written to stdout and stderr.
	Out, Err *Transcript
	// Exited is closed when the program has ended.
	Exited <-chan struct{}

	stdin io.Closer // nil if cmd.Stdin was set
	err   error     // set before Exited is closed
}

// StartProcess starts cmd, whose output goes to the test's log. The program and the process group
// that it leads end with the test, and with the test binary. If cmd.Stdin is nil, the program's
// stdin stays open until then.
func StartProcess(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	exited := make(chan struct{})
	p := &Process{Cmd: cmd, Out: NewTranscript(t.Output()), Err: NewTranscript(t.Output()), Exited: exited}
	cmd.Stdout, cmd.Stderr = p.Out, p.Err
	cmd.WaitDelay = 5 * time.Second // for grandchildren that hold the pipes
	OwnGroup(cmd)
	if cmd.Stdin == nil {
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.stdin = stdin
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the program
		p.err = cmd.Wait()
		p.Out.End()
		p.Err.End()
		close(exited)
	}()
	t.Cleanup(p.Stop)
	return p
}

// OwnGroup makes cmd the leader of a process group, and has the kernel kill it when this process
// ends. More precisely, when the thread ends that started it (PR_SET_PDEATHSIG in prctl(2)): no
// goroutine may end while it is locked to its thread.
func OwnGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// PID is the number of the process.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Signal sends a signal to the program alone, not to its children. SIGINT is what Ctrl-C sends.
func (p *Process) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(signal); err != nil {
		t.Fatalf("signal %v to %s: %v", signal, p.Cmd.Path, err)
	}
}

// Stop kills the process group and waits for the program's end. It may be called again.
func (p *Process) Stop() {
	select {
	case <-p.Exited:
	default:
		syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
	<-p.Exited
}

// Wait waits for the program to end by itself and returns its exit status: -1 if a signal ended it.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.Exited:
	case <-time.After(Patience):
		t.Fatalf("%s did not end; stderr:\n%s", p.Cmd.Path, p.Err)
	}
	return exitStatus(t, p.Cmd, p.err)
}

// exitStatus is that of a program of which Wait returned err.
func exitStatus(t testing.TB, cmd *exec.Cmd, err error) int {
	t.Helper()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// CommandLine returns the arguments of a running process as everybody on its machine can read them.
func CommandLine(t testing.TB, pid int) string {
	t.Helper()
	return ReadFile(t, fmt.Sprintf("/proc/%d/cmdline", pid))
}

// The exit statuses that the README promises.
const (
	StatusDone        = 0
	StatusFailed      = 1
	StatusUsage       = 2
	StatusHostKey     = 3
	StatusSSHAuth     = 4
	StatusSignIn      = 5
	StatusUnreachable = 6
	StatusInterrupted = 130
)

// CheckExplained looks for an error on stderr as the command tells it: one line that matches text,
// and right below it hints, one of which matches hint. Both are regular expressions.
func CheckExplained(t testing.TB, stderr, text, hint string) {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^sallyport: .*(?:` + text + `).*\n(?:hint: .*\n)*hint: .*(?:` + hint + `)`)
	if n := len(pattern.FindAllString(stderr, -1)); n != 1 {
		t.Errorf("%d times %q on stderr:\n%s", n, pattern, stderr)
	}
}

// Poll waits until ok, asking twenty times a second. It is for what nothing tells of: a file that
// another program writes. what names it in the failure, which comes after Patience.
func Poll(t testing.TB, ok func() bool, what string) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for began := time.Now(); !ok(); {
		if time.Since(began) > Patience {
			t.Fatal("still waiting for " + what)
		}
		<-again.C
	}
}

// Watched is a process that somebody else started: a child of the program under test.
type Watched struct{ pid, pidfd int }

// Watch takes note of a running process, so that its number cannot come to mean another one. The
// process is killed when the test ends.
func Watch(t testing.TB, pid int) *Watched {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
	})
	return &Watched{pid, fd}
}

// CheckEnds fails the test if the process does not end within Patience.
func (w *Watched) CheckEnds(t testing.TB) {
	t.Helper()
	if !awaitEnd(w.pidfd) {
		t.Errorf("process %d still runs", w.pid)
	}
}
