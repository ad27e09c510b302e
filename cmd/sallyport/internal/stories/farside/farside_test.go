//go:build linux

// The stories of a login server that only the far side of the SSH connection reaches: its page opens
// in a browser of the person's whose connections go there. Real: sshd, oidc-provider, Chromium,
// Firefox.
package farside_test

import (
	"os"
	"path/filepath"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// inner is the name of a login server that only the network behind the bastions resolves.
const inner = "login.internal"

// newSite starts an MCP server and its login server in a network that only the last of two hops
// reaches. The workstation is the machine of the tests.
func newSite(t *testing.T) *machines.Site {
	t.Helper()
	ns := machines.NewNamespace(t, "mcp.internal", inner)
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca, NS: ns, Host: inner})
	gate := machines.StartGate(t, machines.GateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, ns)})
	hops := []machines.Hop{
		{Alias: "jump", SSHD: machines.StartSSHD(t, machines.SSHDOptions{})},
		{Alias: "bastion", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns})},
	}
	return &machines.Site{CA: ca, OIDC: oidc, Gate: gate, Hops: hops, Config: machines.WriteSSHConfig(t, hops...)}
}

// A person types login, and signs in at a page that this machine does not reach.
func TestLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	home := t.TempDir()
	browsers, last := machines.Person{TrustsAll: true}.Installed(t, "chromium")
	cmd := s.ThroughChain(t, home, "login", "--token-store", "file")
	cmd.Env = append(cmd.Env, "DISPLAY=:9", "PATH="+browsers+":"+os.Getenv("PATH"))
	p := machines.StartProcess(t, cmd)
	p.Err.Await(t, `hint: `+inner+` is reached only through bastion: the page is open in Chromium`)
	if status := p.Wait(t); status != machines.StatusDone {
		t.Fatalf("status %d", status)
	}
	machines.CheckSuccessPage(t, last(t), machines.DefaultCallback, s.Gate.URL)
	profiles, err := filepath.Glob(filepath.Join(home, ".local/state/sallyport/browser/*/chromium"))
	if err != nil || len(profiles) != 1 {
		t.Fatalf("profiles: %q, %v", profiles, err)
	}
}
