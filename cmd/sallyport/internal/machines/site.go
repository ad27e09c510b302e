//go:build linux

package machines

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the command writes to stderr, as regular expressions.
const (
	// Offered is the URL that a person is to open.
	Offered = `open this link:\n  (\S+)\n`
	// Elsewhere is the URL of another process, which signs in for this one, too.
	Elsewhere = `waits for the sign-in to \S+, at this link:\n  (\S+)\n`
	// SignedIn is the end of a login, at the log level debug.
	SignedIn = `msg="signed in"`
)

// DefaultCallback is where a login ends unless the command is told another port.
const DefaultCallback = "http://127.0.0.1:53682/callback"

// Site is an MCP server behind OAuth, with a real authorization server.
type Site struct {
	CA   *Authority
	OIDC *OIDC
	Gate *Gate
	// Hops are the SSH servers on the way; none if the gate is on the machine of the tests. Only
	// the last one can reach the gate.
	Hops []Hop
	// Config is an ssh_config that leads through the hops.
	Config string
}

// NewSite starts a site behind that many hops. upstream starts its MCP server: StartMCP,
// StartEverything. Its authorization server is reached at the same address from both sides.
func NewSite(t testing.TB, hops int, upstream func(testing.TB, *Namespace) string) *Site {
	t.Helper()
	ns := NewNamespace(t)
	s := &Site{CA: NewAuthority(t)}
	s.OIDC = StartOIDC(t, OIDCOptions{TLS: s.CA})
	ns.Borrow(t, s.OIDC.Addr())
	s.Gate = StartGate(t, GateOptions{NS: ns, CA: s.CA, OIDC: s.OIDC, Upstream: upstream(t, ns)})
	for i := range hops {
		o := SSHDOptions{}
		if i == 1 {
			o.HostCA = NewHostCA(t)
		}
		if i == hops-1 {
			o.NS = ns
		}
		s.Hops = append(s.Hops, Hop{Alias: fmt.Sprintf("hop%d", i+1), SSHD: StartSSHD(t, o)})
	}
	s.Config = WriteSSHConfig(t, s.Hops...)
	return s
}

// NewDirectSite starts a site that is reached without SSH. The authorization server gets the site's
// certificate authority.
func NewDirectSite(t testing.TB, o OIDCOptions) *Site {
	t.Helper()
	s := &Site{CA: NewAuthority(t)}
	o.TLS = s.CA
	s.OIDC = StartOIDC(t, o)
	s.Gate = StartGate(t, GateOptions{CA: s.CA, OIDC: s.OIDC, Upstream: StartMCP(t, nil), DPoP: o.DPoPNonces})
	return s
}

// Command is the real command, which trusts the site's authority and logs at the level debug.
func (s *Site) Command(t testing.TB, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := Command(t, home, args...)
	cmd.Env = append(cmd.Env, "SALLYPORT_CA_FILE="+s.CA.File, "LOG_LEVEL=debug")
	return cmd
}

// Via are the flags and the argument that lead through the hops to the gate.
func (s *Site) Via() []string {
	return []string{"-F", s.Config, "--via", s.Hops[len(s.Hops)-1].Alias, s.Gate.URL}
}

// ThroughChain is Command for the gate behind the hops.
func (s *Site) ThroughChain(t testing.TB, home string, args ...string) *exec.Cmd {
	t.Helper()
	return s.Command(t, home, append(args, s.Via()...)...)
}

// AsMachine is ThroughChain for a service, which needs no person.
func (s *Site) AsMachine(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	secret := WriteFile(t, OpenDir(t), "secret", MachineSecret+"\n", 0o600)
	return s.ThroughChain(t, t.TempDir(), append(args, "--grant", "client_credentials", "--client-id", MachineID,
		"--client-secret-file", secret)...)
}

// CheckGate looks at what reached the gate: the real name, a session, and its end.
func (s *Site) CheckGate(t testing.TB) {
	t.Helper()
	var methods []string
	for _, r := range s.Gate.Requests(t) {
		if r.Host != "mcp.internal" {
			t.Errorf("the gate saw Host %q, want mcp.internal", r.Host)
		}
		if r.Session != "" {
			methods = append(methods, r.Method)
		}
	}
	for _, want := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		if !slices.Contains(methods, want) {
			t.Errorf("the gate saw no %s with a session: %q", want, methods)
		}
	}
}

// CheckStore looks at what a login left in a home directory: private files, and no token to be read
// in them.
func CheckStore(t testing.TB, home string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !strings.Contains(path, "sallyport") {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		if filepath.Base(filepath.Dir(path)) == "logins" {
			return nil // what processes agree on; it has no secret
		}
		files++
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "mcp.internal") || json.Valid(text) {
			t.Errorf("%s is not encrypted", path)
		}
		return err
	})
	if err != nil || files < 2 {
		t.Errorf("%d files in the store and beside, %v; want tokens and key", files, err)
	}
}

// PlainSite is an MCP server that asks for no token, behind one SSH server.
type PlainSite struct {
	SSHD     *SSHD
	Upstream string
}

// NewPlainSite starts such a site.
func NewPlainSite(t testing.TB) *PlainSite {
	t.Helper()
	return &PlainSite{SSHD: StartSSHD(t, SSHDOptions{}), Upstream: StartMCP(t, nil)}
}

// Command is the real command through the SSH server, without any ssh_config. Settings in args win.
func (s *PlainSite) Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	known := WriteKnownHosts(t, s.SSHD.KnownHosts)
	return Command(t, t.TempDir(), append(args, "-F", "none", "--grant", "none", "--via", "127.0.0.1",
		"-o", "Port="+s.SSHD.Port, "-o", "User="+s.SSHD.User, "-o", "IdentityFile="+s.SSHD.IdentityFile,
		"-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=none", s.Upstream)...)
}
