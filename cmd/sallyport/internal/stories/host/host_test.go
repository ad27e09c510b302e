//go:build linux

// The stories of the program that starts sallyport: it ends, it is killed, it stops reading, it
// gives sockets instead of pipes, it sends a signal. Real: pipes, sockets, processes, the Go SDK's
// server.
package host_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// startServer starts an MCP server and returns its URL. deleted is closed when it was told of the
// end of the session.
func startServer(t *testing.T) (url string, deleted <-chan struct{}) {
	t.Helper()
	told := make(chan struct{})
	backend := machines.StartMCP(t, nil)
	passOn := machines.PassOn(t, backend)
	front := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			close(told)
		}
		passOn.ServeHTTP(w, r)
	}))
	return front + machines.ParseURL(t, backend).Path, told
}

// The host closes the pipe that the proxy writes to, as one that ends does. The upstream is told,
// and that is no failure.
func TestHostStopsReading(t *testing.T) {
	t.Parallel()
	url, deleted := startServer(t)
	cmd := machines.Command(t, t.TempDir(), "--grant", "none", url)
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	stdin, host, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, theirs, t.Output()
	machines.OwnGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	stdin.Close()
	io.WriteString(host, machines.InitializeLine)
	if line, err := bufio.NewReader(ours).ReadString('\n'); err != nil || !strings.Contains(line, `"result"`) {
		t.Errorf("initialize: %q, %v", line, err)
	}
	ours.Close()
	io.WriteString(host, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`+"\n")
	late := time.AfterFunc(machines.Patience, func() { cmd.Process.Signal(syscall.SIGQUIT) }) // shows where it hangs
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	select {
	case <-deleted:
	default:
		t.Error("the upstream was not told")
	}
}

// The host is killed, and another process keeps the proxy's stdin open. The upstream is told all
// the same.
func TestHostIsKilled(t *testing.T) {
	t.Parallel()
	url, deleted := startServer(t)
	// The shell is the host: it waits, so it is the parent. A command in the background has no
	// stdin unless it is named.
	command := machines.Command(t, t.TempDir(), "--grant", "none", url)
	shell := exec.Command("/bin/sh", append([]string{"-c", `exec 3<&0; "$@" <&3 3<&- & exec <&- 3<&-; echo $! >&2; wait`,
		"sh"}, command.Args...)...)
	shell.Env, shell.Dir = command.Env, command.Dir
	p := machines.StartStdio(t, shell)
	proxy, err := strconv.Atoi(p.Err.Await(t, `^(\d+)\n`)[1])
	if err != nil {
		t.Fatal(err)
	}
	machines.Watch(t, proxy)
	p.Initialize(t)
	p.Out.Await(t, `"result"`)
	p.Signal(t, syscall.SIGKILL)
	machines.Receive(t, deleted, "word to the upstream")
	<-p.Exited // the proxy has the shell's stdout, so this is its end, too
}

// Each command is ended while it waits for an SSH server that says nothing.
func TestSignals(t *testing.T) {
	t.Parallel()
	silent := machines.Here.Listen(t, "127.0.0.1:0")
	reached := make(chan struct{}, 10)
	go func() { // ends with the listener
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			reached <- struct{}{}
		}
	}()
	target := []string{"--via", "ssh://nobody@" + silent.Addr().String(), "-F", "none", "https://mcp.internal/mcp"}
	for _, test := range []struct {
		name   string
		args   []string
		signal syscall.Signal // 0 is the end of input
		status int
	}{
		{"proxy, end of input", []string{"--grant", "none"}, 0, machines.StatusDone},
		{"proxy, SIGTERM", []string{"--grant", "none"}, syscall.SIGTERM, machines.StatusDone},
		{"proxy, SIGINT", []string{"--grant", "none"}, syscall.SIGINT, machines.StatusDone},
		{"login, SIGINT", []string{"login"}, syscall.SIGINT, machines.StatusInterrupted},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := machines.StartStdio(t, machines.Command(t, t.TempDir(), append(test.args, target...)...))
			p.Initialize(t)
			select {
			case <-reached:
			case <-p.Exited:
				t.Fatalf("ended before it came to the SSH server:\n%s", p.Err)
			}
			if test.signal == 0 {
				p.Input.Close()
			} else {
				p.Signal(t, test.signal)
			}
			if status := p.Wait(t); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if text := p.Err.String(); text != "" {
				t.Errorf("stderr: %s", text)
			}
			if answered := strings.Contains(p.Out.String(), `"id":"first","error":{"code":-32000`); answered != (test.status == machines.StatusDone) {
				t.Errorf("stdout: %q", p.Out)
			}
		})
	}
}
