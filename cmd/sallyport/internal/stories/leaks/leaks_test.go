//go:build linux

// The story of the secrets: tokens, codes, verifiers, states, client secrets, passphrases, headers.
// However a person signs in, however that fails, and at the most verbose, none of them may stand on
// stderr, in the log, in what the host is sent, in the arguments and environments of what is
// started, or go to another origin. Real: the processes, sshd, the programs that ssh_config names.
// The authorization server is oauthtest's, for it knows all secrets that it made or was shown; curl
// is the browser.
package leaks_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

func TestMain(m *testing.M) { machines.Main(m) }

// vault is a site whose commands' output is all kept for the search.
type vault struct {
	*machines.FakeSite
}

// redirect is that of the client that is registered beforehand. Nothing listens there.
const redirect = "http://127.0.0.1:9/callback"

// clientSecret is that of the client "machine".
const clientSecret = "cl1ent secret+/%"

// anyPort lets a login listen where there is room.
var anyPort = []string{"--callback-port", "0"}

// signsIn are the flags of a person who signs in at the browser.
func (v *vault) signsIn(more ...string) []string {
	return append(append([]string{"--browser", v.Browser}, anyPort...), more...)
}

// printedURL is an authorization URL, the one place on stderr where a state may stand.
var printedURL = regexp.MustCompile(`\n  http\S+/authorize\?\S+\n`)

func (v *vault) keepStderr(t *testing.T, text string) {
	v.Secrets.Keep(t.Name()+": stderr", printedURL.ReplaceAllString(text, "\n"))
}

// run runs a command to its end, with a host's first line on its stdin, and returns its status.
func (v *vault) run(t *testing.T, cmd *exec.Cmd) (status int) {
	t.Helper()
	p := machines.StartStdio(t, cmd)
	v.Secrets.Keep(t.Name()+": arguments", machines.CommandLine(t, p.PID()))
	p.Initialize(t)
	status = p.Wait(t)
	v.keepStderr(t, p.Err.String())
	v.Secrets.Keep(t.Name()+": stdout", p.Out.String())
	return status
}

// refused starts a proxy whose sign-in is refused. A call gets the reason, and the proxy goes on.
func (v *vault) refused(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	p := machines.StartStdio(t, cmd)
	v.Secrets.Keep(t.Name()+": arguments", machines.CommandLine(t, p.PID()))
	p.Initialize(t)
	p.Send(t, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`+"\n")
	if e := machines.ParseError(t, p.Answer(t, "2"), "2"); !strings.HasPrefix(e.Data.Kind, "sign_in") {
		t.Errorf("kind %q: %s", e.Data.Kind, e.Message)
	}
	if status := p.End(t); status != machines.StatusDone {
		t.Errorf("the proxy ended with %d", status)
	}
	v.keepStderr(t, p.Err.String())
	v.Secrets.Keep(t.Name()+": stdout", p.Out.String())
}

// session carries an MCP session that works.
func (v *vault) session(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	host := machines.StartHost(t, cmd, nil)
	host.Echo(t)
	v.Secrets.Keep(t.Name()+": arguments", machines.CommandLine(t, host.PID()))
	host.Close(t)
	v.keepStderr(t, host.Stderr.String())
	v.Secrets.Keep(t.Name()+": to the host", host.Wire.String())
}

// with has the authorization server misbehave while f runs.
func (v *vault) with(knobs oauthtest.Knobs, f func()) {
	v.AS.Set(func(k *oauthtest.Knobs) { *k = knobs })
	defer v.AS.Set(func(k *oauthtest.Knobs) { *k = oauthtest.Knobs{} })
	f()
}

// Every way to sign in, and every way in which that fails.
func TestNoSecretLeaks(t *testing.T) {
	t.Parallel()
	v := &vault{machines.NewFakeSite(t)}
	v.AS.AddClient(oauthtest.Client{ID: "machine", Secret: v.Secrets.Add("the client secret", clientSecret)})
	v.AS.AddClient(oauthtest.Client{ID: "given", Method: "none", RedirectURIs: []string{redirect}})

	t.Run("through SSH, with every kind of child", v.throughSSH)
	t.Run("login and logout", func(t *testing.T) {
		if status := v.run(t, v.Command(nil, append([]string{"login"}, v.signsIn()...)...)); status != machines.StatusDone {
			t.Errorf("login: status %d", status)
		}
		if status := v.run(t, v.Command(nil, "logout")); status != machines.StatusDone {
			t.Errorf("logout: status %d", status)
		}
	})
	t.Run("DPoP", func(t *testing.T) {
		v.with(oauthtest.Knobs{DPoP: true}, func() { v.session(t, v.Command(nil, v.signsIn("--profile", "bound")...)) })
	})
	t.Run("pushed request", func(t *testing.T) {
		v.with(oauthtest.Knobs{RequirePush: true}, func() { v.session(t, v.Command(nil, v.signsIn("--profile", "pushed")...)) })
	})
	t.Run("device", func(t *testing.T) {
		v.session(t, v.Command(nil, "--grant", "device_code", "--no-browser", "--profile", "device"))
	})
	t.Run("a service", v.services)
	t.Run("enterprise", v.enterprise)
	t.Run("given once", v.givenOnce)
	t.Run("sign-in tool and elicitation", func(t *testing.T) {
		v.signInAtTheHost(t)
		v.with(oauthtest.Knobs{RequirePush: true}, func() { v.signInAtTheHost(t) })
	})
	t.Run("failures", v.failures)
	t.Run("a login that waits", v.waits)
	t.Run("callback command", v.callbackCommand)

	v.AddSecrets()
	v.Secrets.KeepFiles(t, v.Home)
	children := machines.ReadFile(t, v.Children)
	v.Secrets.Keep("children", children)
	v.Secrets.Check(t)
	for _, name := range []string{"browser", "proxycommand", "knownhosts", "matchexec", "askpass"} {
		if !strings.Contains(children, name+" started\n") {
			t.Errorf("%s was never started", name)
		}
	}
	if n := v.Secrets.Len(); n < 40 {
		t.Errorf("only %d secrets were used", n)
	}
}

// failures has the server echo what it was sent wherever it can.
func (v *vault) failures(t *testing.T) {
	for name, knobs := range map[string]oauthtest.Knobs{
		"denied": {Deny: "access_denied"}, "code refused": {TokenError: "invalid_grant"}, "token refused": {RefuseTokens: true},
		"another issuer": {WrongIss: "https://evil.example"}, "another's metadata": {WrongIssuer: "https://evil.example"},
		"pushed, denied": {RequirePush: true, Deny: "access_denied"},
		"push refused":   {RequirePush: true, PushError: "invalid_request"},
	} {
		v.with(knobs, func() {
			args := append([]string{"--token-store", "memory"}, v.signsIn()...)
			if status := v.run(t, v.Command(nil, append([]string{"login"}, args...)...)); status != machines.StatusSignIn {
				t.Errorf("%s: status %d, want %d", name, status, machines.StatusSignIn)
			}
			v.refused(t, v.Command(nil, args...))
		})
	}
}

// waits ends the proxy while its login waits for the person.
func (v *vault) waits(t *testing.T) {
	p := machines.StartStdio(t, v.Command(nil, append([]string{"--token-store", "memory", "--no-browser",
		"--timeout", "1s"}, anyPort...)...))
	p.Initialize(t)
	link := machines.ParseURL(t, p.Err.Await(t, machines.Offered)[1])
	v.Secrets.Add("a state", link.Query().Get("state"))
	p.Out.Await(t, "\n")
	p.End(t)
	v.keepStderr(t, p.Err.String())
	v.Secrets.Keep(t.Name()+": stdout", p.Out.String())
}

// signInAtTheHost is a session whose host shows the URL, by the sign-in tool and by elicitation.
func (v *vault) signInAtTheHost(t *testing.T) {
	t.Helper()
	// With a browser here, the host gets our own page as the link.
	host := machines.StartElicitingHost(t, v.Command(nil, append([]string{"--browser", "true", "--token-store", "memory"},
		anyPort...)...))
	host.Session(t)
	asked := make(chan string, 1)
	go func() { asked <- host.Call(t, "sallyport_sign_in") }() // ends with the login
	link := machines.Receive(t, host.URLs, "elicitation")
	host.Wire.Await(t, `"name":"sallyport_sign_in"`)
	machines.Curl(t, nil, "-L", link)
	if text := machines.Receive(t, asked, "answer of the sign-in tool"); !strings.Contains(text, "is connected") {
		t.Errorf("the sign-in tool says %q", text)
	}
	machines.Receive(t, host.ToolChanges, "change of the tools")
	host.Echo(t)
	host.Close(t)
	v.keepStderr(t, host.Stderr.String())
	v.Secrets.Keep(t.Name()+": to the host", host.Wire.String())
}
