//go:build linux

package login_test

import (
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// copyCallback signs in at the link on the screen, as a browser on another machine does, and
// returns the address at which that ends: it cannot be opened there.
func copyCallback(t *testing.T, link string) string {
	t.Helper()
	client := http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Query().Has("code") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := client.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Location")
}

// linkOnScreen waits for the link, and returns it as it was before the terminal wrapped it.
func linkOnScreen(t *testing.T, term *machines.Terminal) string {
	t.Helper()
	term.Await(t, `state=[A-Z2-7]{26}`)
	return regexp.MustCompile(`http://\S+/auth\S+`).FindString(term.String())
}

// A person in an SSH session, whose browser is on another machine, pastes the address into the
// terminal in which the login waits.
func TestPasteIntoTheTerminalThatWaits(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	term := machines.StartInTerminal(t, s.Command([]string{"SSH_CONNECTION=1", "XDG_RUNTIME_DIR=" + t.TempDir()}, "login", "--callback-port", "0"))
	link := linkOnScreen(t, term)
	term.Type(t, `copy the address of that page, paste it here`, "\n") // nothing comes of it
	term.Type(t, `copy the address`, "what is this?\n")
	term.Type(t, `this is not the address of a page`, link+"\n")
	term.Type(t, `this is the address of the login page`, "http://127.0.0.1:1/callback?code=1&state=2\n")
	term.Type(t, `the callback belongs to no login that waits here`, copyCallback(t, link)+"\n")
	if got := term.Wait(t); got != machines.StatusDone {
		t.Errorf("status %d, want %d", got, machines.StatusDone)
	}
	term.Await(t, `signed in to `+s.Upstream)
}

// A login asks for a passphrase of SSH and waits for a callback in the same terminal. A line is
// never read by the wrong one, and one that is typed after the login belongs to the shell.
func TestPasteTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	login := s.Command([]string{"SSH_CONNECTION=1", "XDG_RUNTIME_DIR=" + t.TempDir()}, "login", "--callback-port", "0")
	// A shell runs the login in the background, where it must not read: the system would stop it.
	// The shell takes its time, so that the login sees that a line is there.
	script := strings.Join(quoted(login.Args), " ") + " & sleep 1; read line; echo the shell has $line.; wait $!; echo status $?."
	shell := exec.Command("bash", "-c", "set -m; "+script)
	shell.Env = login.Env
	term := machines.StartInTerminal(t, shell)
	link := linkOnScreen(t, term)
	term.Type(t, `paste it here`, "my line\n")
	term.Await(t, `the shell has my line\.`)
	paste := s.Prepare(exec.Command(login.Path, "login", "--paste"), nil)
	paste.Env = login.Env
	paste.Stdin = strings.NewReader(copyCallback(t, link))
	if out, err := paste.CombinedOutput(); err != nil {
		t.Errorf("login --paste: %v\n%s", err, out)
	}
	term.Await(t, `status 0\.`)
}

// quoted quotes words for a shell.
func quoted(words []string) []string {
	var list []string
	for _, word := range words {
		list = append(list, "'"+word+"'")
	}
	return list
}

// The prompt of `login --paste` names the login that waits.
func TestPasteAtThePrompt(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	env := []string{"SSH_CONNECTION=1", "XDG_RUNTIME_DIR=" + t.TempDir()}
	login := machines.StartProcess(t, s.Command(env, "login", "--callback-port", "0"))
	login.Err.Await(t, `type: sallyport login --paste`)
	link := regexp.MustCompile(`http://\S+/auth\S+`).FindString(login.Err.String())
	paste := s.Command(env, "login", "--paste")
	paste.Args = paste.Args[:len(paste.Args)-1] // the upstream
	term := machines.StartInTerminal(t, paste)
	term.Await(t, `login `+strconv.Itoa(login.Cmd.Process.Pid)+` waits for the sign-in to `+s.Upstream)
	term.Type(t, `and press Enter: `, copyCallback(t, link)+"\n")
	if got := term.Wait(t); got != machines.StatusDone {
		t.Errorf("login --paste: status %d, want %d", got, machines.StatusDone)
	}
	if got := login.Wait(t); got != machines.StatusDone {
		t.Errorf("login: status %d, want %d", got, machines.StatusDone)
	}
	s.AddSecrets()
	s.Secrets.KeepFiles(t, s.Home) // the logs of both
	s.Secrets.Check(t)
}
