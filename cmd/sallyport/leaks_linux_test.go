package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/oauth2"

	"sallyport/oauth/oauthtest"
)

// vault is an upstream and its login server, which knows every secret that it made or was shown, and
// all that the runs of sallyport against them left where others may read it.
type vault struct {
	t        *testing.T
	as       *oauthtest.Server
	upstream string
	home     string // files there are searched too
	children string // file that children write their arguments and environment to
	browser  string // a child that signs in

	mu      sync.Mutex
	secrets map[string]string // by what they are
	found   map[string]string // text by where it stood
}

func newVault(t *testing.T) *vault {
	t.Helper()
	needProgram(t, "curl", "curl")
	v := &vault{t: t, home: t.TempDir(), secrets: map[string]string{}, found: map[string]string{}}
	asServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state := r.FormValue("state"); state != "" {
			v.secret("a state", state)
		}
		v.as.ServeHTTP(w, r)
	}))
	t.Cleanup(asServer.Close)
	backend, err := url.Parse(startMCP(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: backend.Host}) }}
	var guard http.Handler
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { guard.ServeHTTP(w, r) }))
	t.Cleanup(upstream.Close)
	v.upstream = upstream.URL + backend.Path
	v.as = oauthtest.New(asServer.URL, v.upstream)
	guard = v.as.Guard(proxy)

	v.children = filepath.Join(openDir(t), "children")
	v.browser = v.child("browser", `exec curl -s -L --noproxy '*' -o /dev/null "$1"`)
	return v
}

// child writes a program that tells how it was started, and then does what the rest of its text says.
func (v *vault) child(name, rest string) string {
	return writeFile(v.t, openDir(v.t), name, "#!/bin/sh\n"+
		`{ echo "`+name+` started"; tr '\0' '\n' </proc/$$/cmdline; tr '\0' '\n' </proc/$$/environ; } >>`+v.children+"\n"+rest+"\n", 0o755)
}

func (v *vault) secret(what, value string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets[value] = what
	return value
}

// keep takes a text that is to be searched at the end.
func (v *vault) keep(where, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found[v.t.Name()+": "+where] += text
}

// command is sallyport at its most verbose. It is to be run by run or host.
func (v *vault) command(env []string, args ...string) *exec.Cmd {
	v.t.Helper()
	cmd := exec.Command(buildSallyport(v.t), append(args, v.upstream)...)
	v.settle(cmd, env)
	return cmd
}

func (v *vault) settle(cmd *exec.Cmd, env []string) {
	cmd.Env = append([]string{"HOME=" + v.home, "PATH=" + os.Getenv("PATH"), "LOG_LEVEL=trace", "SALLYPORT_LOG_FILE=" + filepath.Join(v.home, "log")}, env...)
}

// printedLink is an authorize URL, the one place on stderr where a state may stand.
var printedLink = regexp.MustCompile(`\n  http\S+/authorize\?\S+\n`)

func (v *vault) keepStderr(text string) { v.keep("stderr", printedLink.ReplaceAllString(text, "\n")) }

// run runs a command to its end and returns its status. input stays open.
func (v *vault) run(name, input string, cmd *exec.Cmd) (status int) {
	v.t.Helper()
	stdin, host, err := os.Pipe()
	if err != nil {
		v.t.Fatal(err)
	}
	defer host.Close()
	cmd.Stdin = stdin
	p := startProcess(v.t, cmd)
	stdin.Close()
	v.keepArguments(name, p.cmd)
	io.WriteString(host, input)
	status = p.wait(v.t)
	v.keepStderr(p.Err.String())
	v.keep(name+": stdout", p.Out.String())
	return status
}

func (v *vault) keepArguments(name string, cmd *exec.Cmd) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err != nil {
		v.t.Fatal(err)
	}
	v.keep(name+": arguments", string(text))
}

// session carries an MCP session that works.
func (v *vault) session(t *testing.T, name string, cmd *exec.Cmd) {
	t.Helper()
	host := startHost(t, cmd, nil)
	session := host.Session(t)
	callEcho(t, session)
	v.keepArguments(name, cmd)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	v.keepStderr(host.Stderr.String())
	v.keep(name+": to the host", host.Wire.String())
}

// signInAtTheHost is a session whose host shows the link, by the sign-in tool and by elicitation.
func (v *vault) signInAtTheHost(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	links, changes := make(chan string, 1), make(chan struct{}, 1)
	host := startHost(t, cmd, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			links <- req.Params.URL
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {
			select {
			case changes <- struct{}{}:
			default:
			}
		},
	})
	session := host.Session(t)
	asked := make(chan string, 1)
	go func() { asked <- callTool(t, session, "sallyport_sign_in") }() // ends with the sign-in
	link := receive(t, links, "elicitation")
	host.Wire.await(t, `"name":"sallyport_sign_in"`)
	get(t, nil, "-L", link)
	if text := receive(t, asked, "answer of the sign-in tool"); !strings.Contains(text, "is connected") {
		t.Errorf("the sign-in tool says %q", text)
	}
	receive(t, changes, "change of the tools")
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	v.keepStderr(host.Stderr.String())
	v.keep("to the host", host.Wire.String())
}

// grantByHand authorizes a client as a browser and returns its code and verifier.
func (v *vault) grantByHand(client, redirect string) (code, verifier string) {
	v.t.Helper()
	verifier = v.secret("a verifier", oauth2.GenerateVerifier())
	q := url.Values{"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirect}, "state": {"by-hand"}, "resource": {v.upstream},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"}}
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.as.Issuer+"/authorize?"+q.Encode(), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		v.t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		v.t.Fatal(err)
	}
	return back.Query().Get("code"), verifier
}

// refreshByHand spends such a code for a refresh token.
func (v *vault) refreshByHand(client, redirect string) string {
	v.t.Helper()
	code, verifier := v.grantByHand(client, redirect)
	resp, err := http.PostForm(v.as.Issuer+"/token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier},
		"redirect_uri": {redirect}, "client_id": {client}, "resource": {v.upstream}})
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Refresh == "" {
		v.t.Fatalf("no refresh token: %v", err)
	}
	return answer.Refresh
}

// search looks for every secret in every place.
func (v *vault) search() {
	v.t.Helper()
	for _, s := range v.as.Secrets() {
		if s != "" {
			v.secret("the login server's", s)
		}
	}
	err := filepath.WalkDir(v.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		v.keep(path, string(text))
		return err
	})
	if err != nil {
		v.t.Error(err)
	}
	text, err := os.ReadFile(v.children)
	if err != nil {
		v.t.Error(err)
	}
	v.keep("children", string(text))
	for secret, what := range v.secrets {
		// Also as it stands in a URL or a form.
		forms := slices.Compact([]string{secret, url.QueryEscape(secret), url.PathEscape(secret)})
		for where, text := range v.found {
			for _, form := range forms {
				if i := strings.Index(text, form); i >= 0 {
					v.t.Errorf("%s %q stands in %s: ...%.300q", what, form, where, text[max(0, i-150):])
				}
			}
		}
	}
}

// TestNoSecretLeaks runs every flow at the most verbose level and looks for every token, code, verifier,
// secret and state on stderr, in the log, in what the host is sent, and in the arguments and
// environments of all that is started.
func TestNoSecretLeaks(t *testing.T) {
	v := newVault(t)
	const redirect = "http://127.0.0.1:9/callback"
	for _, c := range []oauthtest.Client{
		{ID: "machine", Secret: v.secret("the client secret", "cl1ent secret+/%")}, {ID: "given", Method: "none", RedirectURIs: []string{redirect}},
	} {
		v.as.AddClient(c)
	}
	freePort := []string{"--callback-port", "0"}
	signsIn := append(freePort, "--browser", v.browser)

	t.Run("through SSH, with every kind of child", func(t *testing.T) {
		server := startSSHD(t, sshdOptions{})
		key, err := os.ReadFile(server.IdentityFile)
		if err != nil {
			t.Fatal(err)
		}
		locked := writeFile(t, openDir(t), "locked", string(key), 0o600)
		passphrase := v.secret("a passphrase", "open-s3same")
		if out, err := exec.Command("ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", locked).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		dial := fmt.Sprintf(`exec env %s=dial %s='"%s"' %s`, roleVariable, roleConfigVariable, server.Addr, self)
		config := writeSSHConfig(t, hop{Alias: "bastion", SSHD: server, Config: []string{
			"ProxyCommand " + v.child("proxycommand", dial),
			"KnownHostsCommand " + v.child("knownhosts", ":"),
			"IdentityFile " + locked,
		}})
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		matching := "Match exec " + v.child("matchexec", ":") + "\n  ServerAliveInterval 30\n" + string(text)
		config = writeFile(t, openDir(t), "config", matching, 0o600)
		env := []string{"TEST_API_KEY=" + v.secret("a header", "k3y-of-a-header"), "SALLYPORT_HEADER=X-Password: " + v.secret("a header", "passw0rd-of-a-header"),
			"SSH_ASKPASS=" + v.child("askpass", "echo "+passphrase), "SSH_ASKPASS_REQUIRE=force"}
		args := append(signsIn, "-F", config, "--via", "bastion", "--header", "X-Api-Key: ${TEST_API_KEY}")
		v.session(t, "code", v.command(env, args...))
		v.as.RevokeAccess()
		v.session(t, "refresh", v.command(env, args...))
	})
	t.Run("login and logout", func(t *testing.T) {
		if status := v.run("login", "", v.command(nil, append([]string{"login"}, signsIn...)...)); status != statusDone {
			t.Errorf("login: status %d", status)
		}
		if status := v.run("logout", "", v.command(nil, "logout")); status != statusDone {
			t.Errorf("logout: status %d", status)
		}
	})
	t.Run("client credentials", func(t *testing.T) {
		v.session(t, "client credentials", v.command([]string{"OAUTH2_CLIENT_SECRET=cl1ent secret+/%"}, "--grant", "client_credentials", "--client-id", "machine"))
	})
	t.Run("DPoP", func(t *testing.T) {
		v.as.Set(func(k *oauthtest.Knobs) { k.DPoP = true })
		defer v.as.Set(func(k *oauthtest.Knobs) { k.DPoP = false })
		v.session(t, "code with DPoP", v.command(nil, append(signsIn, "--profile", "bound")...))
	})
	t.Run("device", func(t *testing.T) {
		v.session(t, "device", v.command(nil, "--grant", "device_code", "--no-browser", "--profile", "device"))
	})
	t.Run("JWT", func(t *testing.T) {
		const assertion = "a-jwt.of-a.workload"
		v.as.AddAssertion(assertion)
		file := writeFile(t, openDir(t), "assertion", assertion+"\n", 0o600)
		v.session(t, "JWT", v.command(nil, "--grant", "jwt_bearer", "--client-id", "machine", "--client-secret-file",
			writeFile(t, openDir(t), "secret", "cl1ent secret+/%\n", 0o600), "--assertion-file", file))
	})
	t.Run("private key", func(t *testing.T) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		text := pemText("PRIVATE KEY", der)
		v.secret("a private key", strings.Split(text, "\n")[1])
		v.as.AddClient(oauthtest.Client{ID: "robot", Key: &jose.JSONWebKey{Key: private.Public()}})
		v.session(t, "private key", v.command(nil, "--grant", "client_credentials", "--client-id", "robot", "--client-key", writeFile(t, openDir(t), "key", text, 0o600)))
	})
	t.Run("enterprise", func(t *testing.T) {
		var idp *oauthtest.Server
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { idp.ServeHTTP(w, r) }))
		defer server.Close()
		idp = oauthtest.New(server.URL, v.upstream)
		idp.Takes = v.as // whose secret the assertion is from then on
		const idToken = "an-id.token-of.ada"
		idp.AddAssertion(v.secret("an ID token", idToken))
		args := []string{"--grant", "enterprise_managed", "--idp-issuer", idp.Issuer, "--idp-client-id", "us", "--client-id", "machine", "--client-secret-file",
			writeFile(t, openDir(t), "secret", "cl1ent secret+/%\n", 0o600), "--id-token-file", writeFile(t, openDir(t), "token", idToken+"\n", 0o600)}
		v.session(t, "enterprise", v.command(nil, args...))
		idp.ForgetAssertions()
		if status := v.run("enterprise, refused", initializeLine, v.command(nil, args...)); status != statusSignIn {
			t.Errorf("an ID token that is refused: status %d", status)
		}
	})
	t.Run("sign-in tool and elicitation", func(t *testing.T) {
		for _, pushed := range []bool{false, true} {
			v.as.Set(func(k *oauthtest.Knobs) { k.RequirePush = pushed })
			v.signInAtTheHost(t, v.command(nil, append(freePort, "--no-browser", "--token-store", "memory")...))
		}
		v.as.Set(func(k *oauthtest.Knobs) { k.RequirePush = false })
	})
	t.Run("pushed request", func(t *testing.T) {
		v.as.Set(func(k *oauthtest.Knobs) { k.RequirePush = true })
		defer v.as.Set(func(k *oauthtest.Knobs) { k.RequirePush = false })
		v.session(t, "pushed request", v.command(nil, append(signsIn, "--profile", "pushed")...))
	})
	t.Run("given once", func(t *testing.T) {
		code, verifier := v.grantByHand("given", redirect)
		given := []string{"OAUTH2_CLIENT_ID=given", "OAUTH2_INTERACTIVE=false", "OAUTH2_REDIRECT_URI=" + redirect}
		v.session(t, "given code", v.command(append(given, "OAUTH2_AUTHORIZATION_CODE="+code, "OAUTH2_CODE_VERIFIER="+verifier), "--profile", "code"))
		v.session(t, "given refresh token", v.command(append(given, "OAUTH2_REFRESH_TOKEN="+v.refreshByHand("given", redirect)), "--profile", "refresh"))
		if status := v.run("spent code", "", v.command(append(given, "OAUTH2_AUTHORIZATION_CODE="+code, "OAUTH2_CODE_VERIFIER="+verifier), "login", "--profile", "again")); status != statusSignIn {
			t.Errorf("a spent code: status %d", status)
		}
	})
	t.Run("failures", func(t *testing.T) {
		// The server echoes what it was sent wherever it can.
		for name, knobs := range map[string]oauthtest.Knobs{
			"denied": {Deny: "access_denied"}, "code refused": {TokenError: "invalid_grant"}, "token refused": {RefuseTokens: true},
			"another issuer": {WrongIss: "https://evil.example"}, "another's metadata": {WrongIssuer: "https://evil.example"},
			"pushed, denied": {RequirePush: true, Deny: "access_denied"}, "push refused": {RequirePush: true, PushError: "invalid_request"},
		} {
			v.as.Set(func(k *oauthtest.Knobs) { *k = knobs })
			for _, command := range []string{"login", "proxy"} {
				args := append([]string{command, "--token-store", "memory"}, signsIn...)
				if status := v.run(name+", "+command, initializeLine, v.command(nil, args...)); status != statusSignIn {
					t.Errorf("%s, %s: status %d, want %d", name, command, status, statusSignIn)
				}
			}
		}
		v.as.Set(func(k *oauthtest.Knobs) { *k = oauthtest.Knobs{} })
	})
	t.Run("a login that waits", func(t *testing.T) {
		cmd := v.command(nil, append(freePort, "--token-store", "memory", "--no-browser", "--timeout", "1s")...)
		p, host := startWithInput(t, cmd)
		io.WriteString(host, initializeLine)
		link, err := url.Parse(p.Err.await(t, offered)[1])
		if err != nil {
			t.Fatal(err)
		}
		v.secret("a state", link.Query().Get("state"))
		p.Out.await(t, "\n")
		host.Close()
		p.wait(t)
		v.keepStderr(p.Err.String())
		v.keep("stdout", p.Out.String())
	})
	t.Run("callback command", func(t *testing.T) {
		remote, workstation := newNetns(t), newNetns(t, "workstation")
		server := startSSHD(t, sshdOptions{NS: remote})
		for _, origin := range []string{v.as.Issuer, v.upstream} {
			u, err := url.Parse(origin)
			if err != nil {
				t.Fatal(err)
			}
			remote.borrow(t, u.Host)
			workstation.borrow(t, u.Host)
		}
		workstation.borrow(t, server.Addr)
		carry := workstation.command(t, buildSallyport(t), "callback", "-F", writeSSHConfig(t, hop{Alias: "remote", SSHD: server}), "remote")
		v.settle(carry, nil)
		callback := startProcess(t, carry)
		callback.Err.await(t, "here now answers for remote")
		proxy := remote.command(t, buildSallyport(t), "login", "--no-browser", "--token-store", "memory", v.upstream)
		v.settle(proxy, nil)
		p := startProcess(t, proxy)
		get(t, workstation, "-L", p.Err.await(t, offered)[1])
		if status := p.wait(t); status != statusDone {
			t.Errorf("login: status %d", status)
		}
		interrupt(t, callback)
		callback.wait(t)
		v.keepStderr(p.Err.String())
		v.keep("callback: stderr", callback.Err.String())
	})

	v.search()
	children, err := os.ReadFile(v.children)
	for _, name := range []string{"browser", "proxycommand", "knownhosts", "matchexec", "askpass"} {
		if !bytes.Contains(children, []byte(name+" started\n")) || err != nil {
			t.Errorf("%s was never started (%v)", name, err)
		}
	}
	if len(v.secrets) < 40 {
		t.Errorf("only %d secrets were used", len(v.secrets))
	}
}

func init() { roles["dial"] = playDial }

// playDial is a ProxyCommand: stdin and stdout are those of a TCP connection.
func playDial(config []byte) error {
	var addr string
	if err := json.Unmarshal(config, &addr); err != nil {
		return err
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	go io.Copy(conn, os.Stdin) // ends with the process
	_, err = io.Copy(os.Stdout, conn)
	return err
}
