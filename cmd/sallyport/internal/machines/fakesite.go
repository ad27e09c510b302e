//go:build linux

package machines

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"sallyport/oauth/oauthtest"
)

// FakeSite is an MCP server behind an authorization server that lives in the test's own process.
// The test can make that one misbehave (oauthtest.Knobs), and it knows every secret that the server
// made or was shown. Upstream and login are http on the machine of the tests.
type FakeSite struct {
	// AS is the authorization server.
	AS *oauthtest.Server
	// Upstream is the URL of the MCP server.
	Upstream string
	// Home is the home directory of all commands.
	Home string
	// Browser is a browser program that signs in.
	Browser string
	// Children is the file to which the programs that Child makes, Browser too, write their
	// arguments and environment.
	Children string
	// Secrets are those that were used so far: states from the start, the others after AddSecrets.
	Secrets *Secrets

	sallyport string
}

// NewFakeSite starts a site. It ends with the test.
func NewFakeSite(t testing.TB) *FakeSite {
	t.Helper()
	NeedProgram(t, "curl", "curl")
	s := &FakeSite{Home: t.TempDir(), Secrets: NewSecrets(), sallyport: Sallyport(t)}
	EndShares(t, s.Home)
	login := Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Secrets.Add("a state", r.FormValue("state"))
		s.AS.ServeHTTP(w, r)
	}))
	backend := StartMCP(t, nil)
	passOn := PassOn(t, backend)
	upstream := Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.AS.Guard(passOn).ServeHTTP(w, r) }))
	s.Upstream = upstream + ParseURL(t, backend).Path
	s.AS = oauthtest.New(login, s.Upstream)
	s.AS.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	s.Children = filepath.Join(OpenDir(t), "children")
	s.Browser = s.Child(t, "browser", `exec curl -s -L --noproxy '*' -o /dev/null "$1"`)
	return s
}

// Child writes a program that notes in Children how it was started, and then does what the rest of
// its text, a shell script, says.
func (s *FakeSite) Child(t testing.TB, name, rest string) string {
	t.Helper()
	return WriteFile(t, OpenDir(t), name, "#!/bin/sh\n"+
		`{ echo "`+name+` started"; tr '\0' '\n' </proc/$$/cmdline; tr '\0' '\n' </proc/$$/environ; } >>`+s.Children+"\n"+rest+"\n", 0o755)
}

// Command is the real command at its most verbose, with Upstream as its last argument. Its log file
// lies in Home. env is added to its environment.
func (s *FakeSite) Command(env []string, args ...string) *exec.Cmd {
	return s.Prepare(exec.Command(s.sallyport, append(args, s.Upstream)...), env)
}

// Prepare gives another command the environment of Command, and returns it.
func (s *FakeSite) Prepare(cmd *exec.Cmd, env []string) *exec.Cmd {
	cmd.Env = append(Environment(), "HOME="+s.Home, "LOG_LEVEL=trace", "SALLYPORT_LOG_FILE="+filepath.Join(s.Home, "log"))
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// AddSecrets adds the secrets of the authorization server so far to Secrets.
func (s *FakeSite) AddSecrets() {
	for _, secret := range s.AS.Secrets() {
		s.Secrets.Add("the login server's", secret)
	}
}
