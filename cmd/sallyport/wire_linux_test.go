//lint:file-ignore SA1019 servers in use ask for samples, which the newest revision calls deprecated

package main

//lint:file-ignore SA1019 sampling and roots are deprecated, and still spoken by hosts and servers

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// asMachine is the command through the chain as a service, which needs no person.
func (s *site) asMachine(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	secret := writeFile(t, openDir(t), "secret", machineSecret+"\n", 0o600)
	return s.throughChain(t, t.TempDir(), append(args, "--grant", "client_credentials", "--client-id", machineID, "--client-secret-file", secret)...)
}

// TestCallOutlivesTheLink cuts the link under a call whose stream has event ids: the answer comes all the same, and each
// message once, although server-everything replays everything on every stream and never goes on live.
func TestCallOutlivesTheLink(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, startEverything)
	host := startHost(t, s.asMachine(t), nil)
	session := host.Session(t)
	result := make(chan error, 1)
	const steps = 6
	go func() {
		params := &mcp.CallToolParams{Name: "trigger-long-running-operation", Arguments: map[string]any{"duration": 3, "steps": steps}}
		params.SetProgressToken("progress-of-the-test")
		answer, err := session.CallTool(t.Context(), params)
		if err == nil && answer.IsError {
			err = fmt.Errorf("error result %v", answer.Content)
		}
		result <- err
	}()
	host.Wire.await(t, `read: .*"progress-of-the-test"`)
	s.hops[0].SSHD.Drop()
	if err := <-result; err != nil {
		t.Errorf("the call: %v", err)
	}
	for step := 1; step <= steps; step++ {
		if n := strings.Count(host.Wire.String(), fmt.Sprintf(`"progress":%d,`, step)); n != 1 {
			t.Errorf("progress %d came %d times", step, n)
		}
	}
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
}

// TestHTTPSSE carries a session to real servers of the older transport, loses the link and goes on.
func TestHTTPSSE(t *testing.T) {
	t.Parallel()
	for _, server := range []struct {
		name  string
		start func(testing.TB, *netns) string
		flags []string
	}{
		{"server-everything, auto", func(t testing.TB, ns *netns) string { return startEverythingAs(t, ns, "sse", "/sse") }, nil},
		{"server-everything, sse", func(t testing.TB, ns *netns) string { return startEverythingAs(t, ns, "sse", "/sse") }, []string{"--transport", "sse"}},
		{"go-sdk, auto", func(t testing.TB, ns *netns) string { return strings.Replace(startMCP(t, ns), "/mcp", "/sse", 1) }, nil},
	} {
		t.Run(server.name, func(t *testing.T) {
			ns := newNetns(t)
			hop := hop{Alias: "hop1", SSHD: startSSHD(t, sshdOptions{NS: ns})}
			s := &site{ca: newAuthority(t)}
			cmd := s.command(t, t.TempDir(), append(server.flags, "--grant", "none", "-F", writeSSHConfig(t, hop), "--via", hop.Alias,
				"--ignore-tool", "get-*", server.start(t, ns))...)
			sampled := make(chan struct{}, 10)
			host := startHost(t, cmd, &mcp.ClientOptions{CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
				sampled <- struct{}{}
				return &mcp.CreateMessageResult{Content: &mcp.TextContent{Text: "a sample"}, Model: "none", Role: "assistant"}, nil
			}})
			session := host.Session(t)
			callEcho(t, session)
			if strings.HasPrefix(server.name, "server-everything") {
				params := &mcp.CallToolParams{Name: "trigger-sampling-request", Arguments: map[string]any{"prompt": "hello", "maxTokens": 5}}
				if answer, err := session.CallTool(t.Context(), params); err != nil || answer.IsError {
					t.Errorf("sampling: %v, %v", answer, err)
				}
				if len(sampled) == 0 {
					t.Error("the server's request did not reach the host")
				}
				list, err := session.ListTools(t.Context(), nil)
				if err != nil || len(list.Tools) == 0 {
					t.Fatalf("tools: %v, %v", list, err)
				}
				for _, tool := range list.Tools {
					if strings.HasPrefix(tool.Name, "get-") {
						t.Errorf("tool %s is not hidden", tool.Name)
					}
				}
				if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "get-env"}); err == nil || !strings.Contains(err.Error(), "hidden") {
					t.Errorf("call of a hidden tool: %v", err)
				}
			}
			hop.SSHD.Drop()
			host.Stderr.await(t, `msg="link lost"`)
			callEcho(t, session)
			if err := session.Close(); err != nil {
				t.Errorf("the proxy ended with %v", err)
			}
		})
	}
}
