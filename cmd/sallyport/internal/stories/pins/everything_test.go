//go:build linux

package pins_test

import (
	"context"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// server-everything shows some tools only to hosts with certain capabilities. What a host has seen
// at the first use is all there for `sallyport tools`, so nothing is lost when it is accepted.
func TestToolsByCapability(t *testing.T) {
	t.Parallel()
	ns := machines.NewNamespace(t)
	hop := machines.Hop{Alias: "hop1", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns})}
	p := person{home: t.TempDir(), flags: []string{"-F", machines.WriteSSHConfig(t, hop), "--via", hop.Alias, "--grant", "none"}}
	upstream := machines.StartEverything(t, ns)
	start := func() *machines.Host {
		return machines.StartHost(t, machines.Command(t, p.home, append(append([]string{"--pin-tools"}, p.flags...), upstream)...), &mcp.ClientOptions{
			//lint:ignore SA1019 server-everything still has a tool for hosts that can do this.
			CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) { return nil, nil },
			ElicitationHandler:   func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) { return nil, nil },
		})
	}
	host := start()
	before := host.Tools(t)
	if !strings.Contains(before, "sampling") {
		t.Fatalf("the host sees %s", before)
	}
	host.Close(t)
	if got := p.tools(t, upstream, "--accept"); strings.Contains(got, "removed") {
		t.Errorf("got %s", got)
	}
	host = start()
	if got := host.Tools(t); got != before {
		t.Errorf("after --accept: got %q, want %q", got, before)
	}
	host.Close(t)
}
