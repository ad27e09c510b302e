//go:build linux

// The story of a developer whose MCP server can be seen from the last of several SSH servers alone,
// and of a service with one bastion. Real: sshd, ssh_config, oidc-provider, Chromium,
// server-everything and the Go SDK's server, and the hosts of both SDKs.
package chain_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestMain(m *testing.M) { machines.Main(m) }

// A service reaches its server through one bastion and shows its own credentials: nobody is asked
// anything.
func TestServiceThroughOneBastion(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 1, machines.StartMCP)
	host := machines.EchoOnce(t, s.AsMachine(t))
	s.CheckGate(t)
	if text := host.Stderr.String(); strings.Contains(text, machines.MachineSecret) ||
		regexp.MustCompile(machines.Offered).MatchString(text) {
		t.Errorf("stderr:\n%s", text)
	}
}

// A person signs in through three hops, works, and starts again: the second start asks nothing.
func TestPersonThroughThreeHops(t *testing.T) {
	for _, upstream := range []story{
		{"server-everything", machines.StartEverything, "toggle-simulated-logging", "notifications/message"},
		{"go-sdk", machines.StartMCP, "grow", "notifications/tools/list_changed"},
	} {
		t.Run(upstream.name, func(t *testing.T) {
			s := machines.NewSite(t, 3, upstream.start)
			home := t.TempDir()
			upstream.first(t, s, home)
			upstream.again(t, s, home)
		})
	}
}

// story is what differs between the MCP servers.
type story struct {
	name     string
	start    func(testing.TB, *machines.Namespace) string
	announce string // the tool that makes the server send a notification
	notice   string // the method of that
}

// first signs in.
func (story story) first(t *testing.T, s *machines.Site, home string) {
	host := machines.StartHost(t, s.ThroughChain(t, home, "--browser", machines.Person{TrustsAll: true}.BrowserScript(t)), nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	if !strings.HasPrefix(link, s.OIDC.Issuer+"/") || !strings.Contains(link,
		"resource=https%3A%2F%2Fmcp.internal%2Fmcp") || !strings.Contains(link, "code_challenge_method=S256") {
		t.Errorf("the URL is %s", link)
	}
	host.Stderr.Await(t, machines.SignedIn)
	host.Echo(t) // waits for the server, which a list of the tools does not
	if tools := host.Tools(t); !slices.Contains(strings.Fields(tools), "echo") {
		t.Errorf("tools %s lack echo", tools)
	}
	if _, err := host.Session(t).CallTool(t.Context(), &mcp.CallToolParams{Name: story.announce}); err != nil {
		t.Fatal(err)
	}
	host.Wire.Await(t, `read: .*"method":"`+story.notice+`"`)
	host.Close(t)
	s.CheckGate(t)
	machines.CheckStore(t, home)
}

// again starts with what the login left, under both hosts.
func (story story) again(t *testing.T, s *machines.Site, home string) {
	host := machines.EchoOnce(t, s.ThroughChain(t, home, "--browser", "/bin/false"))
	if regexp.MustCompile(machines.Offered).MatchString(host.Stderr.String()) {
		t.Errorf("the second start is not silent:\n%s", host.Stderr)
	}
	if story.name != "server-everything" { // host.mjs works with the tools of that one
		return
	}
	got := machines.RunTypeScriptHost(t, s.ThroughChain(t, home, "--no-browser"))
	if want := []string{"initialize", "tools/list", "tools/call", "notification", "close"}; !slices.Equal(got, want) {
		t.Errorf("TypeScript SDK host: steps %q, want %q", got, want)
	}
}
