package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// hostLimit is how long a host waits for any one answer.
const hostLimit = 30 * time.Second

// TestWeakness02HostSurvivesALongLogin has a host that gives up on what takes 30 s, and a person who signs in only when the
// sign-in tool has said so in vain: each call of it takes 25 s. SIGN_IN_CALLS=7 makes it three minutes.
func TestWeakness02HostSurvivesALongLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, startMCP)
	home := t.TempDir()
	links, changes := make(chan string, 10), make(chan struct{}, 10)
	complete := make(chan struct{}, 10)
	cmd := s.throughChain(t, home, "--no-browser", "--callback-port", "0")
	begun := time.Now()
	host := startHost(t, cmd, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			links <- req.Params.Mode + " " + req.Params.URL
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
		ElicitationCompleteHandler: func(context.Context, *mcp.ElicitationCompleteNotificationRequest) { complete <- struct{}{} },
		ToolListChangedHandler:     func(context.Context, *mcp.ToolListChangedRequest) { changes <- struct{}{} },
	})
	session := host.Session(t)
	t.Logf("initialize was answered after %v", time.Since(begun))
	if got := toolNames(t, session); got != "sallyport_sign_in" {
		t.Errorf("tools before the sign-in: %s", got)
	}
	link, ok := strings.CutPrefix(receive(t, links, "elicitation"), "url ")
	if !ok {
		t.Errorf("the elicitation has %s", link)
	}
	for range benchSetting(t, "SIGN_IN_CALLS", 1) {
		if text := callTool(t, session, "sallyport_sign_in"); !strings.Contains(text, link) {
			t.Errorf("the sign-in tool says %q, which is not the link %q", text, link)
		}
	}
	t.Logf("the person signs in after %v", time.Since(begun))
	person{TrustsAll: true}.logsIn(t, link)
	receive(t, changes, "change of the tools")
	receive(t, complete, "end of the elicitation")
	if got := toolNames(t, session); got != "echo grow wait" {
		t.Errorf("tools after the sign-in: %s", got)
	}
	if text := callTool(t, session, "sallyport_sign_in"); !strings.Contains(text, "is connected") {
		t.Errorf("the sign-in tool says %q", text)
	}
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	s.checkGate(t)

	// The next start finds the bastion down, and knows the server.
	s.hops[0].SSHD.Stop()
	host = startHost(t, s.throughChain(t, home, "--no-browser"), nil)
	session = host.Session(t)
	if got := session.InitializeResult().ServerInfo.Name; got != "go-sdk" {
		t.Errorf("the server is %q", got)
	}
	if got := toolNames(t, session); got != "echo grow wait" {
		t.Errorf("remembered tools: %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hostLimit)
	defer cancel()
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo"}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a call without the bastion: %v", err)
	}
}

// toolNames lists the tools, in the order that the Go SDK's server gives them.
func toolNames(t *testing.T, session *mcp.ClientSession) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostLimit)
	defer cancel()
	list, err := session.ListTools(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return strings.Join(names, " ")
}

// callTool calls a tool within the host's limit and returns its text.
func callTool(t *testing.T, session *mcp.ClientSession, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostLimit)
	defer cancel()
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return result.Content[0].(*mcp.TextContent).Text
}

func receive[T any](t *testing.T, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(patience):
		t.Fatal("no " + what)
	}
	return got
}

// benchSetting returns a number that a person may set by an environment variable to make a test longer.
func benchSetting(t testing.TB, name string, value int64) int64 {
	if text := os.Getenv(name); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			t.Fatalf("%s=%q is not a number", name, text)
		}
		return n
	}
	return value
}
