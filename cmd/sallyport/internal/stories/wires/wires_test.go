//go:build linux

//lint:file-ignore SA1019 servers in use ask for samples, which the newest revision calls deprecated

// The stories of MCP servers of every kind: a stream that can be taken up again, the older
// transport HTTP+SSE, and a server that speaks nothing but the newest revision, to hosts of each.
// Real: server-everything, the Go SDK's and the TypeScript SDK's servers, the Go SDK's host, sshd.
package wires_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestMain(m *testing.M) { machines.Main(m) }

// The connection breaks under a call whose stream has event ids. The answer comes all the same, and
// each message once, although server-everything replays everything on every stream and never goes
// on live.
func TestCallOutlivesTheConnection(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 1, machines.StartEverything)
	host := machines.StartHost(t, s.AsMachine(t), nil)
	session := host.Session(t)
	result := make(chan error, 1)
	const steps = 6
	go func() { // ends with the call
		params := &mcp.CallToolParams{Name: "trigger-long-running-operation",
			Arguments: map[string]any{"duration": 3, "steps": steps}}
		params.SetProgressToken("progress-of-the-test")
		answer, err := session.CallTool(t.Context(), params)
		if err == nil && answer.IsError {
			err = fmt.Errorf("error result %v", answer.Content)
		}
		result <- err
	}()
	host.Wire.Await(t, `read: .*"progress-of-the-test"`)
	s.Hops[0].SSHD.Drop()
	if err := <-result; err != nil {
		t.Errorf("the call: %v", err)
	}
	for step := 1; step <= steps; step++ {
		if n := strings.Count(host.Wire.String(), fmt.Sprintf(`"progress":%d,`, step)); n != 1 {
			t.Errorf("progress %d came %d times", step, n)
		}
	}
	host.Echo(t)
	host.Close(t)
}

// A session with a server of the older transport loses its connection and goes on.
func TestHTTPSSE(t *testing.T) {
	t.Parallel()
	goSDK := func(t testing.TB, ns *machines.Namespace) string {
		return strings.Replace(machines.StartMCP(t, ns), "/mcp", "/sse", 1)
	}
	for _, server := range []struct {
		name       string
		start      func(testing.TB, *machines.Namespace) string
		flags      []string
		everything bool // it has server-everything's tools
	}{
		{"server-everything, auto", machines.StartEverythingSSE, nil, true},
		{"server-everything, sse", machines.StartEverythingSSE, []string{"--transport", "sse"}, true},
		{"go-sdk, auto", goSDK, nil, false},
	} {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			ns := machines.NewNamespace(t)
			hop := machines.Hop{Alias: "hop1", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns})}
			cmd := machines.Command(t, t.TempDir(), append(server.flags, "--grant", "none",
				"-F", machines.WriteSSHConfig(t, hop), "--via", hop.Alias,
				"--ignore-tool", "get-*", server.start(t, ns))...)
			cmd.Env = append(cmd.Env, "LOG_LEVEL=debug")
			host, sampled := startSamplingHost(t, cmd)
			host.Echo(t)
			if server.everything {
				checkSampling(t, host, sampled)
				checkIgnoredTools(t, host)
			}
			hop.SSHD.Drop()
			host.Stderr.Await(t, `msg="link lost"`)
			host.Echo(t)
			host.Close(t)
		})
	}
}

// startSamplingHost starts a host with a model. sampled gets a value for each sample.
func startSamplingHost(t *testing.T, cmd *exec.Cmd) (host *machines.Host, sampled chan struct{}) {
	t.Helper()
	sampled = make(chan struct{}, 10)
	return machines.StartHost(t, cmd, &mcp.ClientOptions{CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
		sampled <- struct{}{}
		return &mcp.CreateMessageResult{Content: &mcp.TextContent{Text: "a sample"}, Model: "none", Role: "assistant"}, nil
	}}), sampled
}

// checkSampling has the server ask the host for something.
func checkSampling(t *testing.T, host *machines.Host, sampled chan struct{}) {
	t.Helper()
	params := &mcp.CallToolParams{Name: "trigger-sampling-request",
		Arguments: map[string]any{"prompt": "hello", "maxTokens": 5}}
	if answer, err := host.Session(t).CallTool(t.Context(), params); err != nil || answer.IsError {
		t.Errorf("sampling: %v, %v", answer, err)
	}
	if len(sampled) == 0 {
		t.Error("the server's request did not reach the host")
	}
}

// checkIgnoredTools looks for the tools that --ignore-tool hides.
func checkIgnoredTools(t *testing.T, host *machines.Host) {
	t.Helper()
	tools := strings.Fields(host.Tools(t))
	if len(tools) == 0 {
		t.Error("no tools")
	}
	for _, tool := range tools {
		if strings.HasPrefix(tool, "get-") {
			t.Errorf("tool %s is not hidden", tool)
		}
	}
	if _, err := host.Session(t).CallTool(t.Context(), &mcp.CallToolParams{Name: "get-env"}); err == nil ||
		!strings.Contains(err.Error(), "hidden") {
		t.Errorf("call of a hidden tool: %v", err)
	}
}
