//go:build linux

package machines_test

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

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// These tests show that the machines are what the stories take them for. Sallyport takes no part in
// them.

// TestChainOfHops walks three real sshd hops with the real ssh to a gate that only the last can
// see, and works with the MCP server behind it.
func TestChainOfHops(t *testing.T) {
	t.Parallel()
	ns := machines.NewNamespace(t)
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{})
	for _, server := range []struct {
		name  string
		start func(testing.TB, *machines.Namespace) string
		tools []string
	}{
		{"server-everything", machines.StartEverything, []string{"echo", "toggle-simulated-logging"}},
		{"go-sdk", machines.StartMCP, []string{"echo", "grow", "wait"}},
	} {
		t.Run(server.name, func(t *testing.T) {
			gate := machines.StartGate(t, machines.GateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: server.start(t, ns)})
			config := machines.WriteSSHConfig(t,
				machines.Hop{Alias: "bastion1", SSHD: machines.StartSSHD(t, machines.SSHDOptions{})},
				machines.Hop{Alias: "bastion2", SSHD: machines.StartSSHD(t,
					machines.SSHDOptions{HostCA: machines.NewHostCA(t)})},
				machines.Hop{Alias: "inner", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns})},
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
			case <-time.After(machines.Patience):
				t.Error("no notification on the server's stream")
			}
			if requests := gate.Requests(t); len(requests) == 0 || requests[0].Host != "mcp.internal" {
				t.Errorf("the gate saw %+v, want requests to mcp.internal", requests)
			}
		})
	}
}

// TestHopThatFails shows what becomes of a connection through a hop that drops it, and that stops.
func TestHopThatFails(t *testing.T) {
	t.Parallel()
	machines.NeedProgram(t, "ssh", "openssh-client")
	server := machines.StartSSHD(t, machines.SSHDOptions{})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: server})
	fifo := filepath.Join(machines.OpenDir(t), "fifo") // a shell that opens it waits for a writer
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	p := machines.StartProcess(t, exec.Command("ssh", "-F", config, "bastion", "echo $$ up; read line <"+fifo))
	pid, _ := strconv.Atoi(p.Out.Await(t, `(\d+) up\n`)[1])
	server.Drop()
	if got := p.Wait(t); got != 255 {
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

// TestAccounts logs in from one account to another.
func TestAccounts(t *testing.T) {
	t.Parallel()
	machines.NeedProgram(t, "ssh", "openssh-client")
	ada, ben := machines.NewAccount(t), machines.NewAccount(t)
	server := machines.StartSSHD(t, machines.SSHDOptions{User: ben})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "remote", SSHD: server})
	ada.Own(t, server.IdentityFile)
	out, err := ada.Command("ssh", "-F", config, "remote", "id -un; pwd").CombinedOutput()
	if want := ben.Name + "\n" + ben.Home + "\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

// TestTwoMachines shows a remote account in a network of its own, whose login server is the
// one that this machine's browser sees too.
func TestTwoMachines(t *testing.T) {
	t.Parallel()
	machines.NeedProgram(t, "ssh", "openssh-client")
	ns, ben := machines.NewNamespace(t), machines.NewAccount(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{})
	ns.Borrow(t, oidc.Addr())
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "remote",
		SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns, User: ben})})

	fetch := `fetch("` + oidc.Issuer + `/.well-known/openid-configuration").then(r => r.json()).then(m => console.log(m.issuer))`
	out, err := exec.Command("ssh", "-F", config, "remote", machines.Node(t)+" -e '"+fetch+"'").CombinedOutput()
	if want := oidc.Issuer + "\n"; err != nil || string(out) != want {
		t.Errorf("on the remote machine: got %q, %v, want %q", out, err, want)
	}
	out, err = exec.Command("ssh", "-F", config, "remote", "id -un; ip -brief link").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), ben.Name+"\nlo ") || strings.Count(string(out), "\n") != 2 {
		t.Errorf("on the remote machine: got %q, %v, want the account and nothing but a loopback interface", out, err)
	}
}

// TestGate shows which tokens a gate takes.
func TestGate(t *testing.T) {
	t.Parallel()
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca})
	gate := machines.StartGate(t, machines.GateOptions{CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, nil)})
	forge := func(change func(*jwt.Claims)) string {
		claims := jwt.Claims{Issuer: oidc.Issuer, Audience: jwt.Audience{gate.URL},
			Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}
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
		{"of another server", machines.StartOIDC(t, machines.OIDCOptions{}).MachineToken(t, gate.URL), 401,
			`error="invalid_token"`},
		{"for another audience", oidc.MachineToken(t, "https://127.0.0.1/other"), 401, `error="invalid_token"`},
		{"expired", forge(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour)) }), 401,
			`error="invalid_token"`},
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

// TestPerson signs in with Chromium on the pages of oidc-provider.
func TestPerson(t *testing.T) {
	t.Parallel()
	// The authorization server registers the redirect URI without its port: RFC 8252, 7.3.
	callbacks := make(chan url.Values, 1)
	app := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			callbacks <- r.URL.Query()
			io.WriteString(w, "<title>Landed</title>You may close this page.")
		}
	}))
	oidc := machines.StartOIDC(t, machines.OIDCOptions{})
	clientID := oidc.RegisterNative(t, "http://127.0.0.1/callback")
	verifier := rand.Text() + rand.Text() // RFC 7636, 4.1: at least 43 characters
	digest := sha256.Sum256([]byte(verifier))
	authorize := oidc.Issuer + "/auth?" + url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {app + "/callback"}, "state": {"s1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(digest[:])}, "code_challenge_method": {"S256"},
		"resource": {"https://mcp.internal/mcp"}, "scope": {"mcp"},
	}.Encode()

	for _, tt := range []struct {
		name   string
		person machines.Person
		want   string // a parameter of the callback
	}{
		{"agrees", machines.Person{}, "code"},
		{"denies", machines.Person{Denies: true}, "error"},
		{"from another account", machines.Person{As: machines.NewAccount(t)}, "code"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := machines.Page{URL: app + "/callback", Title: "Landed", Text: "You may close this page."}
			if page := tt.person.LogsIn(t, authorize); page != want {
				t.Errorf("the last page is %+v, want %+v", page, want)
			}
			if got := <-callbacks; got.Get(tt.want) == "" || got.Get("state") != "s1" || got.Get("iss") != oidc.Issuer {
				t.Errorf("the callback has %v, want %s, the state and the issuer", got, tt.want)
			}
		})
	}
	t.Run("as a browser command", func(t *testing.T) {
		p := machines.StartProcess(t, exec.Command(machines.Person{}.BrowserScript(t), authorize))
		if status := p.Wait(t); status != 0 {
			t.Fatalf("status %d: %s", status, p.Err)
		}
		var answer struct {
			AccessToken  string `json:"access_token"`
			RefreshToken string `json:"refresh_token"`
		}
		oidc.Token(t, url.Values{
			"grant_type": {"authorization_code"}, "code": {(<-callbacks).Get("code")}, "code_verifier": {verifier},
			"client_id":    {clientID},
			"redirect_uri": {app + "/callback"}, "resource": {"https://mcp.internal/mcp"},
		}, &answer)
		if strings.Count(answer.AccessToken, ".") != 2 || answer.RefreshToken == "" {
			t.Errorf("got %+v, want a JWT and a refresh token", answer)
		}
	})
}

// TestHosts drives server-everything on stdio with both hosts.
func TestHosts(t *testing.T) {
	t.Parallel()
	command := func(t *testing.T) *exec.Cmd {
		return exec.Command(machines.Node(t), machines.PeerFile(t,
			"@modelcontextprotocol/server-everything/dist/index.js"), "stdio")
	}
	t.Run("TypeScript SDK", func(t *testing.T) {
		got := machines.RunTypeScriptHost(t, command(t))
		if want := []string{"initialize", "tools/list", "tools/call", "notification", "close"}; !slices.Equal(got, want) {
			t.Errorf("steps: got %q, want %q", got, want)
		}
	})
	t.Run("Go SDK", func(t *testing.T) {
		host := machines.StartHost(t, command(t), nil)
		host.Echo(t)
		if !strings.Contains(host.Stderr.String(), "STDIO") || !strings.Contains(host.Wire.String(), `"method":"tools/call"`) {
			t.Errorf("stderr %q, wire %q", host.Stderr, host.Wire)
		}
	})
}

// throughSSH returns an HTTP client that reaches everything by `ssh -W` from the last hop, and
// shows token as a bearer.
func throughSSH(t *testing.T, config, alias string, ca *machines.Authority, token string) *http.Client {
	t.Helper()
	machines.NeedProgram(t, "ssh", "openssh-client")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool},
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			cmd := exec.Command("ssh", "-F", config, "-W", addr, alias)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, t.Output()
			machines.OwnGroup(cmd)
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
