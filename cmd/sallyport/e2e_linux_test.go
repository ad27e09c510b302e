package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
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

// offered is the link on stderr.
const offered = `open this link:\n  (\S+)\n`

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
		announce string // the tool that makes the server send a notification; "" it does so by itself
	}{
		{"server-everything", startEverything, "toggle-simulated-logging"},
		{"go-sdk", startMCP, "grow"},
	} {
		t.Run(upstream.name, func(t *testing.T) {
			s := newSite(t, 3, upstream.start)
			home := t.TempDir()
			chromium := person{TrustsAll: true}.browserScript(t)

			notified := make(chan string, 100)
			note := func(what string) {
				select {
				case notified <- what:
				default: // a later one does as well
				}
			}
			host := startHost(t, s.throughChain(t, home, "--browser", chromium), &mcp.ClientOptions{
				ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { note("tools") },
				LoggingMessageHandler:  func(context.Context, *mcp.LoggingMessageRequest) { note("log") },
			})
			link := host.Stderr.await(t, offered)[1]
			if !strings.HasPrefix(link, s.oidc.Issuer+"/") || !strings.Contains(link, "resource=https%3A%2F%2Fmcp.internal%2Fmcp") || !strings.Contains(link, "code_challenge_method=S256") {
				t.Errorf("the link is %s", link)
			}
			session := host.Session(t)
			list, err := session.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(list.Tools, func(tool *mcp.Tool) bool { return tool.Name == "echo" }) {
				t.Errorf("tools %v lack echo", list.Tools)
			}
			callEcho(t, session)
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: upstream.announce}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-notified:
			case <-time.After(patience):
				t.Error("no notification from the server")
			}
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
