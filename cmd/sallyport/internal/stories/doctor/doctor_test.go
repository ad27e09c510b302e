//go:build linux

// The stories of `sallyport doctor`: no row fails where everything works, on every kind of site
// that the test library has, and where one thing is broken, the first row that fails names it.
// Real: the command, sshd, oidc-provider, TLS.
package doctor_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// check is one row of the JSON form.
type check struct {
	ID, Result, Summary, Why, Kind string
	Evidence, Next                 []string
}

// report is what `sallyport doctor --json` prints.
type report struct {
	Version      int
	Status       int
	FirstFailure string `json:"first_failure"`
	Checks       []check
}

// row returns a row by its ID. It is zero if there is none.
func (r report) row(id string) check {
	for _, c := range r.Checks {
		if c.ID == id {
			return c
		}
	}
	return check{}
}

// run runs a doctor whose arguments hold --json. It checks what every report is like.
func run(t *testing.T, cmd *exec.Cmd) (r report, stderr string) {
	t.Helper()
	p := machines.StartProcess(t, cmd)
	status := p.Wait(t)
	decoder := json.NewDecoder(bytes.NewReader([]byte(p.Out.String())))
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v in:\n%s", err, p.Out)
	}
	if r.Version != 1 || r.Status != status {
		t.Errorf("version %d; exit status %d, and %d in the report", r.Version, status, r.Status)
	}
	first := ""
	for _, c := range r.Checks {
		if c.Why == "" || c.Summary == "" || !slices.Contains([]string{"ok", "warn", "fail", "skipped"}, c.Result) {
			t.Errorf("row %+v", c)
		}
		if c.Result == "fail" && first == "" {
			first = c.ID
			if !strings.Contains(p.Err.String(), "sallyport: "+c.Summary+"\n") {
				t.Errorf("stderr does not tell the first failure, %q:\n%s", c.Summary, p.Err)
			}
		}
	}
	if r.FirstFailure != first || (status == 0) != (first == "") {
		t.Errorf("exit status %d; the first failure is %q, and %q in the report", status, first, r.FirstFailure)
	}
	return r, p.Err.String()
}

// command puts the doctor's own arguments before those of a command.
func command(cmd *exec.Cmd) *exec.Cmd {
	cmd.Args = slices.Concat(cmd.Args[:1], []string{"doctor", "--json"}, cmd.Args[1:])
	cmd.Env = append(cmd.Env, "LOG_LEVEL=warn")
	return cmd
}

// checkGood fails for each row that raises an alarm, and looks for rows that must be ok. Other rows
// may be skipped.
func checkGood(t *testing.T, cmd *exec.Cmd, ok ...string) report {
	t.Helper()
	r, _ := run(t, command(cmd))
	for _, c := range r.Checks {
		switch {
		case c.Result == "warn" || c.Result == "fail":
			t.Errorf("%s: %s: %s %q", c.Result, c.ID, c.Summary, c.Evidence)
		case c.Result == "skipped" && slices.Contains(ok, c.ID):
			t.Errorf("%s is not looked at: %s", c.ID, c.Summary)
		}
	}
	for _, id := range ok {
		if r.row(id).Result != "ok" {
			t.Errorf("%s is %+v", id, r.row(id))
		}
	}
	return r
}

// The rows of a whole hop, and those of a sign-in.
var (
	hop1   = []string{"hop.1.config", "hop.1.keys", "hop.1.tcp", "hop.1.hostkey", "hop.1.kex", "hop.1.login", "hop.1.roundtrip"}
	behind = []string{"via.open", "via.listen", "via.exec", "upstream.tcp"}
	answer = []string{"upstream.tls", "upstream.http", "clock"}
	oauth  = []string{"signin.challenge", "signin.resource", "signin.server", "signin.issuer", "signin.pkce", "signin.client"}
	local  = []string{"settings", "store.directory", "callback.port", "callback.loopback"}
)

func TestNoFalseAlarmThroughSSH(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 3, machines.StartMCP)
	t.Run("chain", func(t *testing.T) {
		hops := []string{"hop.2.hostkey", "hop.2.login", "hop.3.tcp", "hop.3.login", "hop.3.roundtrip", "upstream.name"}
		r := checkGood(t, s.ThroughChain(t, t.TempDir(), "--callback-port", "0"), slices.Concat(hop1, hops, behind, answer, oauth, local)...)
		if got := r.row("hop.1.hostkey").Summary; !strings.Contains(got, s.Config+".hop1:1") {
			t.Errorf("the line that vouches is not named: %s", got)
		}
		if got := r.row("hop.1.config").Evidence; !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "port "+s.Hops[0].SSHD.Port+" ("+s.Config+":") }) {
			t.Errorf("no line of ssh_config in %q", got)
		}
	})
	t.Run("client credentials", func(t *testing.T) {
		checkGood(t, s.AsMachine(t), slices.Concat(hop1, behind, answer, []string{"signin.challenge", "signin.server", "signin.client"})...)
	})
	t.Run("one connection a host, and nothing is begun", func(t *testing.T) {
		before := strings.Count(s.Hops[0].SSHD.Log.String(), "Accepted publickey")
		home := t.TempDir()
		checkGood(t, s.ThroughChain(t, home, "--callback-port", "0"))
		if got := strings.Count(s.Hops[0].SSHD.Log.String(), "Accepted publickey") - before; got != 1 {
			t.Errorf("%d logins at the first hop", got)
		}
		for _, path := range []string{"POST /token", "POST /reg", "GET /auth"} {
			if strings.Contains(s.OIDC.Log.String(), path) {
				t.Errorf("the login server saw %s:\n%s", path, s.OIDC.Log)
			}
		}
		checkEmpty(t, home)
	})
}

// checkEmpty looks for files that a doctor must not leave.
func checkEmpty(t *testing.T, home string) {
	t.Helper()
	if out, err := exec.Command("find", home, "-mindepth", "1").Output(); err != nil || len(out) > 0 {
		t.Errorf("in the home: %s, %v", out, err)
	}
}

func TestNoFalseAlarmPlain(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	checkGood(t, s.Command(t), slices.Concat(hop1, behind, []string{"upstream.http", "upstream.mcp"})...)
}

func TestNoFalseAlarmDirect(t *testing.T) {
	t.Parallel()
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	t.Run("not signed in", func(t *testing.T) {
		checkGood(t, s.Command(t, t.TempDir(), "--callback-port", "0", s.Gate.URL), slices.Concat(answer, oauth, local)...)
	})
	t.Run("device code", func(t *testing.T) {
		checkGood(t, s.Command(t, t.TempDir(), "--grant", "device_code", s.Gate.URL), slices.Concat(answer, []string{"signin.server", "signin.client"})...)
	})
	t.Run("own credentials", func(t *testing.T) {
		m := machines.StartMCP(t, nil)
		cmd := machines.Command(t, t.TempDir(), m)
		cmd.Env = append(cmd.Env, "SALLYPORT_HEADER=Authorization: Bearer t")
		checkGood(t, cmd, "upstream.http", "upstream.mcp")
	})
	t.Run("by an HTTP proxy", func(t *testing.T) {
		proxy := machines.StartConnectProxy(t, map[string]string{"mcp.internal:443": s.Gate.Addr()})
		cmd := s.Command(t, t.TempDir(), "--callback-port", "0", "--grant", "none", "https://mcp.internal/mcp")
		cmd.Env = append(cmd.Env, "HTTPS_PROXY="+proxy.URL)
		r, _ := run(t, command(cmd))
		if r.row("upstream.proxy").Result != "ok" || r.row("upstream.tls").Result != "ok" || strings.Contains(r.row("upstream.proxy").Summary, "hush") {
			t.Errorf("%+v", r)
		}
	})
}

func TestNoFalseAlarmSignedIn(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	login := machines.StartProcess(t, s.Command(nil, "login", "--callback-port", "0", "--browser", s.Browser, "--token-store", "file"))
	if status := login.Wait(t); status != machines.StatusDone {
		t.Fatalf("login ended with status %d", status)
	}
	cmd := s.Command(nil, "--callback-port", "0", "--browser", s.Browser, "--token-store", "file")
	refreshes := s.AS.Stats().Refreshes
	checkGood(t, cmd, slices.Concat(oauth, local, []string{"token.stored", "token.accepted", "store.key", "upstream.mcp", "callback.browser"})...)
	if got := s.AS.Stats(); got.Refreshes != refreshes || got.Registrations != 1 {
		t.Errorf("the doctor renewed or registered: %+v", got)
	}
	s.AddSecrets()
}

// A server that takes passwords only asks a person. Nobody is asked without --login, which is no
// fault. A shared connection that is up serves the rows behind it.
func TestPasswordIsNotAskedFor(t *testing.T) {
	t.Parallel()
	server, password := machines.StartPasswordSSHD(t, "PasswordAuthentication yes")
	upstream := machines.StartMCP(t, nil)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "vault", SSHD: server, Config: []string{"PubkeyAuthentication no"}})
	home := t.TempDir()
	args := []string{"-F", config, "--grant", "none", "--via", "vault", upstream}
	r := checkGood(t, machines.Command(t, home, args...), "hop.1.hostkey", "hop.1.kex")
	if c := r.row("hop.1.login"); c.Result != "skipped" || len(c.Next) == 0 {
		t.Errorf("%+v", c)
	}
	terminal := machines.StartInTerminal(t, machines.Command(t, home, append([]string{"login"}, args...)...))
	terminal.Type(t, "password", password+"\r")
	if status := terminal.Wait(t); status != machines.StatusDone {
		t.Fatalf("login ended with status %d", status)
	}
	checkGood(t, machines.Command(t, home, args...), slices.Concat(behind, []string{"upstream.http", "upstream.mcp", "shared"})...)
}

// The other wires, and other ways to be let in.
func TestNoFalseAlarmElsewhere(t *testing.T) {
	t.Parallel()
	good := func(name string, cmd *exec.Cmd, ok ...string) {
		t.Run(name, func(t *testing.T) { checkGood(t, cmd, ok...) })
	}
	sse := machines.StartEverythingSSE(t, nil)
	good("HTTP+SSE", machines.Command(t, t.TempDir(), "--grant", "none", sse), "upstream.mcp")
	good("modern", machines.Command(t, t.TempDir(), "--grant", "none", machines.StartModern(t)), "upstream.mcp")
	s := machines.NewDirectSite(t, machines.OIDCOptions{DPoPNonces: true})
	good("DPoP", s.Command(t, t.TempDir(), "--callback-port", "0", s.Gate.URL), oauth...)
	plain := machines.NewPlainSite(t)
	good("strict", plain.Command(t, "-o", "StrictHostKeyChecking=yes"), hop1...)
	agent := machines.Command(t, t.TempDir(), agentOnly(t, plain)...)
	agent.Env = append(agent.Env, "SSH_AUTH_SOCK="+machines.StartAgent(t, plain.SSHD.IdentityFile))
	good("agent", agent, "hop.1.keys", "hop.1.login")
	good("ProxyCommand", plain.Command(t, "-o", "ProxyCommand=nc %h %p"), "hop.1.tcp", "hop.1.login")
	good("callback on a workstation", machines.Command(t, t.TempDir(), "-F", machines.WriteSSHConfig(t, machines.Hop{Alias: "desk", SSHD: plain.SSHD}),
		"--callback-via", "desk", "--callback-port", "0", newSite(t).upstream), "callback.hop.1.login", "callback.hop.1.roundtrip", "callback.port")
}

// agentOnly are the arguments of a command through the bastion of a site, for which only the agent
// has a key.
func agentOnly(t *testing.T, s *machines.PlainSite) []string {
	t.Helper()
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: s.SSHD, Config: []string{"IdentitiesOnly no"}})
	return []string{"-F", machines.WithIdentity(t, config, s.SSHD, "/nosuch/key"), "--grant", "none", "--via", "bastion", s.Upstream}
}

// A key that StrictHostKeyChecking takes is told, and not written down.
func TestUnknownKeysAreNotNoted(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	known := machines.WriteKnownHosts(t, "")
	r, _ := run(t, command(s.Command(t, "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile="+known)))
	if c := r.row("hop.1.hostkey"); r.Status != 0 || c.Result != "warn" || r.row("upstream.mcp").Result != "ok" {
		t.Errorf("%d, %+v", r.Status, c)
	}
	if text := machines.ReadFile(t, known); text != "" {
		t.Errorf("known_hosts has %q", text)
	}
}

// On a terminal the rows have colours, unless NO_COLOR is set, and the row that takes long is shown
// until it is known.
func TestOnATerminal(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	show := func(env ...string) string {
		cmd := s.Command(t)
		cmd.Args = slices.Concat(cmd.Args[:1], []string{"doctor"}, cmd.Args[1:])
		cmd.Env = append(append(cmd.Env, "TERM=xterm"), env...)
		terminal := machines.StartInTerminal(t, cmd)
		if status := terminal.Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
		return terminal.String()
	}
	colored := show()
	for _, want := range []string{"\x1b[32mok ", "\x1b[2m...", "hop.1.roundtrip", "\r\x1b[K", "0 failed"} {
		if !strings.Contains(colored, want) {
			t.Errorf("no %q in %q", want, colored)
		}
	}
	if plain := show("NO_COLOR=1"); strings.Contains(plain, "\x1b[3") || !strings.Contains(plain, "ok      hop.1.login") {
		t.Errorf("with NO_COLOR: %q", plain)
	}
	if dumb := show("TERM=dumb"); strings.Contains(dumb, "\x1b") {
		t.Errorf("on a dumb terminal: %q", dumb)
	}
}

// A doctor that is interrupted ends at once, and says so by its status.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	hole := startHole(t)
	cmd := machines.Command(t, t.TempDir(), "doctor", "http://"+hole+"/mcp")
	p := machines.StartProcess(t, cmd)
	p.Out.Await(t, "settings")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status := p.Wait(t); status != machines.StatusInterrupted {
		t.Errorf("status %d", status)
	}
}
