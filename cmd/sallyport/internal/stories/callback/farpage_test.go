//go:build linux

package callback_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// HOST signs in at a login server that only its own network reaches. The page opens on the
// workstation all the same, in a window of ours that goes through HOST, and the person does nothing
// but sign in.
func TestLoginServerThatOnlyHostReaches(t *testing.T) {
	s := newInnerSite(t)
	ada := machines.NewAccount(t)
	putSallyport(t, ada)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: s.ns, User: ada})})

	_, last := lendChromium(t, config)
	login := machines.StartProcess(t, exec.Command("ssh", "-F", config, "devbox",
		"SALLYPORT_CA_FILE="+s.ca.File+" .local/bin/sallyport login "+s.gate.URL))
	page := last(t)
	if !strings.Contains(page.Text, "devbox is signed in") || !strings.HasPrefix(page.URL, "http://127.0.0.1:") {
		t.Errorf("the last page is %+v", page)
	}
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
}

// innerSite is an MCP server and its login server in a network that this machine does not reach.
type innerSite struct {
	ns   *machines.Namespace
	ca   *machines.Authority
	gate *machines.Gate
}

func newInnerSite(t *testing.T) innerSite {
	t.Helper()
	const inner = "login.internal"
	ns := machines.NewNamespace(t, "mcp.internal", inner)
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca, NS: ns, Host: inner})
	return innerSite{ns, ca, machines.StartGate(t, machines.GateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, ns)})}
}

// lendChromium starts a helper that opens pages in Chromium, and returns what waits for the last
// page of a login.
func lendChromium(t *testing.T, config string) (helper *machines.Process, last func(testing.TB) machines.Page) {
	t.Helper()
	browsers, last := machines.Person{TrustsAll: true}.Installed(t, "chromium")
	cmd := machines.Command(t, t.TempDir(), "callback", "-F", config, "--trust", "devbox", "devbox")
	cmd.Env = append(cmd.Env, "DISPLAY=:9", "PATH="+browsers+":"+os.Getenv("PATH"))
	helper = machines.StartProcess(t, cmd)
	helper.Err.Await(t, `devbox: ready`)
	return helper, last
}

// The login server is two hops away: HOST reaches it only through its own --via, and the sshd of
// HOST not at all. Or it is one hop away, and that sshd forwards no connection. The login on HOST
// makes the connections of the browser in both cases.
func TestTheLoginOnHostMakesTheConnections(t *testing.T) {
	for _, test := range []struct {
		name string
		via  bool
		sshd []string
	}{
		{"through its own bastion", true, nil},
		{"through its own bastion, and nothing is forwarded", true, []string{"DisableForwarding yes"}},
		{"no forwarding of TCP", false, []string{"AllowTcpForwarding no"}},
		{"no forwarding at all", false, []string{"DisableForwarding yes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newInnerSite(t)
			ada := machines.NewAccount(t)
			putSallyport(t, ada)
			devbox, args := machines.SSHDOptions{User: ada, Config: test.sshd}, ""
			if test.via {
				bastion := machines.StartSSHD(t, machines.SSHDOptions{NS: s.ns, User: ada})
				ada.Own(t, bastion.IdentityFile)
				args = "-F " + machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: bastion}) + " --via bastion "
			} else {
				devbox.NS = s.ns
			}
			config := machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: machines.StartSSHD(t, devbox)})
			helper, last := lendChromium(t, config)
			login := machines.StartProcess(t, exec.Command("ssh", "-F", config, "devbox",
				"SALLYPORT_CA_FILE="+s.ca.File+" .local/bin/sallyport login "+args+s.gate.URL))
			page := last(t)
			if !strings.Contains(page.Text, "devbox is signed in") || !strings.HasPrefix(page.URL, "http://127.0.0.1:") {
				t.Errorf("the last page is %+v", page)
			}
			if status := login.Wait(t); status != 0 {
				t.Errorf("login ended with status %d", status)
			}
			if strings.Contains(helper.Err.String(), "is reached neither") {
				t.Errorf("stderr:\n%s", helper.Err)
			}
		})
	}
}
