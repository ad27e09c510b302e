//go:build linux

package faults_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// logFileSize is at what size the log file is put aside for a new one.
const logFileSize = 5 << 20

// tokens are what no log may hold: a JWT, a header that carries one, a parameter of the token
// request.
var tokens = regexp.MustCompile(`eyJ|Bearer \S|(code|code_verifier|refresh_token)=`)

// The connection to the bastion breaks while a login waits, and again between two calls. Both go
// on, and what was logged meanwhile, at the most verbose, holds no secret.
func TestConnectionLostTwiceAndTheLog(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 1, machines.StartMCP)
	home := t.TempDir()
	log := machines.WriteFile(t, home, "log", strings.Repeat("old\n", logFileSize/4), 0o600)
	host := machines.StartHost(t, s.ThroughChain(t, home, "--no-browser", "--callback-port", "0", "--log-level", "trace",
		"--log-file", log), nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	commandLine := machines.CommandLine(t, host.PID())
	s.Hops[0].SSHD.Drop()
	if page := (machines.Person{TrustsAll: true}).LogsIn(t, link); !strings.Contains(page.Text, "igned in") {
		t.Errorf("the last page is %+v", page)
	}
	host.Echo(t)
	s.Hops[0].SSHD.Drop()
	host.Stderr.Await(t, `(?s)msg="link lost".*msg="link lost"`) // a call on the dying connection may have run, and gets an error
	host.Stderr.Await(t, `(?s)hop hop1 .*: link: .*\nhint: sallyport connects again by itself\n(?s:.*)sallyport: the tunnel via hop1 is up\n`)
	host.Echo(t)
	host.Close(t)

	files, err := filepath.Glob(filepath.Join(home, "log*"))
	if err != nil || len(files) != 2 {
		t.Errorf("log files: %q, %v; want the new and the rotated one", files, err)
	}
	text := machines.ReadFile(t, log)
	if !strings.Contains(text, `msg="signed in"`) || strings.Contains(text, "<nil>") {
		t.Errorf("the log: %s", text)
	}
	for _, name := range []string{"state", "code_challenge"} {
		if secret := machines.ParseURL(t, link).Query().Get(name); secret == "" || strings.Contains(text+commandLine, secret) {
			t.Errorf("%s %q in the log or the command line", name, secret)
		}
	}
	if found := tokens.FindString(text + commandLine); found != "" {
		t.Errorf("%q in the log or the command line", found)
	}
	if found := tokens.FindString(strings.ReplaceAll(host.Stderr.String(), link, "")); found != "" {
		t.Errorf("%q on stderr", found)
	}
}
