package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"sallyport/oauth/procnet"
)

// site is an MCP server behind OAuth that only the last of a chain of real sshd hops can reach.
type site struct {
	ca     *authority
	oidc   *oidcServer
	gate   *gate
	hops   []hop
	config string // ssh_config
}

// newSite starts a chain with that many hops.
func newSite(t testing.TB, hops int, upstream func(testing.TB, *netns) string) *site {
	t.Helper()
	ns := newNetns(t)
	s := &site{ca: newAuthority(t)}
	s.oidc = startOIDC(t, oidcOptions{TLS: s.ca})
	s.gate = startGate(t, gateOptions{NS: ns, CA: s.ca, OIDC: s.oidc, Upstream: upstream(t, ns)})
	for i := range hops {
		o := sshdOptions{}
		if i == 1 {
			o.HostCA = newHostCA(t)
		}
		if i == hops-1 {
			o.NS = ns
		}
		s.hops = append(s.hops, hop{Alias: fmt.Sprintf("hop%d", i+1), SSHD: startSSHD(t, o)})
	}
	s.config = writeSSHConfig(t, s.hops...)
	return s
}

// last is the alias of the hop that reaches the gate.
func (s *site) last() string { return s.hops[len(s.hops)-1].Alias }

// command is sallyport with a home of its own and nothing else of this process's environment.
func (s *site) command(t testing.TB, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(buildSallyport(t), args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "SALLYPORT_CA_FILE=" + s.ca.File, "LOG_LEVEL=debug"}
	cmd.Dir = home
	return cmd
}

// throughChain is the command of situation 1.
func (s *site) throughChain(t testing.TB, home string, args ...string) *exec.Cmd {
	t.Helper()
	return s.command(t, home, append(args, "-F", s.config, "--via", s.last(), s.gate.URL)...)
}

// On stderr: the link, and that the person has signed in.
const (
	offered  = `open this link:\n  (\S+)\n`
	signedIn = `msg="signed in"`
)

// TestThroughOneHopWithClientCredentials is the simplest way: a service, one bastion.
func TestThroughOneHopWithClientCredentials(t *testing.T) {
	s := newSite(t, 1, startMCP)
	secret := writeFile(t, openDir(t), "secret", machineSecret+"\n", 0o600)
	cmd := s.throughChain(t, t.TempDir(), "--grant", "client_credentials", "--client-id", machineID, "--client-secret-file", secret)
	host := startHost(t, cmd, nil)
	session := host.Session(t)
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v; stderr:\n%s", err, host.Stderr)
	}
	s.checkGate(t)
	if text := host.Stderr.String(); strings.Contains(text, machineSecret) || regexp.MustCompile(offered).MatchString(text) {
		t.Errorf("stderr:\n%s", text)
	}
}

// TestChain is the main job: three hops, a person at a browser, and a second start that asks nothing.
func TestChain(t *testing.T) {
	for _, upstream := range []struct {
		name     string
		start    func(testing.TB, *netns) string
		announce string // the tool that makes the server send a notification
		notice   string // its method
	}{
		{"server-everything", startEverything, "toggle-simulated-logging", "notifications/message"},
		{"go-sdk", startMCP, "grow", "notifications/tools/list_changed"},
	} {
		t.Run(upstream.name, func(t *testing.T) {
			s := newSite(t, 3, upstream.start)
			home := t.TempDir()
			chromium := person{TrustsAll: true}.browserScript(t)

			host := startHost(t, s.throughChain(t, home, "--browser", chromium), nil)
			link := host.Stderr.await(t, offered)[1]
			if !strings.HasPrefix(link, s.oidc.Issuer+"/") || !strings.Contains(link, "resource=https%3A%2F%2Fmcp.internal%2Fmcp") || !strings.Contains(link, "code_challenge_method=S256") {
				t.Errorf("the link is %s", link)
			}
			host.Stderr.await(t, signedIn)
			session := host.Session(t)
			callEcho(t, session) // waits for the server, which a list of the tools does not
			list, err := session.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(list.Tools, func(tool *mcp.Tool) bool { return tool.Name == "echo" }) {
				t.Errorf("tools %v lack echo", list.Tools)
			}
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: upstream.announce}); err != nil {
				t.Fatal(err)
			}
			host.Wire.await(t, `read: .*"method":"`+upstream.notice+`"`)
			if err := session.Close(); err != nil {
				t.Errorf("the proxy ended with %v; stderr:\n%s", err, host.Stderr)
			}
			s.checkGate(t)
			checkStore(t, home)

			again := s.throughChain(t, home, "--browser", "/bin/false")
			wire := startHost(t, again, nil)
			session = wire.Session(t)
			callEcho(t, session)
			if err := session.Close(); err != nil {
				t.Errorf("the second proxy ended with %v", err)
			}
			if regexp.MustCompile(offered).MatchString(wire.Stderr.String()) {
				t.Errorf("the second start is not silent:\n%s", wire.Stderr)
			}
			if upstream.announce == "toggle-simulated-logging" {
				var got []string
				for _, step := range runTypeScriptHost(t, s.throughChain(t, home, "--no-browser")) {
					got = append(got, step.Step)
				}
				if want := []string{"initialize", "tools/list", "tools/call", "notification", "close"}; !slices.Equal(got, want) {
					t.Errorf("TypeScript SDK host: steps %q, want %q", got, want)
				}
			}
		})
	}
}

// TestLoginAndLogout signs in from the terminal, uses that, revokes it, and is asked again.
func TestLoginAndLogout(t *testing.T) {
	s := newSite(t, 2, startMCP)
	home := t.TempDir()
	login := func(args ...string) *process {
		return startProcess(t, s.command(t, home, append([]string{"login", "-F", s.config, "--via", s.last()}, append(args, s.gate.URL)...)...))
	}
	p := login("--browser", person{TrustsAll: true}.browserScript(t))
	if status := p.wait(t); status != statusDone {
		t.Fatalf("login: status %d", status)
	}
	p.Err.await(t, "signed in to https://mcp.internal/mcp")
	if out := p.Out.String(); out != "" {
		t.Errorf("login printed %q on stdout", out)
	}
	session := startHost(t, s.throughChain(t, home, "--no-browser"), nil).Session(t)
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	logout := startProcess(t, s.command(t, home, "logout", "-F", s.config, "--via", s.last(), s.gate.URL))
	if status := logout.wait(t); status != statusDone {
		t.Fatalf("logout: status %d", status)
	}
	s.oidc.Log.await(t, `POST /token/revocation 200`)
	if p := login("--no-browser", "--callback-timeout", "1s"); p.wait(t) != statusSignIn {
		t.Errorf("login after logout: status %d, want %d", p.wait(t), statusSignIn)
	}
}

// TestPredecessorsEnvironment is the drop-in: only variables of mcp-oauth2-proxy, no flag, no SSH.
func TestPredecessorsEnvironment(t *testing.T) {
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{TLS: ca})
	gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: startMCP(t, nil)})
	registered := oidc.RegisterNative(t, "http://127.0.0.1:53682/callback")
	for _, test := range []struct {
		name string
		env  []string
	}{
		{"client credentials", []string{"OAUTH2_GRANT=client_credentials", "OAUTH2_CLIENT_ID=" + machineID, "OAUTH2_CLIENT_SECRET=" + machineSecret, "OAUTH2_AUTH_STYLE=header"}},
		{"client credentials at a given endpoint", []string{
			"OAUTH2_GRANT=client_credentials", "OAUTH2_CLIENT_ID=" + machineID, "OAUTH2_CLIENT_SECRET=" + machineSecret, "OAUTH2_AUTH_STYLE=header",
			"DISCOVERY_ENABLED=false", "OAUTH2_TOKEN_URL=" + oidc.Issuer + "/token", "OAUTH2_RESOURCE=" + gate.URL, "OAUTH2_SCOPE=mcp",
		}},
		{"authorization code", []string{
			"OAUTH2_GRANT=authorization_code", "OAUTH2_CLIENT_ID=" + registered,
			"BROWSER=" + person{TrustsAll: true}.browserScript(t), // what its `open` package honours too
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := t.TempDir()
			cmd := exec.Command(buildSallyport(t))
			cmd.Env = append(test.env, "UPSTREAM_URL="+gate.URL, "HOME="+home, "PATH="+os.Getenv("PATH"), "SSL_CERT_FILE="+ca.File, "LOG_LEVEL=info")
			host := startHost(t, cmd, nil)
			session := host.Session(t)
			callEcho(t, session)
			if err := session.Close(); err != nil {
				t.Errorf("the proxy ended with %v", err)
			}
		})
	}
	t.Run("file", func(t *testing.T) {
		settings := fmt.Sprintf(`{"upstream": {"url": %q, "timeoutMs": 30000, "openServerStream": true},
			"oauth2": {"grant": "client_credentials", "clientId": %q, "clientSecret": "set by the variable", "authStyle": "header", "refreshSkewSeconds": 30},
			"log": {"level": "info"}}`, gate.URL, machineID)
		cmd := exec.Command(buildSallyport(t))
		cmd.Env = []string{"MCP_PROXY_CONFIG=" + writeFile(t, openDir(t), "proxy.json", settings, 0o600), "OAUTH2_CLIENT_SECRET=" + machineSecret, "HOME=" + t.TempDir(), "SSL_CERT_FILE=" + ca.File}
		session := startHost(t, cmd, nil).Session(t)
		callEcho(t, session)
		if err := session.Close(); err != nil {
			t.Errorf("the proxy ended with %v", err)
		}
	})
}

// TestCallbackVia has the proxy on a remote machine and the browser on a workstation that the remote
// machine reaches by SSH.
func TestCallbackVia(t *testing.T) {
	ada := newAccount(t)
	workstation := newNetns(t, "workstation")
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{TLS: ca})
	workstation.borrow(t, strings.TrimPrefix(oidc.Issuer, "https://"))
	gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: startMCP(t, nil)})
	desk := startSSHD(t, sshdOptions{NS: workstation, User: ada})
	config := writeSSHConfig(t, hop{Alias: "desk", SSHD: desk})

	s := &site{ca: ca, oidc: oidc, gate: gate, config: config}
	host := startHost(t, s.command(t, t.TempDir(), "-F", config, "--callback-via", "desk", gate.URL), nil)
	link := host.Stderr.await(t, offered)[1]
	host.Stderr.await(t, "hint: open it on desk")
	if !listens(t, workstation, 53682) {
		t.Error("nothing listens on the workstation while a login waits")
	}
	if listens(t, nil, 53682) {
		t.Error("the proxy listens on the remote machine")
	}
	screenshot := filepath.Join(openDir(t), "page.png")
	page := person{NS: workstation, TrustsAll: true, Screenshot: screenshot}.logsIn(t, link)
	checkSuccessPage(t, page, gate.URL)
	keepScreenshot(t, screenshot, "callback-via")
	session := host.Session(t)
	callEcho(t, session)
	if listens(t, workstation, 53682) {
		t.Error("the forward is still there after the login")
	}
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
}

// TestCallbackCommand has the proxy on a shared remote machine, and the browser on a workstation
// that reaches it by SSH: our own login, mcp-remote's, and a stranger's listener.
func TestCallbackCommand(t *testing.T) {
	ada, ben := newAccount(t), newAccount(t)
	workstation := newNetns(t, "workstation")
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{TLS: ca})
	workstation.borrow(t, strings.TrimPrefix(oidc.Issuer, "https://"))
	gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: startMCP(t, nil)})
	bastion, shared := startSSHD(t, sshdOptions{}), startSSHD(t, sshdOptions{User: ada})
	workstation.borrow(t, bastion.Addr)
	config := writeSSHConfig(t, hop{Alias: "bastion", SSHD: bastion}, hop{Alias: "shared", SSHD: shared})

	cmd := workstation.command(t, buildSallyport(t), "callback", "-F", config, "--port", "53682", "shared")
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LOG_LEVEL=info"}
	callback := startProcess(t, cmd)
	callback.Err.await(t, `http://127.0.0.1:53682 here now answers for shared`)
	chromium := person{NS: workstation, TrustsAll: true}

	t.Run("ours", func(t *testing.T) {
		proxy := ada.command(buildSallyport(t), gate.URL)
		proxy.Env = append(proxy.Env, "SALLYPORT_CA_FILE="+ca.File, "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22")
		host := startHost(t, proxy, nil)
		link := host.Stderr.await(t, offered)[1]
		host.Stderr.await(t, `sallyport callback --port 53682 `+ada.Name+`@`)
		checkSuccessPage(t, chromium.logsIn(t, link), gate.URL)
		session := host.Session(t)
		callEcho(t, session)
		if err := session.Close(); err != nil {
			t.Errorf("the proxy ended with %v", err)
		}
	})
	t.Run("mcp-remote", func(t *testing.T) {
		other := ada.command(nodePath(t), peerFile(t, "mcp-remote/dist/proxy.js"), gate.URL, "53682")
		other.Env = append(other.Env, "NODE_EXTRA_CA_CERTS="+ca.File, "MCP_REMOTE_CONFIG_DIR="+filepath.Join(ada.Home, "mcp-remote"))
		host := startHost(t, other, nil)
		link := host.Stderr.await(t, `(`+regexp.QuoteMeta(oidc.Issuer)+`/auth\S+)`)[1]
		page := chromium.logsIn(t, link)
		t.Logf("mcp-remote's page: %+v", page)
		callEcho(t, host.Session(t))
	})
	t.Run("a stranger's", func(t *testing.T) {
		stranger, _ := startRoleAs(t, ben, "catcher", catcherConfig{Listen: "127.0.0.1:53682"})
		body := get(t, workstation, "http://127.0.0.1:53682/callback?code=c0de&state=s")
		if !strings.Contains(body, "belongs to another user there (uid "+fmt.Sprint(ben.uid)+")") {
			t.Errorf("the browser saw %q", body)
		}
		callback.Err.await(t, `127.0.0.1:53682 belongs to another user there`)
		if caught := strings.TrimPrefix(stranger.Out.String(), "ready\n"); caught != "" {
			t.Errorf("the stranger was handed %q", caught)
		}
		stranger.stop()
	})
	t.Run("what is not a callback", func(t *testing.T) {
		own, _ := startRoleAs(t, ada, "catcher", catcherConfig{Listen: "127.0.0.1:53682"})
		for _, args := range [][]string{
			{"-X", "POST", "-d", "x=1", "http://127.0.0.1:53682/callback"},
			{"-H", "Host: evil.example:53682", "http://127.0.0.1:53682/callback"},
		} {
			if body := get(t, workstation, args...); strings.Contains(body, "caught") {
				t.Errorf("curl %q: carried: %q", args, body)
			}
		}
		if body := get(t, workstation, "-H", "Cookie: session=of-another-program", "http://127.0.0.1:53682/callback?code=mine"); !strings.Contains(body, "caught") {
			t.Errorf("a callback of our own was not carried: %q", body)
		}
		if got, want := strings.TrimPrefix(own.Out.String(), "ready\n"), "GET /callback?code=mine 127.0.0.1:53682 []\n"; got != want {
			t.Errorf("the listener saw %q, want %q", got, want)
		}
		own.stop()
	})
	t.Run("nobody's", func(t *testing.T) {
		if body := get(t, workstation, "http://127.0.0.1:53682/callback"); !strings.Contains(body, "nobody listens on 127.0.0.1:53682 there") {
			t.Errorf("the browser saw %q", body)
		}
	})
	t.Run("after the link broke", func(t *testing.T) {
		shared.Drop()
		bastion.Drop()
		own, _ := startRoleAs(t, ada, "catcher", catcherConfig{Listen: "127.0.0.1:53682"})
		if body := get(t, workstation, "http://127.0.0.1:53682/callback?code=mine"); !strings.Contains(body, "caught") {
			t.Errorf("the browser saw %q", body)
		}
		own.stop()
	})
	interrupt(t, callback)
	if status := callback.wait(t); status != statusInterrupted {
		t.Errorf("callback ended with status %d, want %d", status, statusInterrupted)
	}
}

// callEcho calls the tool that both servers have, with text that a careless proxy would change.
func callEcho(t testing.TB, session *mcp.ClientSession) {
	t.Helper()
	const message = "grüße 🚪 \u2028 </script> \\u0041"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: echoArguments{message}})
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := got.Content[0].(*mcp.TextContent); !ok || text.Text != "Echo: "+message {
		t.Errorf("echo: got %+v, want %q", got.Content[0], "Echo: "+message)
	}
}

// checkGate looks at what reached the gate: the real name, a session, and its end.
func (s *site) checkGate(t testing.TB) {
	t.Helper()
	var methods []string
	for _, r := range s.gate.Requests(t) {
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

// checkStore looks at what a login left: private files, and no token to be read in them.
func checkStore(t testing.TB, home string) {
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

// checkSuccessPage reads what the person sees at the end.
func checkSuccessPage(t testing.TB, page landing, upstream string) {
	t.Helper()
	u := strings.TrimPrefix(upstream, "https://")
	name, _, _ := strings.Cut(u, "/")
	if page.URL != "http://127.0.0.1:53682/callback" || !strings.Contains(strings.ToLower(page.Text), "signed in") || !strings.Contains(page.Text, name) {
		t.Errorf("the last page is %+v", page)
	}
}

// keepScreenshot copies a screenshot to the directory that SALLYPORT_SCREENSHOTS names, for a person to look at.
func keepScreenshot(t testing.TB, path, name string) {
	t.Helper()
	dir := os.Getenv("SALLYPORT_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, name+".png", string(png), 0o644)
}

// listens tells whether a socket listens on a port of 127.0.0.1, in ns where that is not nil.
func listens(t testing.TB, ns *netns, port int) bool {
	t.Helper()
	out, err := ns.command(t, "cat", "/proc/net/tcp", "/proc/net/tcp6").Output()
	if err != nil {
		t.Fatal(err)
	}
	return len(procnet.Accepting(string(out), port)) > 0
}

// get is curl inside ns; it returns the body.
func get(t testing.TB, ns *netns, args ...string) string {
	t.Helper()
	needProgram(t, "curl", "curl")
	cmd := ns.command(t, "curl", append([]string{"-s", "-S", "--noproxy", "*", "--max-time", "60"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("curl %q: %v: %s", args, err, out)
	}
	return string(out)
}

// startRoleAs is startRole under another account, which cannot enter the test binary's directory.
func startRoleAs(t testing.TB, as *account, role string, config any) (p *process, first string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := as.command(writeFile(t, openDir(t), "role", string(image), 0o755))
	cmd.Env = append(cmd.Env, roleVariable+"="+role, roleConfigVariable+"="+string(text))
	p = startProcess(t, cmd)
	return p, p.Out.await(t, `(?m)^(.*)\n`)[1]
}

// interrupt is Ctrl-C.
func interrupt(t testing.TB, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}

func init() { roles["catcher"] = playCatcher }

type catcherConfig struct{ Listen string }

// playCatcher prints every request that it is handed.
func playCatcher(text []byte) error {
	var config catcherConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL, r.Host, r.Header["Cookie"])
		fmt.Fprint(w, "caught")
	}))
}
