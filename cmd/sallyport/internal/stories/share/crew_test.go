//go:build linux

// The stories of many proxies on one connection, while everything that it is made of breaks: they
// are never worse off than alone. Real: sshd, the Go SDK's server, the processes of the shared
// connection, a network in which packets are dropped.
package share_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { machines.Main(m) }

// crew is proxies on one connection, and what they need. All of it is in a network of its own.
type crew struct {
	t  testing.TB
	ns *machines.Namespace
	// hop is the bastion, and up the server behind it.
	hop *machines.SSHD
	up  *server
	// home and runtime are the directories of the person. The path of a socket must be short.
	home, runtime string
	// args are flags and URL.
	args    []string
	env     []string
	proxies []*proxy
}

// newCrew starts all but the proxies. Flags in args win.
func newCrew(t testing.TB, o machines.SSHDOptions, args ...string) *crew {
	t.Helper()
	c := &crew{t: t, ns: machines.NewNamespace(t), home: shortDir(t), runtime: runtimeDir(t)}
	o.NS, o.Listen = c.ns, "127.0.0.1:2222"
	c.hop, c.up = machines.StartSSHD(t, o), startServer(t, c.ns)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: c.hop, Config: []string{"IdentityAgent none"}})
	c.args = append(args, "-F", config, "--via", "bastion", "--grant", "none", "--token-store", "memory", c.up.url)
	c.env = []string{"XDG_RUNTIME_DIR=" + c.runtime, "LOG_LEVEL=debug", "SALLYPORT_LOG_FILE=" + filepath.Join(c.home, "log")}
	t.Cleanup(func() {
		if t.Failed() {
			c.showShares()
		}
	})
	return c
}

// shortDir makes a directory whose path is short. It ends with the test.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "crew")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// runtimeDir makes a directory for sockets on a file system of its own, which has little room.
func runtimeDir(t testing.TB) string {
	t.Helper()
	disk := shortDir(t)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size=256k,nr_inodes=200"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	dir := filepath.Join(disk, "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// showShares logs what the shared connections have logged.
func (c *crew) showShares() {
	text, _ := os.ReadFile(filepath.Join(c.home, "log"))
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " share=") || !strings.HasPrefix(line, "time=") {
			c.t.Logf("%.400s", strings.TrimSuffix(line, "\n"))
		}
	}
}

// command is the real command in the crew's network and directories. Without args it is a proxy.
func (c *crew) command(args ...string) *exec.Cmd {
	c.t.Helper()
	if args == nil {
		args = c.args
	}
	cmd := machines.Command(c.t, c.home, args...)
	cmd.Env = append(cmd.Env, c.env...)
	return cmd
}

// run runs the command to its end.
func (c *crew) run(args ...string) (out string, status int) {
	c.t.Helper()
	cmd := c.command(args...)
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	machines.OwnGroup(cmd)
	if err := c.ns.Enter(cmd.Start); err != nil {
		c.t.Fatal(err)
	}
	cmd.Wait()
	return text.String(), cmd.ProcessState.ExitCode()
}

// launch starts n proxies at once, and does not wait for them.
func (c *crew) launch(n int) []*proxy {
	c.t.Helper()
	var started []*proxy
	for range n {
		started = append(started, startProxy(c.t, c.ns, c.command()))
	}
	c.proxies = append(c.proxies, started...)
	return started
}

// start starts n proxies at once, and waits until each has made a call.
func (c *crew) start(n int) {
	c.t.Helper()
	for _, p := range c.launch(n) {
		p.initialize(c.t)
	}
	for i, p := range c.proxies {
		p.echo(c.t, fmt.Sprintf("start %d of %d", i, len(c.proxies)))
	}
}

// logins counts those that sshd has let in.
func (c *crew) logins() int { return len(accepted.FindAllString(c.hop.Log.String(), -1)) }

var accepted = regexp.MustCompile(`(?m)^Accepted \S+ for `)

// checkLogins compares that number.
func (c *crew) checkLogins(want int) {
	c.t.Helper()
	if got := c.logins(); got != want {
		c.t.Errorf("%d logins, want %d", got, want)
	}
}

// shares returns the processes of shared connections.
func (c *crew) shares() (pids []int) {
	for _, pid := range c.processes() {
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); string(line) == "sallyport\x00share\x00" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// share returns the only one.
func (c *crew) share() int {
	c.t.Helper()
	machines.Poll(c.t, func() bool { return len(c.shares()) == 1 }, "the end of all shared connections but one")
	return c.shares()[0]
}

// processes returns all that belong to the home directory.
func (c *crew) processes() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && slices.Contains(strings.Split(string(environ), "\x00"), "HOME="+c.home) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// signalShares sends a signal to the processes of all shared connections.
func (c *crew) signalShares(s syscall.Signal) {
	for _, pid := range c.shares() {
		syscall.Kill(pid, s)
	}
}

// end ends the sessions, and then the shared connection, and wants no process to be left.
func (c *crew) end() {
	c.t.Helper()
	for _, p := range c.proxies {
		p.awaitAll(c.t) // a proxy whose stdin has ended gives up what takes long
	}
	for _, p := range c.proxies {
		p.in.Close() // all at once
	}
	for _, p := range c.proxies {
		p.end(c.t)
	}
	if out, status := c.run("share", "--stop"); status != machines.StatusDone {
		c.t.Errorf("share --stop: status %d: %s", status, out)
	}
	machines.Poll(c.t, func() bool { return len(c.processes()) == 0 }, "the end of all processes")
	if runs := c.up.twice(); len(runs) > 0 {
		c.t.Errorf("%d calls ran twice, as %q", len(runs), runs[0])
	}
}

// server is an MCP server of the Go SDK in this process. It counts how often each call has run.
type server struct {
	url string
	web *http.Server

	held    atomic.Int64  // counts calls that are or were held
	release chan struct{} // closed to answer the held ones
	brief   atomic.Bool   // no stream outlives its request

	mu   sync.Mutex
	runs map[string]int // by message
}

// startServer starts one in a network. Its tools: `echo` gives the message back, and `hold` does
// when it is released.
func startServer(t testing.TB, ns *machines.Namespace) *server {
	t.Helper()
	s := &server{release: make(chan struct{}), runs: map[string]int{}}
	sdk := mcp.NewServer(&mcp.Implementation{Name: "go-sdk", Version: "1.0.0"}, nil)
	type arguments struct {
		Message string `json:"message"`
	}
	mcp.AddTool(sdk, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in arguments) (*mcp.CallToolResult, any, error) {
		s.note(in.Message)
		return text("Echo: " + in.Message), nil, nil
	})
	mcp.AddTool(sdk, &mcp.Tool{Name: "hold"}, func(ctx context.Context, _ *mcp.CallToolRequest, in arguments) (*mcp.CallToolResult, any, error) {
		s.note(in.Message)
		s.held.Add(1)
		select {
		case <-s.release:
		case <-ctx.Done():
		}
		return text("Held: " + in.Message), nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return sdk }, nil)
	listener := ns.Listen(t, "127.0.0.1:80")
	s.web = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.brief.Load() && r.Method == http.MethodGet {
			http.Error(w, "", http.StatusMethodNotAllowed)
			return
		}
		handler.ServeHTTP(w, r)
	})}
	go s.web.Serve(listener) // ends with the test
	t.Cleanup(func() { s.web.Close() })
	s.url = "http://127.0.0.1/mcp"
	return s
}

// beBrief ends each connection with its request.
func (s *server) beBrief() {
	s.brief.Store(true)
	s.web.SetKeepAlivesEnabled(false)
}

func text(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

func (s *server) note(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[message]++
}

// twice returns the messages of calls that ran more than once.
func (s *server) twice() (messages []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for message, n := range s.runs {
		if n > 1 {
			messages = append(messages, message)
		}
	}
	return messages
}

// span is the shortest and the longest of some times.
type span struct{ min, max time.Duration }

func (s span) String() string {
	if s == (span{}) {
		return "-"
	}
	return fmt.Sprintf("%.1f-%.1f s", s.min.Seconds(), s.max.Seconds())
}

// spanOf measures times.
func spanOf(times []time.Duration) span {
	if len(times) == 0 {
		return span{}
	}
	return span{slices.Min(times), slices.Max(times)}
}
