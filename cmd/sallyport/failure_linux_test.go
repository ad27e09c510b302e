package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// failure is one row of the table: a stage of the way that does not work.
type failure struct {
	name   string
	args   []string // flags and URL
	env    []string
	status int    // of login
	text   string // regular expression of the line on stderr
	hint   string // regular expression of one of the hints
	kind   string // in the data of the error that the MCP host gets
	ends   bool   // the proxy ends with the same status, as waiting cannot mend it
	slow   bool   // the proxy waits for the way to come back before it answers
}

// TestFailures breaks each stage of the way, with real parts, and looks at what login and the proxy
// make of it: one line, hints, the exit status, and an answer to each request.
func TestFailures(t *testing.T) {
	s := newSite(t, 1, startMCP)
	bastion := s.hops[0]
	closed := closedPort(t)
	_, otherKey := newKey(t, openDir(t), "other")
	otherSigner, _ := newKey(t, openDir(t), "host")
	changed := writeFile(t, openDir(t), "known_hosts", knownLine(bastion.SSHD, otherSigner.PublicKey()), 0o644)
	unknown := writeFile(t, openDir(t), "known_hosts", "", 0o644)
	elsewhere := newNetns(t)
	misnamed := startGate(t, gateOptions{NS: elsewhere, CA: s.ca, OIDC: s.oidc, Upstream: "http://127.0.0.1:1/", Names: []string{"other.internal"}})
	direct := startGate(t, gateOptions{CA: s.ca, OIDC: s.oidc, Upstream: startMCP(t, nil)})
	strict := startGate(t, gateOptions{CA: s.ca, OIDC: s.oidc, Upstream: startMCP(t, nil), Audience: "https://elsewhere.example/"})
	bare := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.NotFound(w, r)
	}))
	defer bare.Close()
	bareCA := writeFile(t, openDir(t), "ca.pem", pemText("CERTIFICATE", bare.Certificate().Raw), 0o644)
	misnamedHop := startSSHD(t, sshdOptions{NS: elsewhere})
	misnamedConfig := writeSSHConfig(t, hop{Alias: "misnamed", SSHD: misnamedHop})
	busy, err := net.Listen("tcp", "127.0.0.1:53682")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()

	via := func(more ...string) []string {
		return append(append([]string{"-F", s.config, "--via", bastion.Alias}, more...), s.gate.URL)
	}
	rows := []failure{
		{name: "unknown alias", args: []string{"-F", s.config, "--via", "bastoin.invalid", s.gate.URL},
			status: statusUnreachable, text: `hop bastoin\.invalid .*no such host`, hint: `alias of a Host block`, kind: kindUnreachable, slow: true},
		{name: "port refused", args: via("-o", "Port="+closed),
			status: statusUnreachable, text: `hop hop1 .*connection refused`, hint: `sallyport ssh-config hop1`, kind: kindUnreachable, slow: true},
		{name: "wrong host key", args: via("-o", "UserKnownHostsFile="+changed),
			status: statusHostKey, text: `host key of \S+ has changed: .*known_hosts:1`, hint: `ssh-keygen -f \S+ -R`, kind: kindHostKey, ends: true},
		{name: "unknown host key", args: via("-o", "UserKnownHostsFile="+unknown),
			status: statusHostKey, text: `host key of \S+ is not known: ssh-ed25519 SHA256:`, hint: `accept it once in a terminal`, kind: kindHostKey, ends: true},
		{name: "no usable key", args: []string{"-F", withKey(t, s.config, bastion.SSHD, otherKey), "--via", bastion.Alias, s.gate.URL},
			status: statusSSHAuth, text: `permission denied for user`, hint: `ssh -v hop1`, kind: kindSSHAuth, ends: true},
		{name: "ssh_config refused", args: via("-o", "Port=many"),
			status: statusUsage, text: `(?i)port`, hint: `check --via, -J and -o`, ends: true},
		{name: "upstream refused behind the bastion", args: []string{"-F", s.config, "--via", bastion.Alias, "https://mcp.internal:1/mcp"},
			status: statusUnreachable, text: `hop1 could not connect to mcp.internal:1: .*Connection refused`, hint: `is the upstream running`, kind: kindUnreachable},
		{name: "upstream unknown behind the bastion", args: []string{"-F", s.config, "--via", bastion.Alias, "https://nowhere.internal/mcp"},
			status: statusUnreachable, text: `hop1 could not connect to nowhere.internal:443`, hint: `does hop1 resolve and reach it`, kind: kindUnreachable},
		{name: "TLS name wrong", args: []string{"-F", misnamedConfig, "--via", "misnamed", misnamed.URL},
			status: statusUnreachable, text: `certificate is valid for other\.internal, not mcp\.internal`, hint: `the certificate is for other.internal`, kind: kindTLS},
		{name: "metadata missing", args: []string{"--ca-file", bareCA, "--callback-port", "53683", bare.URL + "/mcp"},
			status: statusSignIn, text: `metadata|register`, hint: `OAUTH2_AUTHORIZATION_URL|--client-id`},
		{name: "login denied", args: []string{"--callback-port", "53683", "--browser", person{Denies: true, TrustsAll: true}.browserScript(t), direct.URL},
			status: statusSignIn, text: `access_denied`, hint: `sallyport login URL tries again`, kind: kindRefused, ends: true},
		{name: "callback port busy", args: []string{"--no-browser", direct.URL},
			status: statusFailed, text: fmt.Sprintf(`callback address 127.0.0.1:53682 is in use by process %d`, os.Getpid()), hint: `--callback-port`, kind: kindPort},
		{name: "token refused", args: []string{"--callback-port", "53683", "--browser", person{TrustsAll: true}.browserScript(t), strict.URL},
			status: statusSignIn, text: `token is refused by https://127.0.0.1`, hint: `check --scope, --resource and --audience`, kind: kindRefused, ends: true},
		{name: "client secret wrong", args: []string{"--grant", "client_credentials", "--client-id", machineID, direct.URL}, env: []string{"OAUTH2_CLIENT_SECRET=wrong-secret"},
			status: statusSignIn, text: `invalid_client`, hint: `check --client-id`, kind: kindRefused, ends: true},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.slow {
				t.Parallel()
			}
			t.Run("login", func(t *testing.T) { row.login(t, s) })
			t.Run("proxy", func(t *testing.T) { row.proxy(t, s) })
		})
	}
}

func (row failure) command(t *testing.T, s *site, args ...string) *exec.Cmd {
	cmd := s.command(t, t.TempDir(), append(args, row.args...)...)
	cmd.Env = append(cmd.Env, append(row.env, "LOG_LEVEL=warn")...)
	return cmd
}

func (row failure) login(t *testing.T, s *site) {
	p := startProcess(t, row.command(t, s, "login"))
	if status := p.wait(t); status != row.status {
		t.Errorf("status %d, want %d", status, row.status)
	}
	row.checkStderr(t, p.Err.String())
	if out := p.Out.String(); out != "" {
		t.Errorf("stdout: %q", out)
	}
}

// checkStderr wants the error's line and, right below it, hints.
func (row failure) checkStderr(t *testing.T, stderr string) {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^sallyport: .*(?:` + row.text + `).*\n(?:hint: .*\n)*hint: .*(?:` + row.hint + `)`)
	if n := len(pattern.FindAllString(stderr, -1)); n != 1 {
		t.Errorf("%d times %q on stderr:\n%s", n, pattern, stderr)
	}
	if strings.Contains(stderr, "wrong-secret") {
		t.Errorf("a secret on stderr:\n%s", stderr)
	}
}

func (row failure) proxy(t *testing.T, s *site) {
	cmd := row.command(t, s)
	p, host := startWithInput(t, cmd)
	if row.status == statusUsage { // told before there is a session
		if status := p.wait(t); status != row.status {
			t.Errorf("status %d, want %d", status, row.status)
		}
		row.checkStderr(t, p.Err.String())
		return
	}
	// The call finds the session opened early or not at all.
	io.WriteString(host, initializeLine+`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`+"\n")
	if row.ends {
		row.checkAnswer(t, p.Out.await(t, `(?m)^(.*"id":2\b.*)\n`)[1], 2)
		if first := p.Out.await(t, `(?m)^(.*"first".*)\n`)[1]; strings.Contains(first, `"error"`) { // none where it took long
			row.checkAnswer(t, first, "first")
		}
		if status := p.wait(t); status != row.status {
			t.Errorf("status %d, want %d", status, row.status)
		}
	} else {
		p.Out.await(t, `(?m)^\{"jsonrpc":"2.0","id":"first","result":.*\n`)
		io.WriteString(host, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo"}}`+"\n")
		row.checkAnswer(t, p.Out.await(t, `(?m)^(.*"id":3\b.*)\n`)[1], 3)
		host.Close()
		if status := p.wait(t); status != statusDone {
			t.Errorf("after the end of input: status %d, want %d", status, statusDone)
		}
	}
	row.checkStderr(t, p.Err.String())
	for line := range strings.Lines(p.Out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("stdout: %q", line)
		}
	}
}

func (row failure) checkAnswer(t *testing.T, line string, id any) {
	t.Helper()
	var answer struct {
		ID    any
		Error struct {
			Code    int
			Message string
			Data    struct{ Kind, Hint string }
		}
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		t.Fatal(err)
	}
	e := answer.Error
	if fmt.Sprint(answer.ID) != fmt.Sprint(id) || e.Code != -32000 || !regexp.MustCompile(row.text).MatchString(e.Message) || !regexp.MustCompile(row.hint).MatchString(e.Data.Hint) {
		t.Errorf("answer to %v: %s", id, line)
	}
	if row.kind != "" && e.Data.Kind != row.kind {
		t.Errorf("kind %q, want %q", e.Data.Kind, row.kind)
	}
}

// TestCallbackFailures looks at the exit status and words of the callback command.
func TestCallbackFailures(t *testing.T) {
	server := startSSHD(t, sshdOptions{})
	noShell := startSSHD(t, sshdOptions{Config: []string{"ForceCommand /bin/false"}})
	config := writeSSHConfig(t, hop{Alias: "remote", SSHD: server})
	noShellConfig := writeSSHConfig(t, hop{Alias: "noshell", SSHD: noShell})
	otherSigner, otherKey := newKey(t, openDir(t), "other")
	changed := writeFile(t, openDir(t), "known_hosts", knownLine(server, otherSigner.PublicKey()), 0o644)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, busyPort, _ := net.SplitHostPort(busy.Addr().String())

	for _, row := range []failure{
		{name: "unknown host", args: []string{"-F", config, "remoet.invalid"}, status: statusUnreachable, text: `no such host`, hint: `check the spelling`},
		{name: "wrong host key", args: []string{"-F", config, "-o", "UserKnownHostsFile=" + changed, "remote"}, status: statusHostKey, text: `has changed`, hint: `ssh-keygen`},
		{name: "no usable key", args: []string{"-F", withKey(t, config, server, otherKey), "remote"}, status: statusSSHAuth, text: `permission denied`, hint: `ssh -v remote`},
		{name: "no shell", args: []string{"-F", noShellConfig, "noshell"}, status: statusFailed, text: `cannot tell who listens`, hint: `needs a shell on noshell`},
		{name: "port busy", args: []string{"-F", config, "--port", busyPort, "remote"}, status: statusFailed, text: `callback port 127.0.0.1:` + busyPort + `.*in use`, hint: `--port`},
		{name: "no host", args: []string{"-F", config}, status: statusUsage, text: `<host>`, hint: `--help`},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := exec.Command(buildSallyport(t), append([]string{"callback"}, row.args...)...)
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
			p := startProcess(t, cmd)
			if status := p.wait(t); status != row.status {
				t.Errorf("status %d, want %d", status, row.status)
			}
			row.checkStderr(t, p.Err.String())
		})
	}
}

// withKey copies an ssh_config with another IdentityFile for the server.
func withKey(t *testing.T, config string, server *sshd, key string) string {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, openDir(t), "config", strings.ReplaceAll(string(text), server.IdentityFile, key), 0o644)
}

// knownLine is a line of known_hosts that gives the server another key.
func knownLine(server *sshd, key ssh.PublicKey) string {
	return fmt.Sprintf("[127.0.0.1]:%s %s", server.Port, ssh.MarshalAuthorizedKey(key))
}

// closedPort is a port of 127.0.0.1 that refuses connections: bound, so that nobody else takes it,
// but not listening.
func closedPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(addr.(*syscall.SockaddrInet4).Port)
}
