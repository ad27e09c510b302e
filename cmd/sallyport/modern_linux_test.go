//lint:file-ignore SA1019 sampling and roots are deprecated in 2026-07-28, and have to be carried all the same

package main

//lint:file-ignore SA1019 sampling and roots are deprecated, and still spoken by hosts and servers

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// startModern starts the TypeScript SDK's MCP server of 2026-07-28 and returns its URL.
func startModern(t testing.TB) string {
	t.Helper()
	peerFile(t, "@modelcontextprotocol/server/package.json")
	return startProcess(t, exec.Command(nodePath(t), peer(t, "modern.mjs"))).Out.await(t, `(?m)^(.*)\n`)[1]
}

// A server that speaks nothing but 2026-07-28, with a host of each era: what the one asks in an answer the other is asked in a request.
func TestTypeScriptModernServer(t *testing.T) {
	url := startModern(t)
	home := t.TempDir() // the second start remembers the first
	for _, version := range []string{"2026-07-28", "2025-11-25", "2025-06-18"} {
		t.Run("host of "+version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
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
			cmd := exec.Command(buildSallyport(t), url)
			cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LOG_LEVEL=debug"}
			cmd.Stderr = t.Output()
			session, err := client.Connect(ctx, &mcp.CommandTransport{Command: cmd}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if got := session.InitializeResult(); got.ProtocolVersion != version || got.ServerInfo == nil || got.ServerInfo.Name != "typescript" {
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
			call("echo", echoArguments{" grüße 🚪"}, "Echo:  grüße 🚪")
			call("ask", struct{}{}, "elicited decline, sampled hello")
			// The subscription may not be open yet.
			for i := 0; ; i++ {
				call("change", struct{}{}, "changed")
				select {
				case <-changed:
				case <-time.After(100 * time.Millisecond):
					continue
				case <-ctx.Done():
					t.Fatalf("no notice of %d changes", i+1)
				}
				break
			}
			if err := session.Close(); err != nil {
				t.Errorf("end: %v", err)
			}
		})
	}
}
