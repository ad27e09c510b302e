//go:build linux

package machines

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// HostLimit is how long a host of the tests waits for any one answer, as many hosts do.
const HostLimit = 30 * time.Second

// Host is a real MCP host, the Go SDK's, that starts a server and talks to it on stdin and stdout.
type Host struct {
	Cmd *exec.Cmd
	// Stderr is the server's.
	Stderr *Transcript
	// Wire has every message both ways, each with "read: " or "write: " before it.
	Wire *Transcript

	session   *mcp.ClientSession
	err       error
	connected chan struct{} // closed when session or err is set
}

// StartHost starts cmd as an MCP server and begins to initialize. It does not wait for the answer,
// so that a login can be watched on Stderr. Nil options are the SDK's defaults. The server ends
// with the test.
func StartHost(t testing.TB, cmd *exec.Cmd, o *mcp.ClientOptions) *Host {
	t.Helper()
	h := &Host{Stderr: NewTranscript(t.Output()), Wire: NewTranscript(t.Output()), Cmd: cmd, connected: make(chan struct{})}
	cmd.Stderr = h.Stderr
	cmd.WaitDelay = 5 * time.Second
	OwnGroup(cmd)
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before the cleanup that says goodbye
	go func() {                                             // ends with the answer, or with ctx
		defer close(h.connected)
		client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk-host", Version: "1.0.0"}, o)
		transport := &mcp.LoggingTransport{Transport: &mcp.CommandTransport{Command: cmd}, Writer: h.Wire}
		if h.session, h.err = client.Connect(ctx, transport, nil); h.err != nil {
			h.Stderr.End()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-h.connected
		if h.session != nil {
			h.session.Close() // may be the second time; it ends a server that does not end by itself
		}
	})
	return h
}

// Session waits until the server has answered initialize and returns the session. Closing that
// closes the server's stdin, and returns its exit status as an error.
func (h *Host) Session(t testing.TB) *mcp.ClientSession {
	t.Helper()
	select {
	case <-h.connected:
	case <-time.After(Patience):
		t.Fatalf("no answer to initialize; stderr:\n%s", h.Stderr)
	}
	if h.err != nil {
		t.Fatalf("initialize: %v; stderr:\n%s", h.err, h.Stderr)
	}
	return h.session
}

// Close ends the session and checks that the server ended well.
func (h *Host) Close(t testing.TB) {
	t.Helper()
	if err := h.Session(t).Close(); err != nil {
		t.Errorf("the proxy ended with %v; stderr:\n%s", err, h.Stderr)
	}
}

// PID is the number of the server's process.
func (h *Host) PID() int { return h.Cmd.Process.Pid }

// Kill kills the server.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	if err := h.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// Echo calls the tool that all servers of the tests have, with text that a careless proxy would
// change.
func (h *Host) Echo(t testing.TB) {
	t.Helper()
	callEcho(t, h.Session(t))
}

// callEcho is Host.Echo for a session.
func callEcho(t testing.TB, session *mcp.ClientSession) {
	t.Helper()
	const message = "grüße 🚪 \u2028 </script> \\u0041"
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	got, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: EchoArguments{message}})
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := got.Content[0].(*mcp.TextContent); !ok || text.Text != "Echo: "+message {
		t.Errorf("echo: got %+v, want %q", got.Content[0], "Echo: "+message)
	}
}

// EchoError calls that tool once and returns the error.
func (h *Host) EchoError(t testing.TB) error {
	t.Helper()
	_, err := h.Session(t).CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: EchoArguments{"x"}})
	return err
}

// EchoOnce starts cmd as a host does, calls a tool and ends the session.
func EchoOnce(t testing.TB, cmd *exec.Cmd) *Host {
	t.Helper()
	host := StartHost(t, cmd, nil)
	host.Echo(t)
	host.Close(t)
	return host
}

// EchoAll calls a tool in the session of each host at once, and ends the sessions.
func EchoAll(t testing.TB, hosts ...*Host) {
	t.Helper()
	var wg sync.WaitGroup
	for _, host := range hosts {
		wg.Go(func() {
			session := host.Session(t)
			callEcho(t, session)
			if err := session.Close(); err != nil {
				t.Errorf("a proxy ended with %v", err)
			}
		})
	}
	wg.Wait()
}

// FirstOf waits until the stderr of one of the hosts matches the regular expression and returns the
// first group.
func FirstOf(t testing.TB, hosts []*Host, pattern string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	found := make(chan string, len(hosts))
	for _, host := range hosts {
		go func() { // ends with the first match, or with the host
			if m := host.Stderr.Find(ctx, pattern); m != nil {
				found <- m[1]
			}
		}()
	}
	return Receive(t, found, "match of "+pattern)
}

// Tools lists the tools, in the order that the Go SDK's server gives them, with a space between.
func (h *Host) Tools(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), HostLimit)
	defer cancel()
	list, err := h.Session(t).ListTools(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return strings.Join(names, " ")
}

// Call calls a tool without arguments within the host's limit and returns its text.
func (h *Host) Call(t testing.TB, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), HostLimit)
	defer cancel()
	result, err := h.Session(t).CallTool(ctx, &mcp.CallToolParams{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return result.Content[0].(*mcp.TextContent).Text
}

// Receive waits for a value. what names it in the failure.
func Receive[T any](t testing.TB, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(Patience):
		t.Fatal("no " + what)
	}
	return got
}

// hostStep is what one step of host.mjs, the TypeScript SDK's host, printed.
type hostStep struct {
	// Step is initialize, tools/list, tools/call, notification, close or error.
	Step    string
	Message string          // of error
	Tools   []string        // of tools/list
	Content json.RawMessage // of tools/call
	Method  string          // of notification
}

// RunTypeScriptHost lets the TypeScript SDK's host start a command and work with it: initialize,
// tools/list, tools/call of `echo`, one notification, close. It returns the names of the steps.
func RunTypeScriptHost(t testing.TB, cmd *exec.Cmd) []string {
	t.Helper()
	host := exec.Command(Node(t), append([]string{Peer(t, "host.mjs"), cmd.Path}, cmd.Args[1:]...)...)
	host.Env, host.Dir, host.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	p := StartProcess(t, host)
	status := p.Wait(t)
	var steps []string
	for line := range strings.Lines(p.Out.String()) {
		var step hostStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("host.mjs printed %q: %v", line, err)
		}
		steps = append(steps, step.Step)
	}
	if status != 0 || slices.Contains(steps, "error") {
		t.Fatalf("the host ended with status %d:\n%s\nstderr:\n%s", status, p.Out, p.Err)
	}
	return steps
}

// ElicitingHost is a host that shows URLs to its person, and notes what the server tells it. Its
// channels hold ten values; what comes after those is dropped.
type ElicitingHost struct {
	*Host
	// URLs are those of elicitations in URL mode.
	URLs <-chan string
	// Completed are the ends of elicitations, ToolChanges the changes of the list of tools.
	Completed, ToolChanges <-chan struct{}
}

// StartElicitingHost is StartHost for such a host.
func StartElicitingHost(t testing.TB, cmd *exec.Cmd) *ElicitingHost {
	t.Helper()
	urls, completed, changes := make(chan string, 10), make(chan struct{}, 10), make(chan struct{}, 10)
	host := StartHost(t, cmd, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if req.Params.Mode != "url" {
				return nil, errors.New("an elicitation in the mode " + req.Params.Mode)
			}
			offer(urls, req.Params.URL)
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
		ElicitationCompleteHandler: func(context.Context, *mcp.ElicitationCompleteNotificationRequest) {
			offer(completed,
				struct{}{})
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { offer(changes, struct{}{}) },
	})
	return &ElicitingHost{host, urls, completed, changes}
}

func offer[T any](to chan<- T, value T) {
	select {
	case to <- value:
	default:
	}
}
