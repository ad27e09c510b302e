//go:build linux

// The stories of people who sign in: at a terminal, with the settings of the program that they used
// before, on a full disk, behind a proxy, with a browser and without. Real: oidc-provider,
// Chromium, sshd. Where the authorization server has to misbehave, it is oauthtest's, and curl is
// the browser.
package login_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// A person signs in at the terminal, uses that, signs out, and is asked again.
func TestLoginAndLogout(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 2, machines.StartMCP)
	home := t.TempDir()
	run := func(command string, args ...string) *machines.Process {
		return machines.StartProcess(t, s.Command(t, home, append(append([]string{command}, args...), s.Via()...)...))
	}
	login := run("login", "--callback-port", "0", "--browser", machines.Person{TrustsAll: true}.BrowserScript(t))
	if status := login.Wait(t); status != machines.StatusDone {
		t.Fatalf("login: status %d", status)
	}
	login.Err.Await(t, "signed in to https://mcp.internal/mcp")
	if out := login.Out.String(); out != "" {
		t.Errorf("login printed %q on stdout", out)
	}
	machines.EchoOnce(t, s.ThroughChain(t, home, "--no-browser"))
	if status := run("logout").Wait(t); status != machines.StatusDone {
		t.Fatalf("logout: status %d", status)
	}
	s.OIDC.Log.Await(t, `POST /token/revocation 200`)
	if status := run("login", "--callback-port", "0", "--no-browser", "--callback-timeout", "1s").Wait(t); status != machines.StatusSignIn {
		t.Errorf("login after logout: status %d, want %d", status, machines.StatusSignIn)
	}
}

// Somebody who used mcp-oauth2-proxy takes sallyport in its place, with nothing but its variables
// or its file: no flag, no SSH. It is the one test of this package that uses the default port of
// the callback, as the registration of the client says.
func TestSettingsOfMCPOAuth2Proxy(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	registered := s.OIDC.RegisterNative(t, machines.DefaultCallback)
	asMachine := []string{"OAUTH2_GRANT=client_credentials", "OAUTH2_CLIENT_ID=" + machines.MachineID,
		"OAUTH2_CLIENT_SECRET=" + machines.MachineSecret, "OAUTH2_AUTH_STYLE=header"}
	for _, test := range []struct {
		name string
		env  []string
	}{
		{"client credentials", asMachine},
		{"client credentials at a given endpoint", append(asMachine,
			"DISCOVERY_ENABLED=false", "OAUTH2_TOKEN_URL="+s.OIDC.Issuer+"/token", "OAUTH2_RESOURCE="+s.Gate.URL,
			"OAUTH2_SCOPE=mcp")},
		{"authorization code", []string{
			"OAUTH2_GRANT=authorization_code", "OAUTH2_CLIENT_ID=" + registered,
			"BROWSER=" + machines.Person{TrustsAll: true}.BrowserScript(t), // what its `open` package honours too
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := machines.Command(t, t.TempDir())
			cmd.Env = append(append(cmd.Env, test.env...), "UPSTREAM_URL="+s.Gate.URL, "SSL_CERT_FILE="+s.CA.File,
				"LOG_LEVEL=info")
			machines.EchoOnce(t, cmd)
		})
	}
	t.Run("file", func(t *testing.T) {
		settings := fmt.Sprintf(`{"upstream": {"url": %q, "timeoutMs": 30000, "openServerStream": true},
			"oauth2": {"grant": "client_credentials", "clientId": %q, "clientSecret": "set by the variable", "authStyle": "header", "refreshSkewSeconds": 30},
			"log": {"level": "info"}}`, s.Gate.URL, machines.MachineID)
		cmd := machines.Command(t, t.TempDir())
		cmd.Env = append(cmd.Env, "MCP_PROXY_CONFIG="+machines.WriteFile(t, machines.OpenDir(t), "proxy.json", settings, 0o600),
			"OAUTH2_CLIENT_SECRET="+machines.MachineSecret, "SSL_CERT_FILE="+s.CA.File)
		machines.EchoOnce(t, cmd)
	})
}

// The disk has no room for the tokens: login says so, and a proxy works all the same.
func TestLoginOnAFullDisk(t *testing.T) {
	t.Parallel()
	machines.NeedMachine(t)
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	dir := fullDisk(t)
	home := t.TempDir()
	args := []string{"--state-dir", dir, "--callback-port", "0",
		"--browser", machines.Person{TrustsAll: true}.BrowserScript(t), s.Gate.URL}
	login := machines.StartProcess(t, s.Command(t, home, append([]string{"login"}, args...)...))
	if status := login.Wait(t); status != machines.StatusFailed {
		t.Errorf("login: status %d, want %d", status, machines.StatusFailed)
	}
	login.Err.Await(t, `(?m)^sallyport: signed in to \S+, but the tokens could not be stored: .*no space left on device\nhint: .*--state-dir`)
	host := machines.StartHost(t, s.Command(t, home, args...), nil)
	s.OIDC.Log.Await(t, `(?s)`+machines.CodeExchanged+`.*`+machines.CodeExchanged)
	host.Echo(t) // the tokens are in its memory for as long as it runs
	host.Close(t)
}

// fullDisk is a directory on a file system of its own that has no room.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	full, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	return dir
}

// The upstream refuses a token that the person gave as a header: no sign-in can mend that, and the
// token is not shown.
func TestRefusedHeader(t *testing.T) {
	t.Parallel()
	upstream := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	cmd := machines.Command(t, t.TempDir(), "login", "--header", "Authorization: Bearer ${TOKEN}", upstream+"/mcp")
	cmd.Env = append(cmd.Env, "TOKEN=sesame-sesame")
	p := machines.StartProcess(t, cmd)
	if status := p.Wait(t); status != machines.StatusSignIn {
		t.Errorf("status %d, want %d", status, machines.StatusSignIn)
	}
	p.Err.Await(t, `^sallyport: http://\S+/mcp: status 401: .*\nhint: check --header Authorization`)
	if strings.Contains(p.Err.String(), "sesame") {
		t.Error("the token on stderr")
	}
}
