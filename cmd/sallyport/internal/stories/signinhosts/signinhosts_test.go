//go:build linux

// The stories of hosts that read the server's tools at once after a sign-in, late, or never. Real:
// the hosts of the Go and the TypeScript SDK, and, where SALLYPORT_TEST_HOSTS names their folder,
// those that people use.
package signinhosts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestMain(m *testing.M) { machines.Main(m) }

const (
	listChanged = `"method":"notifications/tools/list_changed"`
	signInCall  = `{"jsonrpc":"2.0","id":%q,"method":"tools/call","params":{"name":"sallyport_sign_in"}}` + "\n"
	listCall    = `{"jsonrpc":"2.0","id":%q,"method":"tools/list"}` + "\n"
)

// signIn is the person, who opens the link that stderr offers.
func signIn(t *testing.T, stderr *machines.Transcript) {
	t.Helper()
	link := stderr.Await(t, machines.Offered)[1]
	if out, err := exec.Command("curl", "-sS", "-L", "--noproxy", "*", "-o", "/dev/null", link).CombinedOutput(); err != nil {
		t.Errorf("curl: %v: %s", err, out)
	}
}

// textOf returns the text of a result of a tool.
func textOf(t *testing.T, line string) string {
	t.Helper()
	var answer struct {
		Result struct{ Content []struct{ Text string } }
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil || len(answer.Result.Content) != 1 {
		t.Fatalf("%v: %s", err, line)
	}
	return answer.Result.Content[0].Text
}

// A host is told of the change first. One that lists then has the list before the sign-in tool is
// answered. One that never does gets the tools in that answer, and calls them by the other tool.
func TestScriptedHosts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		lists bool
		// after is how long the host takes to ask.
		after time.Duration
	}{
		{"one that lists at once", true, 0},
		{"a slow one", true, time.Second},
		{"one that never lists again", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			site := machines.NewFakeSite(t)
			p := machines.StartStdio(t, site.Command(nil, "--no-browser", "--callback-port", "0"))
			p.Initialize(t)
			p.Answer(t, `"first"`)
			p.Send(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"+fmt.Sprintf(listCall, "list"))
			if line := p.Answer(t, `"list"`); !strings.Contains(line, `"name":"sallyport_sign_in"`) || !strings.Contains(line, `"name":"sallyport_call_tool"`) {
				t.Errorf("the first list: %s", line)
			}
			p.Send(t, fmt.Sprintf(signInCall, "link"))
			if text := textOf(t, p.Answer(t, `"link"`)); !strings.HasPrefix(text, "http://") {
				t.Errorf("the first call of the sign-in tool says %q", text)
			}
			p.Send(t, fmt.Sprintf(signInCall, "wait"))
			signIn(t, p.Err)
			p.Out.Await(t, listChanged)
			if tt.lists {
				time.Sleep(tt.after) // the host's own slowness
				p.Send(t, fmt.Sprintf(listCall, "anew"))
			}
			line := p.Answer(t, `"wait"`)
			before, _, _ := strings.Cut(p.Out.String(), line)
			if got := strings.Contains(before, listChanged) && strings.Contains(before, `"id":"anew"`); got != tt.lists {
				t.Errorf("the list came before the answer: %v, want %v\n%s", got, tt.lists, p.Out)
			}
			text := textOf(t, line)
			if shown := strings.Contains(text, `"name":"echo"`) && strings.Contains(text, "sallyport_call_tool"); shown == tt.lists {
				t.Errorf("the answer is %q", text)
			}
			p.Send(t, `{"jsonrpc":"2.0","id":"call","method":"tools/call","params":{"name":"sallyport_call_tool","arguments":{"name":"echo","arguments":{"message":"hello"}}}}`+"\n")
			answer := p.Answer(t, `"call"`)
			if tt.lists {
				if e := machines.ParseError(t, answer, `"call"`); e.Data.Kind != "reserved_tool" {
					t.Errorf("got %+v", e)
				}
			} else if got := textOf(t, answer); got != "Echo: hello" {
				t.Errorf("got %q", got)
			}
			if status := p.End(t); status != 0 {
				t.Errorf("the proxy ended with status %d", status)
			}
		})
	}
}

// The host of the Go SDK lists when it is told of the change, and has the tools when the sign-in
// tool is answered.
func TestGoHost(t *testing.T) {
	t.Parallel()
	site := machines.NewFakeSite(t)
	tools := make(chan string, 10)
	var host *machines.Host
	host = machines.StartHost(t, site.Command(nil, "--no-browser", "--callback-port", "0"), &mcp.ClientOptions{
		ToolListChangedHandler: func(_ context.Context, _ *mcp.ToolListChangedRequest) { go func() { tools <- host.Tools(t) }() }, // ends with the list
	})
	if got := host.Tools(t); got != "sallyport_sign_in sallyport_call_tool" {
		t.Errorf("tools before the sign-in: %s", got)
	}
	host.Call(t, "sallyport_sign_in") // the link
	answer := make(chan string, 1)
	go func() { answer <- host.Call(t, "sallyport_sign_in") }() // ends with the sign-in
	signIn(t, host.Stderr)
	text := machines.Receive(t, answer, "answer of the sign-in tool")
	select {
	case got := <-tools:
		if got != "echo grow wait" || !strings.Contains(text, "in your list of tools: call them") {
			t.Errorf("tools after the sign-in: %s; the sign-in tool says %q", got, text)
		}
	default:
		t.Errorf("the host has no tools yet; the sign-in tool says %q", text)
	}
	host.Echo(t)
	host.Close(t)
}

// The same with the TypeScript SDK, whose client lists by itself.
func TestTypeScriptHost(t *testing.T) {
	t.Parallel()
	site := machines.NewFakeSite(t)
	cmd := site.Command(nil, "--no-browser", "--callback-port", "0")
	host := exec.Command(machines.Node(t), append([]string{machines.Peer(t, "signinhost.mjs"), cmd.Path}, cmd.Args[1:]...)...)
	host.Env, host.Dir = cmd.Env, cmd.Dir
	p := machines.StartProcess(t, host)
	p.Out.Await(t, `"link"`)
	signIn(t, p.Err)
	if status := p.Wait(t); status != 0 {
		t.Fatalf("the host ended with status %d:\n%s", status, p.Out)
	}
	want := `{"step":"tools","tools":["sallyport_sign_in","sallyport_call_tool"]}
{"step":"link","link":true}
{"step":"connected","tools":["echo","grow","wait"],"listed":true}
{"step":"echo","text":"Echo: hello"}
`
	if got := p.Out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
