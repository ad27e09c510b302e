package main

import (
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
