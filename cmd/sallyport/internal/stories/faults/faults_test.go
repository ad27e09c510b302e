//go:build linux

// The stories of everything that breaks on the way: what login says, what the proxy says and
// answers, and what is left in the log. Real: sshd, oidc-provider, Chromium, TLS.
package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// fault is one row of the table: a stage of the way that does not work.
type fault struct {
	name   string
	args   []string // flags and URL
	env    []string
	status int    // of login
	text   string // regular expression of the line on stderr
	hint   string // regular expression of one of the hints
	kind   string // in the data of the error that the MCP host gets; empty means any
	ends   bool   // the proxy ends with the same status, as waiting cannot mend it
}

// table is a site, and what is broken beside it.
type table struct {
	*machines.Site
	bastion   *machines.SSHD
	elsewhere *machines.Namespace
}

// Each stage of the way breaks in turn. login and the proxy write one line and hints, end with the
// promised status, and every request is answered.
func TestEachStageBreaks(t *testing.T) {
	s := machines.NewSite(t, 1, machines.StartMCP)
	tb := &table{s, s.Hops[0].SSHD, machines.NewNamespace(t)}
	for _, row := range append(tb.onTheWay(t), tb.atTheEnd(t)...) {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			t.Run("login", func(t *testing.T) { row.login(t, tb) })
			t.Run("proxy", func(t *testing.T) { row.proxy(t, tb) })
		})
	}
}

// via are flags and URL through the bastion.
func (tb *table) via(more ...string) []string {
	return append(append([]string{"-F", tb.Config, "--via", "hop1"}, more...), tb.Gate.URL)
}

// onTheWay are the faults of SSH.
func (tb *table) onTheWay(t *testing.T) []fault {
	_, otherKey := machines.NewKey(t, machines.OpenDir(t), "other")
	otherSigner, _ := machines.NewKey(t, machines.OpenDir(t), "host")
	changed := machines.WriteKnownHosts(t, machines.KnownHostsLine(tb.bastion, otherSigner.PublicKey()))
	unknown := machines.WriteKnownHosts(t, "")
	return []fault{
		{name: "unknown alias", args: []string{"-F", tb.Config, "--via", "bastoin.invalid", tb.Gate.URL},
			status: machines.StatusUnreachable, text: `hop bastoin\.invalid .*no such host`,
			hint: `alias of a Host block`, kind: "unreachable"},
		{name: "port refused", args: tb.via("-o", "Port="+machines.ClosedPort(t)),
			status: machines.StatusUnreachable, text: `hop hop1 .*connection refused`, hint: `sallyport ssh-config hop1`,
			kind: "unreachable"},
		{name: "wrong host key", args: tb.via("-o", "UserKnownHostsFile="+changed),
			status: machines.StatusHostKey, text: `host key of \S+ has changed: .*known_hosts:1`,
			hint: `ssh-keygen -f \S+ -R`, kind: "host_key", ends: true},
		{name: "unknown host key", args: tb.via("-o", "UserKnownHostsFile="+unknown),
			status: machines.StatusHostKey, text: `host key of \S+ is not known: ssh-ed25519 SHA256:`,
			hint: `accept it once in a terminal`, kind: "host_key", ends: true},
		{name: "no usable key", args: []string{"-F", machines.WithIdentity(t, tb.Config, tb.bastion, otherKey),
			"--via", "hop1", tb.Gate.URL},
			status: machines.StatusSSHAuth, text: `permission denied for user`, hint: `ssh -v hop1`, kind: "ssh_auth",
			ends: true},
		{name: "ssh_config refused", args: tb.via("-o", "Port=many"),
			status: machines.StatusUsage, text: `(?i)port`, hint: `check --via, -J and -o`, ends: true},
		{name: "upstream refused behind the bastion", args: []string{"-F", tb.Config, "--via", "hop1",
			"https://mcp.internal:1/mcp"},
			status: machines.StatusUnreachable, text: `hop1 could not connect to mcp.internal:1: .*Connection refused`,
			hint: `is the upstream running`, kind: "unreachable"},
		{name: "upstream unknown behind the bastion", args: []string{"-F", tb.Config, "--via", "hop1",
			"https://nowhere.internal/mcp"},
			status: machines.StatusUnreachable, text: `hop1 could not connect to nowhere.internal:443`,
			hint: `does hop1 resolve and reach it`, kind: "unreachable"},
	}
}

// atTheEnd are the faults of TLS, of the authorization server, and of the login.
func (tb *table) atTheEnd(t *testing.T) []fault {
	upstream := machines.StartMCP(t, nil)
	misnamed := machines.StartGate(t, machines.GateOptions{NS: tb.elsewhere, CA: tb.CA, OIDC: tb.OIDC,
		Upstream: "http://127.0.0.1:1/", Names: []string{"other.internal"}})
	misnamedConfig := machines.WriteSSHConfig(t, machines.Hop{Alias: "misnamed",
		SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: tb.elsewhere})})
	direct := machines.StartGate(t, machines.GateOptions{CA: tb.CA, OIDC: tb.OIDC, Upstream: upstream})
	strict := machines.StartGate(t, machines.GateOptions{CA: tb.CA, OIDC: tb.OIDC, Upstream: upstream,
		Audience: "https://elsewhere.example/"})
	bare, bareCA := startBare(t)
	machines.Here.Listen(t, "127.0.0.1:53690") // the port of the callback of one row
	chromium := machines.Person{TrustsAll: true}.BrowserScript(t)
	denies := machines.Person{TrustsAll: true, Denies: true}.BrowserScript(t)
	return []fault{
		{name: "TLS name wrong", args: []string{"-F", misnamedConfig, "--via", "misnamed", misnamed.URL},
			status: machines.StatusUnreachable, text: `certificate is valid for other\.internal, not mcp\.internal`,
			hint: `the certificate is for other.internal`, kind: "tls"},
		{name: "metadata missing", args: []string{"--ca-file", bareCA, "--callback-port", "0", bare + "/mcp"},
			status: machines.StatusSignIn, text: `metadata|register`, hint: `OAUTH2_AUTHORIZATION_URL|--client-id`},
		{name: "login denied", args: []string{"--callback-port", "0", "--browser", denies, direct.URL},
			status: machines.StatusSignIn, text: `access_denied`, hint: `sallyport login URL tries again`,
			kind: "sign_in_refused"},
		{name: "callback port busy", args: []string{"--no-browser", "--callback-port", "53690", direct.URL},
			status: machines.StatusFailed, text: fmt.Sprintf(`callback address 127.0.0.1:53690 is in use by process %d`,
				os.Getpid()), hint: `--callback-port`, kind: "callback_port"},
		{name: "token refused", args: []string{"--callback-port", "0", "--browser", chromium, strict.URL},
			status: machines.StatusSignIn, text: `token is refused by https://127.0.0.1`,
			hint: `--scope, --resource or --audience`, kind: "sign_in_refused"},
		{name: "client secret wrong", args: []string{"--grant", "client_credentials", "--client-id", machines.MachineID,
			direct.URL}, env: []string{"OAUTH2_CLIENT_SECRET=wrong-secret"},
			status: machines.StatusSignIn, text: `invalid_client`, hint: `check --client-id`, kind: "sign_in_refused"},
	}
}

// startBare starts a server that wants a token and says nothing of where to get one. It returns its
// origin and the file of its certificate.
func startBare(t *testing.T) (origin, caFile string) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, machines.WriteFile(t, machines.OpenDir(t), "ca.pem",
		machines.PEM("CERTIFICATE", server.Certificate().Raw), 0o644)
}

func (row fault) command(t *testing.T, tb *table, args ...string) *exec.Cmd {
	cmd := tb.Command(t, t.TempDir(), append(args, row.args...)...)
	cmd.Env = append(append(cmd.Env, row.env...), "LOG_LEVEL=warn")
	return cmd
}

func (row fault) login(t *testing.T, tb *table) {
	p := machines.StartProcess(t, row.command(t, tb, "login"))
	if status := p.Wait(t); status != row.status {
		t.Errorf("status %d, want %d", status, row.status)
	}
	row.checkStderr(t, p.Err.String())
	if out := p.Out.String(); out != "" {
		t.Errorf("stdout: %q", out)
	}
}

func (row fault) checkStderr(t *testing.T, stderr string) {
	t.Helper()
	machines.CheckExplained(t, stderr, row.text, row.hint)
	if strings.Contains(stderr, "wrong-secret") {
		t.Errorf("a secret on stderr:\n%s", stderr)
	}
}

func (row fault) proxy(t *testing.T, tb *table) {
	p := machines.StartStdio(t, row.command(t, tb))
	if row.status == machines.StatusUsage { // told before there is a session
		if status := p.Wait(t); status != row.status {
			t.Errorf("status %d, want %d", status, row.status)
		}
		row.checkStderr(t, p.Err.String())
		return
	}
	// The call finds the session opened early or not at all.
	p.Send(t, machines.InitializeLine+call(2))
	if row.ends {
		row.checkAnswer(t, p.Answer(t, "2"), "2")
		if first := p.Answer(t, `"first"`); strings.Contains(first, `"error"`) { // none if it took long
			row.checkAnswer(t, first, `"first"`)
		}
		if status := p.Wait(t); status != row.status {
			t.Errorf("status %d, want %d", status, row.status)
		}
	} else {
		if first := p.Answer(t, `"first"`); !strings.Contains(first, `"result"`) {
			t.Errorf("initialize was answered with %s", first)
		}
		row.checkAnswer(t, p.Answer(t, "2"), "2")
		if status := p.End(t); status != machines.StatusDone {
			t.Errorf("after the end of input: status %d, want %d", status, machines.StatusDone)
		}
	}
	row.checkStderr(t, p.Err.String())
	for line := range strings.Lines(p.Out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("stdout: %q", line)
		}
	}
}

// call is the line of a call with an id.
func call(id int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo"}}`+"\n", id)
}

func (row fault) checkAnswer(t *testing.T, line, id string) {
	t.Helper()
	e := machines.ParseError(t, line, id)
	if e.Code != -32000 || !regexp.MustCompile(row.text).MatchString(e.Message) ||
		!regexp.MustCompile(row.hint).MatchString(e.Data.Hint) {
		t.Errorf("answer to %v: %s", id, line)
	}
	if row.kind != "" && e.Data.Kind != row.kind {
		t.Errorf("kind %q, want %q", e.Data.Kind, row.kind)
	}
}
