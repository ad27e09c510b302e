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
	const inner = "login.internal"
	ns := machines.NewNamespace(t, "mcp.internal", inner)
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca, NS: ns, Host: inner})
	gate := machines.StartGate(t, machines.GateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, ns)})
	ada := machines.NewAccount(t)
	putSallyport(t, ada)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns, User: ada})})

	browsers, last := machines.Person{TrustsAll: true}.Installed(t, "chromium")
	cmd := machines.Command(t, t.TempDir(), "callback", "-F", config, "--trust", "devbox", "devbox")
	cmd.Env = append(cmd.Env, "DISPLAY=:9", "PATH="+browsers+":"+os.Getenv("PATH"))
	helper := machines.StartProcess(t, cmd)
	helper.Err.Await(t, `devbox: ready`)

	login := machines.StartProcess(t, exec.Command("ssh", "-F", config, "devbox",
		"SALLYPORT_CA_FILE="+ca.File+" .local/bin/sallyport login "+gate.URL))
	page := last(t)
	if !strings.Contains(page.Text, "devbox is signed in") || !strings.HasPrefix(page.URL, "http://127.0.0.1:") {
		t.Errorf("the last page is %+v", page)
	}
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
}
