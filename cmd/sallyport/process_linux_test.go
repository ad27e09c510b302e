package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for another program. It is never an assertion: it only turns a hang
// into a failure that names what was awaited.
const patience = 60 * time.Second

// transcript keeps what a program wrote and passes it on to the test's log.
type transcript struct {
	mu      sync.Mutex
	text    []byte
	ended   bool
	changed chan struct{} // closed and replaced at each change
	log     io.Writer
}

func newTranscript(log io.Writer) *transcript {
	return &transcript{log: log, changed: make(chan struct{})}
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.text = append(tr.text, p...)
	close(tr.changed)
	tr.changed = make(chan struct{})
	return tr.log.Write(p)
}

// end says that nothing more will come.
func (tr *transcript) end() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.ended {
		tr.ended = true
		close(tr.changed)
	}
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return string(tr.text)
}

// await waits until the text so far matches pattern and returns the match and its groups. It fails
// the test where the program ended without.
func (tr *transcript) await(t testing.TB, pattern string) []string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		tr.mu.Lock()
		match, ended, changed := want.FindStringSubmatch(string(tr.text)), tr.ended, tr.changed
		tr.mu.Unlock()
		switch {
		case match != nil:
			return match
		case ended:
			t.Fatalf("the program ended before it wrote %q; it wrote:\n%s", pattern, tr)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("still waiting for %q: %v; so far:\n%s", pattern, ctx.Err(), tr)
		}
	}
}

// process is a program that runs beside the test.
type process struct {
	cmd      *exec.Cmd
	Out, Err *transcript
	stdin    io.Closer     // nil where the caller set cmd.Stdin
	exited   chan struct{} // closed when err is set
	err      error
}

// startWithInput is startProcess with a pipe to the program's stdin, which ends with the test unless it is closed before.
func startWithInput(t testing.TB, cmd *exec.Cmd) (p *process, input *os.File) {
	t.Helper()
	stdin, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = stdin
	p = startProcess(t, cmd)
	stdin.Close()
	t.Cleanup(func() { input.Close() })
	return p, input
}

// startProcess starts cmd, whose output goes to the test's log. The program and the process group it
// leads end with the test, and with the test binary. Where cmd.Stdin is nil, stdin stays open until then.
func startProcess(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, Out: newTranscript(t.Output()), Err: newTranscript(t.Output()), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Out, p.Err
	cmd.WaitDelay = 5 * time.Second // for grandchildren that hold the pipes
	ownGroup(cmd)
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
	go func() {
		p.err = cmd.Wait()
		p.Out.end()
		p.Err.end()
		close(p.exited)
	}()
	t.Cleanup(func() { p.stop() })
	return p
}

// ownGroup makes cmd the leader of a process group that ends with this process.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// stop kills the process group and waits; idempotent.
func (p *process) stop() {
	select {
	case <-p.exited:
	default:
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
	<-p.exited
}

// wait waits for the program to end by itself and returns its exit status.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("%s did not end; stderr:\n%s", p.cmd.Path, p.Err)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		t.Fatal(p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// startRole starts the test binary in another role, inside ns where that is not nil, and waits for
// the first line it prints.
func startRole(t testing.TB, ns *netns, role string, config any) (p *process, first string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := ns.command(t, self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, roleConfigVariable+"="+string(text))
	p = startProcess(t, cmd)
	return p, p.Out.await(t, `(?m)^(.*)\n`)[1]
}

// openDir returns a temporary directory that other accounts can read: t.TempDir's cannot be
// entered by them.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writeFile writes a file of the test's own and returns its path.
func writeFile(t testing.TB, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// binary builds the command once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-test-")
	if err != nil {
		return "", err
	}
	afterAll(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // other accounts run it too
		return "", err
	}
	path := filepath.Join(dir, "sallyport")
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", path} // as make build
	if raceDetector() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", errors.New("go build: " + string(bytes.TrimSpace(out)))
	}
	return path, nil
})

// buildSallyport returns the path of the real command, built as the tests are: with the race
// detector where they have it.
func buildSallyport(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// raceDetector tells whether this binary was built with -race.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}
