//go:build linux

//lint:file-ignore SA1019 sampling is deprecated in 2026-07-28, and has to be carried all the same

package wires_test

import (
	"context"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A server speaks nothing but 2026-07-28. Hosts of each revision work with it: what the one asks in
// an answer the other is asked in a request.
func TestServerOfTheNewestRevision(t *testing.T) {
	t.Parallel()
	url := machines.StartModern(t)
	home := t.TempDir() // the second start remembers the first
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-06-18"} {
		t.Run("host of "+version, func(t *testing.T) { workWithModern(t, url, home, version) })
	}
}

func workWithModern(t *testing.T, url, home, version string) {
	ctx, cancel := context.WithTimeout(t.Context(), machines.Patience)
	defer cancel()
	changed := make(chan struct{}, 10)
	client := mcp.NewClient(&mcp.Implementation{Name: "host", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "hello"}}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	cmd := machines.Command(t, home, url)
	cmd.Env = append(cmd.Env, "LOG_LEVEL=debug")
	cmd.Stderr = t.Output()
	session, err := client.Connect(ctx, &mcp.CommandTransport{Command: cmd},
		&mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if got := session.InitializeResult(); got.ProtocolVersion != version || got.ServerInfo == nil ||
		got.ServerInfo.Name != "typescript" {
		t.Errorf("the session is %+v", got)
	}
	tools, err := session.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) != 3 {
		t.Errorf("tools: %+v, %v", tools, err)
	}
	call := func(name string, arguments any, want string) {
		t.Helper()
		res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: arguments})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if got := res.Content[0].(*mcp.TextContent).Text; got != want {
			t.Errorf("%s says %q, want %q", name, got, want)
		}
	}
	call("echo", machines.EchoArguments{Message: " grüße 🚪"}, "Echo:  grüße 🚪")
	call("ask", struct{}{}, "elicited decline, sampled hello")
	awaitNotice(t, changed, func() { call("change", struct{}{}, "changed") })
	if err := session.Close(); err != nil {
		t.Errorf("end: %v", err)
	}
}

// awaitNotice changes something until the host is notified: the subscription may not be open yet.
func awaitNotice(t *testing.T, notices <-chan struct{}, change func()) {
	t.Helper()
	for began := time.Now(); ; {
		change()
		select {
		case <-notices:
			return
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(began) > machines.Patience {
			t.Fatal("no notice of a change")
		}
	}
}
