//go:build linux

package doctor_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// fault is one thing that is broken on a site where everything else works.
type fault struct {
	name string
	// args are the flags and the URL, and env more variables.
	args, env []string
	// first is the row that must fail first, and status the exit status.
	first  string
	status int
	// still are rows that must be looked at and good all the same.
	still []string
}

// check runs the doctor on the fault.
func (f fault) check(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = append(cmd.Env, f.env...)
	r, stderr := run(t, command(cmd))
	if r.FirstFailure != f.first || r.Status != f.status {
		t.Errorf("first failure %q, status %d; want %q, %d\n%s", r.FirstFailure, r.Status, f.first, f.status, stderr)
	}
	if c := r.row(r.FirstFailure); c.Result == "fail" && len(c.Next) == 0 {
		t.Errorf("%s says nothing of what to do next: %s", c.ID, c.Summary)
	}
	for _, id := range f.still {
		if r.row(id).Result != "ok" {
			t.Errorf("%s is not looked at: %+v", id, r.row(id))
		}
	}
}

// Each stage of the tunnel breaks in turn.
func TestTheFirstFailureNamesTheFaultOfTheTunnel(t *testing.T) {
	s := machines.NewSite(t, 1, machines.StartMCP)
	bastion := s.Hops[0].SSHD
	via := func(more ...string) []string {
		return slices.Concat([]string{"-F", s.Config, "--via", "hop1"}, more, []string{s.Gate.URL})
	}
	_, otherKey := machines.NewKey(t, machines.OpenDir(t), "other")
	otherSigner, _ := machines.NewKey(t, machines.OpenDir(t), "host")
	changed := machines.WriteKnownHosts(t, machines.KnownHostsLine(bastion, otherSigner.PublicKey()))
	revoked := machines.WriteKnownHosts(t, "@revoked "+bastion.KnownHosts)
	unknown := machines.WriteKnownHosts(t, "")
	encrypted := machines.EncryptKey(t, bastion.IdentityFile, "a passphrase")
	silent := machines.Here.Listen(t, "127.0.0.1:0") // it accepts and says nothing
	_, silentPort, _ := net.SplitHostPort(silent.Addr().String())
	identity := func(key string) string { return machines.WithIdentity(t, s.Config, bastion, key) }
	closed := machines.WriteSSHConfig(t, machines.Hop{Alias: "closed", SSHD: machines.StartSSHD(t, machines.SSHDOptions{Config: []string{"AllowTcpForwarding no"}})})
	jump := machines.WriteSSHConfig(t,
		machines.Hop{Alias: "first", SSHD: machines.StartSSHD(t, machines.SSHDOptions{Config: []string{"AllowTcpForwarding no"}})},
		machines.Hop{Alias: "second", SSHD: bastion})
	answered := []string{"store.directory", "callback.port", "callback.loopback"}
	for _, f := range []fault{
		{name: "unknown option", args: via("-o", "NoSuchOption=1"), first: "ssh.config", status: machines.StatusUsage},
		{name: "bad value", args: via("-o", "Port=many"), first: "ssh.config", status: machines.StatusUsage},
		{name: "no such ssh_config", args: []string{"-F", filepath.Join(t.TempDir(), "none-here"), "--via", "hop1", s.Gate.URL}, first: "ssh.config", status: machines.StatusUsage},
		{name: "name does not resolve", args: []string{"-F", s.Config, "--via", "bastoin.invalid", s.Gate.URL}, first: "hop.1.name", status: machines.StatusUnreachable, still: answered},
		{name: "port closed", args: via("-o", "Port="+machines.ClosedPort(t)), first: "hop.1.tcp", status: machines.StatusUnreachable, still: answered},
		{name: "ProxyCommand not found", args: via("-o", "ProxyCommand=/nosuch/program %h"), first: "hop.1.tcp", status: machines.StatusUnreachable},
		{name: "silent server", args: via("-o", "Port="+silentPort, "-o", "ConnectTimeout=2"), first: "hop.1.kex", status: machines.StatusUnreachable},
		{name: "no algorithm in common", args: via("-o", "KexAlgorithms=diffie-hellman-group14-sha1"), first: "hop.1.kex", status: machines.StatusUsage},
		{name: "unknown host key", args: via("-o", "UserKnownHostsFile="+unknown), first: "hop.1.hostkey", status: machines.StatusHostKey},
		{name: "changed host key", args: via("-o", "UserKnownHostsFile="+changed), first: "hop.1.hostkey", status: machines.StatusHostKey},
		{name: "revoked host key", args: via("-o", "UserKnownHostsFile="+revoked), first: "hop.1.hostkey", status: machines.StatusHostKey},
		{name: "wrong key", args: []string{"-F", identity(otherKey), "--via", "hop1", s.Gate.URL}, first: "hop.1.login", status: machines.StatusSSHAuth},
		{name: "no key", args: []string{"-F", identity("/nosuch/key"), "--via", "hop1", s.Gate.URL}, first: "hop.1.login", status: machines.StatusSSHAuth},
		{name: "wrong user", args: via("-o", "User=nobody-here"), first: "hop.1.login", status: machines.StatusSSHAuth},
		{name: "encrypted key without an agent", args: []string{"-F", identity(encrypted), "--via", "hop1", s.Gate.URL}, first: "hop.1.login", status: machines.StatusSSHAuth},
		{name: "agent dead, and no other key", args: []string{"-F", identity("/nosuch/key"), "--via", "hop1", "-o", "IdentitiesOnly=no", s.Gate.URL},
			env: []string{"SSH_AUTH_SOCK=/nosuch/agent"}, first: "hop.1.keys", status: machines.StatusSSHAuth},
		{name: "forwarding forbidden", args: []string{"-F", closed, "--via", "closed", s.Gate.URL}, first: "via.open", status: machines.StatusUnreachable, still: []string{"hop.1.login"}},
		{name: "forwarding forbidden on the way", args: []string{"-F", jump, "--via", "second", s.Gate.URL}, first: "hop.2.tcp", status: machines.StatusUnreachable, still: []string{"hop.1.login"}},
		{name: "upstream unknown on the far side", args: []string{"-F", s.Config, "--via", "hop1", "https://nowhere.invalid/mcp"}, first: "upstream.name", status: machines.StatusUnreachable, still: []string{"via.open"}},
		{name: "upstream's port closed on the far side", args: []string{"-F", s.Config, "--via", "hop1", "https://mcp.internal:1/mcp"}, first: "upstream.tcp", status: machines.StatusUnreachable, still: []string{"via.open", "upstream.name"}},
		{name: "certificate of another name", args: []string{"-F", s.Config, "--via", "hop1", "https://localhost/mcp"}, first: "upstream.tls", status: machines.StatusUnreachable},
		{name: "workstation does not resolve", args: via("--callback-via", "nowhere.invalid"), first: "callback.hop.1.name", status: machines.StatusUnreachable,
			still: []string{"upstream.tls", "signin.client"}},
		{name: "workstation forbids forwards", args: []string{"-F", closed, "--grant", "auto", "--callback-via", "closed", newSite(t).upstream}, first: "callback.port", status: machines.StatusFailed,
			still: []string{"callback.hop.1.login", "signin.client"}},
		{name: "bastion down, login server public", args: via("-o", "Port="+machines.ClosedPort(t), "--issuer", s.OIDC.Issuer), first: "hop.1.tcp", status: machines.StatusUnreachable,
			still: []string{"signin.server", "signin.issuer", "signin.pkce", "signin.client"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.check(t, s.Command(t, t.TempDir(), append([]string{"--callback-port", "0"}, f.args...)...))
		})
	}
}

// Where a server would also take a password, a key that the person has named for it is a fault all
// the same if it does not let us in.
func TestAServerThatTakesPasswordsToo(t *testing.T) {
	t.Parallel()
	server, _ := machines.StartPasswordSSHD(t, "PasswordAuthentication yes")
	upstream := machines.StartMCP(t, nil)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "both", SSHD: server})
	_, otherKey := machines.NewKey(t, machines.OpenDir(t), "other")
	for _, f := range []fault{
		{name: "wrong key", args: []string{"-F", machines.WithIdentity(t, config, server, otherKey)}},
		{name: "encrypted key", args: []string{"-F", machines.WithIdentity(t, config, server, machines.EncryptKey(t, server.IdentityFile, "a passphrase"))}},
		{name: "wrong user", args: []string{"-F", config, "-o", "User=nobody-here"}},
	} {
		f.first, f.status = "hop.1.login", machines.StatusSSHAuth
		t.Run(f.name, func(t *testing.T) {
			f.check(t, machines.Command(t, t.TempDir(), append(f.args, "--grant", "none", "--via", "both", upstream)...))
		})
	}
}

// A network that drops packets ends the row after its time.
func TestABlackHoleEnds(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	hole := startHole(t)
	host, port, _ := net.SplitHostPort(hole)
	fault{first: "hop.1.tcp", status: machines.StatusUnreachable}.check(t, s.Command(t, "-o", "HostName="+host, "-o", "Port="+port, "-o", "ConnectTimeout=3"))
	fault{first: "upstream.tcp", status: machines.StatusUnreachable}.check(t, machines.Command(t, t.TempDir(), "http://"+hole+"/mcp"))
}
