//go:build linux

// The stories of a person whose browser is on another machine than sallyport. The machine of the
// tests is the remote one, where sallyport runs; the workstation with the browser is a network of
// its own. Real: sshd, oidc-provider, Chromium, accounts on a shared machine, mcp-remote as another
// program that waits for a callback.
package callback_test

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// newWorkstation makes the person's machine, which sees the authorization server of the site.
func newWorkstation(t *testing.T, s *machines.Site) *machines.Namespace {
	t.Helper()
	workstation := machines.NewNamespace(t, "workstation")
	workstation.Borrow(t, s.OIDC.Addr())
	return workstation
}

// The remote machine can reach the workstation by SSH: the proxy listens there (--callback-via)
// while a login waits, and only then.
func TestRemoteMachineReachesTheWorkstation(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	workstation := newWorkstation(t, s)
	desk := machines.StartSSHD(t, machines.SSHDOptions{NS: workstation, User: machines.NewAccount(t)})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "desk", SSHD: desk})

	host := machines.StartHost(t, s.Command(t, t.TempDir(), "-F", config, "--callback-via", "desk", s.Gate.URL), nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	host.Stderr.Await(t, "hint: open it on desk")
	if !workstation.Listens(t, 53682) {
		t.Error("nothing listens on the workstation while a login waits")
	}
	if machines.Here.Listens(t, 53682) {
		t.Error("the proxy listens on the remote machine")
	}
	screenshot := filepath.Join(machines.OpenDir(t), "page.png")
	page := machines.Person{NS: workstation, TrustsAll: true, Screenshot: screenshot}.LogsIn(t, link)
	machines.CheckSuccessPage(t, page, machines.DefaultCallback, s.Gate.URL)
	machines.KeepScreenshot(t, screenshot, "callback-via")
	host.Echo(t)
	if workstation.Listens(t, 53682) {
		t.Error("the forward is still there after the login")
	}
	host.Close(t)
}

// The workstation ends after the login that came through it: nothing waits for it any more.
func TestWorkstationGoneAfterTheLogin(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	workstation := newWorkstation(t, s)
	desk := machines.StartSSHD(t, machines.SSHDOptions{NS: workstation})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "desk", SSHD: desk})
	host := machines.StartHost(t, s.Command(t, t.TempDir(), "-F", config, "--callback-via", "desk", s.Gate.URL), nil)
	machines.Person{NS: workstation, TrustsAll: true}.LogsIn(t, host.Stderr.Await(t, machines.Offered)[1])
	host.Session(t)
	desk.Stop()
	host.Stderr.Await(t, `msg="link lost"`)
	host.Echo(t)
	host.Close(t)
	if text := host.Stderr.String(); strings.Contains(text, "hint: nothing listens") {
		t.Errorf("stderr speaks of the workstation, which nobody waits for:\n%s", text)
	}
}

// lent is a shared remote machine whose callbacks `sallyport callback` answers on the workstation.
type lent struct {
	*machines.Site
	ada, ben    *machines.Account // on the shared machine; ada's it is
	workstation *machines.Namespace
	bastion     *machines.SSHD
	shared      *machines.SSHD
	callback    *machines.Process // `sallyport callback`
	chromium    machines.Person   // at the workstation
}

func lend(t *testing.T) *lent {
	t.Helper()
	l := &lent{Site: machines.NewDirectSite(t, machines.OIDCOptions{}), ada: machines.NewAccount(t),
		ben: machines.NewAccount(t)}
	l.workstation = newWorkstation(t, l.Site)
	l.chromium = machines.Person{NS: l.workstation, TrustsAll: true}
	l.bastion, l.shared = machines.StartSSHD(t, machines.SSHDOptions{}),
		machines.StartSSHD(t, machines.SSHDOptions{User: l.ada})
	l.workstation.Borrow(t, l.bastion.Addr)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: l.bastion},
		machines.Hop{Alias: "shared", SSHD: l.shared})

	cmd := machines.Command(t, t.TempDir(), "callback", "-F", config, "--port", "53682", "shared")
	cmd.Env = append(cmd.Env, "LOG_LEVEL=info")
	l.callback = machines.StartProcess(t, l.workstation.Move(t, cmd))
	l.callback.Err.Await(t, `shared: port 53682 here is carried there`)
	return l
}

// catch starts another program's listener on the shared machine. caught returns what it was handed.
func (l *lent) catch(t *testing.T, as *machines.Account) (p *machines.Process, caught func() string) {
	t.Helper()
	p = machines.StartCatcher(t, as, "127.0.0.1:53682")
	return p, func() string { return strings.TrimPrefix(p.Out.String(), "ready\n") }
}

// The workstation can reach the remote machine by SSH: `sallyport callback` answers there for
// whichever program of the same person waits on the remote machine, and for nobody else's.
func TestWorkstationReachesTheRemoteMachine(t *testing.T) {
	l := lend(t)
	t.Run("our login", l.ours)
	t.Run("mcp-remote's login", l.mcpRemotes)
	t.Run("a stranger's listener", l.strangers)
	t.Run("what is no callback", l.noCallback)
	t.Run("nobody listens", func(t *testing.T) {
		if body := machines.Curl(t, l.workstation, machines.DefaultCallback); !strings.Contains(body, "nobody listens on 127.0.0.1:53682 there") {
			t.Errorf("the browser saw %q", body)
		}
	})
	t.Run("after the connection broke", func(t *testing.T) {
		l.shared.Drop()
		l.bastion.Drop()
		own, _ := l.catch(t, l.ada)
		if body := machines.Curl(t, l.workstation, machines.DefaultCallback+"?code=mine"); !strings.Contains(body, "caught") {
			t.Errorf("the browser saw %q", body)
		}
		own.Stop()
	})
	l.callback.Signal(t, syscall.SIGINT)
	if status := l.callback.Wait(t); status != machines.StatusInterrupted {
		t.Errorf("callback ended with status %d, want %d", status, machines.StatusInterrupted)
	}
}

func (l *lent) ours(t *testing.T) {
	proxy := l.ada.Command(machines.Sallyport(t), l.Gate.URL)
	proxy.Env = append(proxy.Env, "SALLYPORT_CA_FILE="+l.CA.File, "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22")
	host := machines.StartHost(t, proxy, nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	// No browser starts on the workstation, which has no display, so the person opens the link.
	l.callback.Err.Await(t, `shared wants to sign in to `+regexp.QuoteMeta(l.Gate.URL)+` at `)
	if page := l.chromium.LogsIn(t, link); !strings.Contains(page.URL, "/login/") || !strings.Contains(page.Text, "shared is signed in") {
		t.Errorf("the last page is %+v", page)
	}
	host.Echo(t)
	host.Close(t)
}

func (l *lent) mcpRemotes(t *testing.T) {
	other := l.ada.Command(machines.Node(t), machines.PeerFile(t, "mcp-remote/dist/proxy.js"), l.Gate.URL, "53682")
	other.Env = append(other.Env, "NODE_EXTRA_CA_CERTS="+l.CA.File,
		"MCP_REMOTE_CONFIG_DIR="+filepath.Join(l.ada.Home, "mcp-remote"))
	host := machines.StartHost(t, other, nil)
	link := host.Stderr.Await(t, `(`+regexp.QuoteMeta(l.OIDC.Issuer)+`/auth\S+)`)[1]
	t.Logf("mcp-remote's page: %+v", l.chromium.LogsIn(t, link))
	host.Echo(t)
}

func (l *lent) strangers(t *testing.T) {
	stranger, caught := l.catch(t, l.ben)
	body := machines.Curl(t, l.workstation, machines.DefaultCallback+"?code=c0de&state=s")
	if !strings.Contains(body, "belongs to another user there (uid "+fmt.Sprint(l.ben.UID)+")") {
		t.Errorf("the browser saw %q", body)
	}
	l.callback.Err.Await(t, `127.0.0.1:53682 belongs to another user there`)
	if got := caught(); got != "" {
		t.Errorf("the stranger was handed %q", got)
	}
	stranger.Stop()
}

func (l *lent) noCallback(t *testing.T) {
	own, caught := l.catch(t, l.ada)
	for _, args := range [][]string{
		{"-X", "POST", "-d", "x=1", machines.DefaultCallback},
		{"-H", "Host: evil.example:53682", machines.DefaultCallback},
	} {
		if body := machines.Curl(t, l.workstation, args...); strings.Contains(body, "caught") {
			t.Errorf("curl %q: carried: %q", args, body)
		}
	}
	if body := machines.Curl(t, l.workstation, "-H", "Cookie: session=of-another-program",
		machines.DefaultCallback+"?code=mine"); !strings.Contains(body, "caught") {
		t.Errorf("a callback of our own was not carried: %q", body)
	}
	if got, want := caught(), "GET /callback?code=mine 127.0.0.1:53682 []\n"; got != want {
		t.Errorf("the listener saw %q, want %q", got, want)
	}
	own.Stop()
}

// `sallyport callback` that cannot work says why, and what to do.
func TestCallbackCommandFails(t *testing.T) {
	server := machines.StartSSHD(t, machines.SSHDOptions{})
	noShell := machines.StartSSHD(t, machines.SSHDOptions{Config: []string{"ForceCommand /bin/false", "AllowStreamLocalForwarding no"}})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "remote", SSHD: server})
	noShellConfig := machines.WriteSSHConfig(t, machines.Hop{Alias: "noshell", SSHD: noShell})
	otherSigner, otherKey := machines.NewKey(t, machines.OpenDir(t), "other")
	changed := machines.WriteKnownHosts(t, machines.KnownHostsLine(server, otherSigner.PublicKey()))
	busy := machines.Here.Listen(t, "127.0.0.1:0")
	_, busyPort, _ := net.SplitHostPort(busy.Addr().String())

	for _, row := range []struct {
		name       string
		args       []string
		status     int
		text, hint string // regular expressions
	}{
		{"unknown host", []string{"-F", config, "remoet.invalid"}, machines.StatusUnreachable, `no such host`,
			`check the spelling`},
		{"wrong host key", []string{"-F", config, "-o", "UserKnownHostsFile=" + changed, "remote"},
			machines.StatusHostKey, `has changed`, `ssh-keygen`},
		{"no usable key", []string{"-F", machines.WithIdentity(t, config, server, otherKey), "remote"},
			machines.StatusSSHAuth, `permission denied`, `ssh -v remote`},
		{"no way at all", []string{"-F", noShellConfig, "noshell"}, machines.StatusUnreachable,
			`lets no login there reach this machine`, `one of the two is enough`},
		{"no shell for --port", []string{"-F", noShellConfig, "--port", "53682", "noshell"}, machines.StatusFailed, `cannot tell who listens`,
			`needs a shell on noshell`},
		{"port busy", []string{"-F", config, "--port", busyPort, "remote"}, machines.StatusFailed,
			`callback port 127.0.0.1:` + busyPort + `.*in use, held by process `, `--port`},
		{"no host", []string{"-F", config, "--port", busyPort}, machines.StatusUsage, `callback needs HOST`, `sallyport callback`},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := machines.StartProcess(t, machines.Command(t, t.TempDir(), append([]string{"callback"}, row.args...)...))
			if status := p.Wait(t); status != row.status {
				t.Errorf("status %d, want %d", status, row.status)
			}
			machines.CheckExplained(t, p.Err.String(), row.text, row.hint)
		})
	}
}
