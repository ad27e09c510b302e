package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// These tests show that the parts of the other tests are what they are taken for, without sallyport.

// TestPartsChain walks three real sshd hops with the real ssh to a gate that only the last can see,
// and works with the MCP server behind it.
func TestPartsChain(t *testing.T) {
	ns := newNetns(t)
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{})
	for _, server := range []struct {
		name  string
		start func(testing.TB, *netns) string
		tools []string
	}{
		{"server-everything", startEverything, []string{"echo", "toggle-simulated-logging"}},
		{"go-sdk", startMCP, []string{"echo", "grow", "wait"}},
	} {
		t.Run(server.name, func(t *testing.T) {
			gate := startGate(t, gateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: server.start(t, ns)})
			config := writeSSHConfig(t,
				hop{Alias: "bastion1", SSHD: startSSHD(t, sshdOptions{})},
				hop{Alias: "bastion2", SSHD: startSSHD(t, sshdOptions{HostCA: newHostCA(t)})},
				hop{Alias: "inner", SSHD: startSSHD(t, sshdOptions{NS: ns})},
			)
			client := throughSSH(t, config, "inner", ca, oidc.MachineToken(t, gate.URL))

			notified := make(chan struct{}, 100)
			options := &mcp.ClientOptions{ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { notified <- struct{}{} }}
			session, err := mcp.NewClient(&mcp.Implementation{Name: "test"}, options).
				Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: gate.URL, HTTPClient: client}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			list, err := session.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tool := range list.Tools {
				got = append(got, tool.Name)
			}
			for _, want := range server.tools {
				if !slices.Contains(got, want) {
					t.Errorf("tools: got %q, want %q among them", got, want)
				}
			}
			if server.name == "go-sdk" {
				if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "grow"}); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-notified: // server-everything notifies by itself
			case <-time.After(patience):
				t.Error("no notification on the server's stream")
			}
			if requests := gate.Requests(t); len(requests) == 0 || requests[0].Host != "mcp.internal" {
				t.Errorf("the gate saw %+v, want requests to mcp.internal", requests)
			}
		})
	}
}

// TestPartsHop shows what becomes of a connection through a hop that drops it, and that stops.
func TestPartsHop(t *testing.T) {
	needProgram(t, "ssh", "openssh-client")
	server := startSSHD(t, sshdOptions{})
	config := writeSSHConfig(t, hop{Alias: "bastion", SSHD: server})
	fifo := filepath.Join(openDir(t), "fifo") // a shell that opens it waits for a writer
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, exec.Command("ssh", "-F", config, "bastion", "echo $$ up; read line <"+fifo))
	pid, _ := strconv.Atoi(p.Out.await(t, `(\d+) up\n`)[1])
	server.Drop()
	if got := p.wait(t); got != 255 {
		t.Errorf("ssh through a hop that dropped it: status %d, want 255", got)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the session's command after its connection was dropped: %v, want it to run on", err)
	}
	server.Stop()
	// Its parent is gone too, so that it may stay as a zombie until somebody reaps it.
	if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(state), ") Z ") {
		t.Errorf("the session's command runs on after its server was stopped: %s", state)
	}
	out, err := exec.Command("ssh", "-F", config, "bastion", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Connection refused") {
		t.Errorf("ssh to a hop that stopped: %v, %q, want a refused connection", err, out)
	}
}

// TestPartsAccounts logs in from one account to another.
func TestPartsAccounts(t *testing.T) {
	needProgram(t, "ssh", "openssh-client")
	ada, ben := newAccount(t), newAccount(t)
	server := startSSHD(t, sshdOptions{User: ben})
	config := writeSSHConfig(t, hop{Alias: "remote", SSHD: server})
	ada.own(t, server.IdentityFile)
	out, err := ada.command("ssh", "-F", config, "remote", "id -un; pwd").CombinedOutput()
	if want := ben.Name + "\n" + ben.Home + "\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

// TestPartsTwoMachines shows a remote account in a network of its own, whose login server is the
// one that this machine's browser sees too.
func TestPartsTwoMachines(t *testing.T) {
	needProgram(t, "ssh", "openssh-client")
	ns, ben := newNetns(t), newAccount(t)
	oidc := startOIDC(t, oidcOptions{})
	ns.borrow(t, strings.TrimPrefix(oidc.Issuer, "http://"))
	config := writeSSHConfig(t, hop{Alias: "remote", SSHD: startSSHD(t, sshdOptions{NS: ns, User: ben})})

	fetch := `fetch("` + oidc.Issuer + `/.well-known/openid-configuration").then(r => r.json()).then(m => console.log(m.issuer))`
	out, err := exec.Command("ssh", "-F", config, "remote", nodePath(t)+" -e '"+fetch+"'").CombinedOutput()
	if want := oidc.Issuer + "\n"; err != nil || string(out) != want {
		t.Errorf("on the remote machine: got %q, %v, want %q", out, err, want)
	}
	out, err = exec.Command("ssh", "-F", config, "remote", "id -un; ip -brief link").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), ben.Name+"\nlo ") || strings.Count(string(out), "\n") != 2 {
		t.Errorf("on the remote machine: got %q, %v, want the account and nothing but a loopback interface", out, err)
	}
}

// TestPartsGate shows which tokens a gate takes.
func TestPartsGate(t *testing.T) {
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{TLS: ca})
	gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: startMCP(t, nil)})
	forge := func(change func(*jwt.Claims)) string {
		claims := jwt.Claims{Issuer: oidc.Issuer, Audience: jwt.Audience{gate.URL}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}
		change(&claims)
		return oidc.Forge(t, claims)
	}
	for _, tt := range []struct {
		name, token string
		want        int
		challenge   string // in WWW-Authenticate
	}{
		{"none", "", 401, `Bearer resource_metadata="`},
		{"garbage", "garbage", 401, `error="invalid_token"`},
		{"of another server", startOIDC(t, oidcOptions{}).MachineToken(t, gate.URL), 401, `error="invalid_token"`},
		{"for another audience", oidc.MachineToken(t, "https://127.0.0.1/other"), 401, `error="invalid_token"`},
		{"expired", forge(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour)) }), 401, `error="invalid_token"`},
		{"without expiry", forge(func(c *jwt.Claims) { c.Expiry = nil }), 401, `error="invalid_token"`},
		{"forged well", forge(func(*jwt.Claims) {}), 200, ""},
		{"of client credentials", oidc.MachineToken(t, gate.URL), 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
			req, err := http.NewRequestWithContext(t.Context(), "POST", gate.URL, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Accept", "application/json, text/event-stream")
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			resp, err := ca.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.want || !strings.Contains(got, tt.challenge) {
				t.Errorf("got %d, challenge %q, want %d, %q", resp.StatusCode, got, tt.want, tt.challenge)
			}
		})
	}
}

// TestPartsBrowser signs in with Chromium on the pages of oidc-provider.
func TestPartsBrowser(t *testing.T) {
	// The authorization server registers the redirect URI without its port: RFC 8252, 7.3.
	callbacks := make(chan url.Values, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			callbacks <- r.URL.Query()
			io.WriteString(w, "<title>Landed</title>You may close this page.")
		}
	}))
	defer app.Close()
	oidc := startOIDC(t, oidcOptions{})
	clientID := oidc.RegisterNative(t, "http://127.0.0.1/callback")
	verifier := rand.Text() + rand.Text() // RFC 7636, 4.1: at least 43 characters
	digest := sha256.Sum256([]byte(verifier))
	authorize := oidc.Issuer + "/auth?" + url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {app.URL + "/callback"}, "state": {"s1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(digest[:])}, "code_challenge_method": {"S256"},
		"resource": {"https://mcp.internal/mcp"}, "scope": {"mcp"},
	}.Encode()

	for _, tt := range []struct {
		name   string
		logsIn func(t *testing.T) landing
		want   string // a parameter of the callback
	}{
		{"agrees", func(t *testing.T) landing { return personLogsIn(t, authorize) }, "code"},
		{"denies", func(t *testing.T) landing { return person{Denies: true}.logsIn(t, authorize) }, "error"},
		{"from another account", func(t *testing.T) landing { return person{As: newAccount(t)}.logsIn(t, authorize) }, "code"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			page := tt.logsIn(t)
			want := landing{URL: app.URL + "/callback", Title: "Landed", Text: "You may close this page."}
			if page != want {
				t.Errorf("the last page is %+v, want %+v", page, want)
			}
			if got := <-callbacks; got.Get(tt.want) == "" || got.Get("state") != "s1" || got.Get("iss") != oidc.Issuer {
				t.Errorf("the callback has %v, want %s, the state and the issuer", got, tt.want)
			}
		})
	}
	t.Run("as a browser command", func(t *testing.T) {
		p := startProcess(t, exec.Command(person{}.browserScript(t), authorize))
		if status := p.wait(t); status != 0 {
			t.Fatalf("status %d: %s", status, p.Err)
		}
		code := (<-callbacks).Get("code")
		var answer struct {
			AccessToken  string `json:"access_token"`
			RefreshToken string `json:"refresh_token"`
		}
		form := url.Values{
			"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "client_id": {clientID},
			"redirect_uri": {app.URL + "/callback"}, "resource": {"https://mcp.internal/mcp"},
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", oidc.Issuer+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		oidc.do(t, req, &answer)
		if strings.Count(answer.AccessToken, ".") != 2 || answer.RefreshToken == "" {
			t.Errorf("got %+v, want a JWT and a refresh token", answer)
		}
	})
}

// TestPartsHosts drives server-everything on stdio with both hosts.
func TestPartsHosts(t *testing.T) {
	command := func(t *testing.T) *exec.Cmd {
		return exec.Command(nodePath(t), peerFile(t, "@modelcontextprotocol/server-everything/dist/index.js"), "stdio")
	}
	t.Run("TypeScript SDK", func(t *testing.T) {
		var got []string
		for _, step := range runTypeScriptHost(t, command(t)) {
			got = append(got, step.Step)
		}
		if want := []string{"initialize", "tools/list", "tools/call", "notification", "close"}; !slices.Equal(got, want) {
			t.Errorf("steps: got %q, want %q", got, want)
		}
	})
	t.Run("Go SDK", func(t *testing.T) {
		host := startHost(t, command(t), nil)
		session := host.Session(t)
		got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: echoArguments{"hi"}})
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := got.Content[0].(*mcp.TextContent); !ok || text.Text != "Echo: hi" {
			t.Errorf("echo: got %+v, want %q", got.Content[0], "Echo: hi")
		}
		if !strings.Contains(host.Stderr.String(), "STDIO") || !strings.Contains(host.Wire.String(), `"method":"tools/call"`) {
			t.Errorf("stderr %q, wire %q", host.Stderr, host.Wire)
		}
	})
}

// throughSSH returns an HTTP client that reaches everything by `ssh -W` from the last hop, and
// shows token as a bearer.
func throughSSH(t *testing.T, config, alias string, ca *authority, token string) *http.Client {
	t.Helper()
	needProgram(t, "ssh", "openssh-client")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool},
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			cmd := exec.Command("ssh", "-F", config, "-W", addr, alias)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, t.Output()
			ownGroup(cmd)
			if err := cmd.Start(); err != nil {
				return nil, err
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				cmd.Wait()
				theirs.Close()
			}()
			t.Cleanup(func() {
				ours.Close()
				<-ended
			})
			return ours, nil
		},
	}
	return &http.Client{Transport: bearer{transport, token}}
}

// bearer adds a token to each request.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(req)
}
