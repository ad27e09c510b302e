//go:build linux

package share_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// proxy is the real command under a host that counts the answers to each request.
type proxy struct {
	cmd    *exec.Cmd
	in     *os.File
	stderr *stderr
	exited chan struct{} // closed when the process has ended

	mu      sync.Mutex // guards what follows
	last    int        // the last id
	calls   map[string]*call
	strange []string // lines that answer nothing that waits
}

// call is one request.
type call struct {
	sent     time.Time
	answered time.Time
	// text is that of the result; empty if the answer is an error, whose kind and words are fault.
	text, fault string
	done        chan struct{} // closed by the answer
}

// startProxy starts cmd. It ends with the test.
func startProxy(t testing.TB, ns *machines.Namespace, cmd *exec.Cmd) *proxy {
	t.Helper()
	p := &proxy{cmd: cmd, stderr: &stderr{}, exited: make(chan struct{}), calls: map[string]*call{}}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	cmd.Stdin, cmd.Stderr = stdin, p.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	machines.OwnGroup(cmd)
	if err := ns.Enter(cmd.Start); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	go func() { // ends with the process
		defer close(p.exited)
		p.read(out)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		select {
		case <-p.exited:
		default:
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-p.exited
		}
	})
	return p
}

// read takes the answers until out ends.
func (p *proxy) read(out io.Reader) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			if line != "" {
				p.note(line)
			}
			return
		}
		p.note(line)
	}
}

// note takes one line of stdout.
func (p *proxy) note(line string) {
	var a struct {
		JSONRPC string
		ID      json.RawMessage
		Method  string
		Result  *struct{ Content []struct{ Text string } }
		Error   *struct {
			Message string
			Data    struct{ Kind string }
		}
	}
	err := json.Unmarshal([]byte(line), &a)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[string(a.ID)]
	switch {
	case err == nil && a.ID == nil && a.Method != "" && a.JSONRPC == "2.0":
		return // a notification
	case err != nil || c == nil || !strings.HasSuffix(line, "\n") || (a.Result == nil) == (a.Error == nil):
		p.strange = append(p.strange, line)
		return
	}
	delete(p.calls, string(a.ID))
	c.answered = time.Now()
	switch {
	case a.Error != nil:
		c.fault = a.Error.Data.Kind + ": " + a.Error.Message
	case len(a.Result.Content) == 1:
		c.text = a.Result.Content[0].Text
	}
	close(c.done)
}

// write sends a request.
func (p *proxy) write(id, line string) *call {
	c := &call{sent: time.Now(), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[id] = c
	io.WriteString(p.in, line+"\n") // a proxy that has ended is found out by the wait for the answer
	return c
}

// initialize begins the session and waits for the answer.
func (p *proxy) initialize(t testing.TB) {
	t.Helper()
	c := p.write(`"first"`, strings.TrimSuffix(machines.InitializeLine, "\n"))
	p.await(t, c)
	if c.fault != "" {
		t.Fatalf("initialize: %s\n%s", c.fault, p.stderr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
}

// send calls a tool. It does not wait for the answer.
func (p *proxy) send(tool, message string) *call {
	p.mu.Lock()
	p.last++
	id := p.last
	p.mu.Unlock()
	return p.write(fmt.Sprint(id), fmt.Sprintf(
		`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"message":%q}}}`, id, tool, message))
}

// await waits for an answer.
func (p *proxy) await(t testing.TB, c *call) *call {
	t.Helper()
	select {
	case <-c.done:
	case <-p.exited:
		t.Fatalf("the proxy has ended; stderr:\n%s", p.stderr)
	case <-time.After(machines.Patience):
		t.Fatalf("a request has no answer; stderr:\n%s", p.stderr)
	}
	return c
}

// echo calls the tool that gives the message back, and wants that.
func (p *proxy) echo(t testing.TB, message string) {
	t.Helper()
	if c := p.await(t, p.send("echo", message)); c.text != "Echo: "+message {
		t.Errorf("echo: %q, error %q; stderr:\n%s", c.text, c.fault, p.stderr)
	}
}

// awaitAll waits for the answers of all requests.
func (p *proxy) awaitAll(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	calls := slices.Collect(maps.Values(p.calls))
	p.mu.Unlock()
	for _, c := range calls {
		p.await(t, c)
	}
}

// end ends the session and looks at what the proxy leaves.
func (p *proxy) end(t testing.TB) {
	t.Helper()
	p.in.Close()
	select {
	case <-p.exited:
	case <-time.After(machines.Patience):
		t.Fatalf("a proxy does not end; stderr:\n%s", p.stderr)
	}
	if status := p.cmd.ProcessState.ExitCode(); status != machines.StatusDone {
		t.Errorf("a proxy ended with %v; stderr:\n%s", p.cmd.ProcessState, p.stderr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.strange) > 0 {
		t.Errorf("%d lines that answer nothing, as %.300q", len(p.strange), p.strange[0])
	}
	if len(p.calls) > 0 {
		t.Errorf("%d requests without an answer", len(p.calls))
	}
}

// stderr keeps what a proxy wrote, and when it wrote that it has lost its connection.
type stderr struct {
	mu   sync.Mutex
	text []byte
	line []byte // one that is not whole yet
	lost []time.Time
	// told is what the person reads: the lines that are not the log's.
	told []string
}

// lostLine is in the log when a proxy knows that its connection has ended, or takes no more calls.
var lostLine = regexp.MustCompile(`msg="(link lost|link given up)"`)

// keptText is how much of stderr is kept.
const keptText = 64 << 10

func (s *stderr) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text = append(s.text, b...); len(s.text) > 2*keptText {
		s.text = append([]byte(nil), s.text[len(s.text)-keptText:]...)
	}
	for _, c := range b {
		if s.line = append(s.line, c); c != '\n' {
			continue
		}
		if lostLine.Match(s.line) {
			s.lost = append(s.lost, time.Now())
		}
		if line := string(s.line); strings.HasPrefix(line, "sallyport: ") && len(s.told) < 1000 {
			s.told = append(s.told, strings.TrimSuffix(line, "\n"))
		}
		s.line = s.line[:0]
	}
	return len(b), nil
}

func (s *stderr) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// lostAfter returns when the proxy first wrote that, after a moment; zero if it did not.
func (s *stderr) lostAfter(moment time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.lost {
		if at.After(moment) {
			return at
		}
	}
	return time.Time{}
}

// toldPerson returns what the person was told.
func (s *stderr) toldPerson() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

// forget forgets what the person was told.
func (s *stderr) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = nil
}
