//go:build linux

// The stories of how requests leave: to a host that is named in one of ssh's ways, to an
// authorization server that only one side can reach, through an organization's proxy. Real: sshd,
// oidc-provider, the Go SDK's server. The proxy is ours.
package routes_test

import (
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// A person names the host in whichever way ssh knows.
func TestDestinations(t *testing.T) {
	t.Parallel()
	upstream := machines.StartMCP(t, nil)
	first, last := machines.StartSSHD(t, machines.SSHDOptions{}), machines.StartSSHD(t, machines.SSHDOptions{})
	known := machines.WriteKnownHosts(t, first.KnownHosts+last.KnownHosts)
	config := machines.WriteFile(t, machines.OpenDir(t), "config",
		"Host *\n  IdentityFile "+first.IdentityFile+"\n  IdentityFile "+last.IdentityFile+
			"\n  UserKnownHostsFile "+known+"\n  GlobalKnownHostsFile none\n", 0o644)
	for _, test := range []struct {
		name string
		args []string
		hops []*machines.SSHD
	}{
		{"user@host:port", []string{"--via", last.User + "@" + last.Addr}, []*machines.SSHD{last}},
		{"ssh URL", []string{"--via", "ssh://" + last.User + "@" + last.Addr}, []*machines.SSHD{last}},
		{"-o", []string{"-o", "Port=" + last.Port, "-o", "User=" + last.User, "--via", "127.0.0.1"}, []*machines.SSHD{last}},
		{"-J", []string{"-J", first.User + "@" + first.Addr, "--via", last.User + "@" + last.Addr},
			[]*machines.SSHD{first, last}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := strings.Count(first.Log.String(), "Accepted publickey")
			machines.EchoOnce(t, machines.Command(t, t.TempDir(),
				append(test.args, "-F", config, "--grant", "none", upstream)...)) // without USER
			passed := strings.Count(first.Log.String(), "Accepted publickey") > before
			if want := slices.Contains(test.hops, first); passed != want {
				t.Errorf("through the first hop: %v, want %v", passed, want)
			}
		})
	}
}

// The authorization server can be reached from one side alone: --oauth-route says from which, and
// auto finds out. Its address is one of loopback, so the person must name it to have it dialed from
// this side.
func TestAuthorizationServerOnOneSide(t *testing.T) {
	t.Parallel()
	for _, side := range []struct {
		name  string
		there bool            // it is behind the bastion, else here
		works map[string]bool // by route
	}{
		{"here only", false, map[string]bool{"auto": true, "direct": true, "via": false}},
		{"there only", true, map[string]bool{"auto": true, "direct": false, "via": true}},
	} {
		t.Run(side.name, func(t *testing.T) {
			t.Parallel()
			ns := machines.NewNamespace(t)
			ca := machines.NewAuthority(t)
			where := machines.Here
			if side.there {
				where = ns
			}
			oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca, NS: where})
			gate := machines.StartGate(t, machines.GateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, ns)})
			bastion := machines.Hop{Alias: "bastion", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns})}
			s := &machines.Site{CA: ca, Gate: gate, Hops: []machines.Hop{bastion}, Config: machines.WriteSSHConfig(t, bastion)}
			for route, works := range side.works {
				cmd := s.ThroughChain(t, t.TempDir(), "login", "--oauth-route", route, "--issuer", oidc.Issuer, "--grant", "client_credentials",
					"--client-id", machines.MachineID)
				cmd.Env = append(cmd.Env, "OAUTH2_CLIENT_SECRET="+machines.MachineSecret)
				want := map[bool]int{true: machines.StatusDone, false: machines.StatusUnreachable}[works]
				if status := machines.StartProcess(t, cmd).Wait(t); status != want {
					t.Errorf("--oauth-route %s: status %d, want %d", route, status, want)
				}
			}
		})
	}
}

// named is the upstream as only the organization's proxy can resolve it.
const named = "https://mcp.internal/mcp"

// organization is a site behind a proxy.
type organization struct {
	*machines.Site
	proxy *machines.ConnectProxy
}

// login starts a login that shows a token by itself.
func (o *organization) login(t *testing.T, env []string, args ...string) *machines.Process {
	t.Helper()
	cmd := o.Command(t, t.TempDir(), append([]string{"login", "--header", "Authorization: Bearer ${TOKEN}"}, args...)...)
	cmd.Env = append(append(cmd.Env, "TOKEN="+o.OIDC.MachineToken(t, named)), env...)
	return machines.StartProcess(t, cmd)
}

// startOrganization starts a site whose gate can be reached at its name through the proxy alone.
func startOrganization(t *testing.T) *organization {
	t.Helper()
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca})
	gate := machines.StartGate(t, machines.GateOptions{CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, nil),
		Audience: named})
	bastion := machines.Hop{Alias: "bastion", SSHD: machines.StartSSHD(t, machines.SSHDOptions{})}
	return &organization{
		&machines.Site{CA: ca, OIDC: oidc, Gate: gate, Hops: []machines.Hop{bastion},
			Config: machines.WriteSSHConfig(t, bastion)},
		machines.StartConnectProxy(t, map[string]string{"mcp.internal:443": gate.Addr()}),
	}
}

// An organization lets nothing out but through its proxy, which alone resolves the upstream's name.
func TestHTTPSProxy(t *testing.T) {
	t.Parallel()
	o := startOrganization(t)
	through := []string{"HTTPS_PROXY=" + o.proxy.URL}

	t.Run("through it", func(t *testing.T) {
		if status := o.login(t, through, named).Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
		if got := o.proxy.Asked(); !slices.Contains(got, "mcp.internal:443 person:hush") {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("excepted", func(t *testing.T) {
		before := len(o.proxy.Asked())
		p := o.login(t, []string{"https_proxy=" + o.proxy.URL, "no_proxy=.internal"}, named)
		if status := p.Wait(t); status != machines.StatusUnreachable || len(o.proxy.Asked()) != before {
			t.Errorf("status %d; the proxy was asked for %q", status, o.proxy.Asked()[before:])
		}
	})
	t.Run("refused by it", func(t *testing.T) {
		p := o.login(t, through, "https://elsewhere.internal/mcp")
		if status := p.Wait(t); status != machines.StatusUnreachable {
			t.Errorf("status %d, want %d", status, machines.StatusUnreachable)
		}
		p.Err.Await(t, `(?m)^sallyport: .*proxy 127\.0\.0\.1:\d+ refuses to connect to elsewhere\.internal:443: status 502 Bad Gateway\nhint: .*NO_PROXY`)
		if strings.Contains(p.Err.String(), "hush") {
			t.Error("the proxy's password on stderr")
		}
	})
	t.Run("never behind SSH", func(t *testing.T) {
		before := len(o.proxy.Asked())
		if status := o.login(t, through, o.Via()...).Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
		if got := o.proxy.Asked()[before:]; len(got) > 0 {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("without the token", func(t *testing.T) {
		cmd := o.Command(t, t.TempDir(), "login", "--grant", "none", named)
		cmd.Env = append(cmd.Env, through...)
		if status := machines.StartProcess(t, cmd).Wait(t); status == machines.StatusDone {
			t.Error("it works without the header, too")
		}
	})
	t.Run("without its authority", func(t *testing.T) {
		p := o.login(t, append(through, "SALLYPORT_CA_FILE="), named)
		if status := p.Wait(t); status != machines.StatusUnreachable {
			t.Errorf("status %d, want %d", status, machines.StatusUnreachable)
		}
	})
}
