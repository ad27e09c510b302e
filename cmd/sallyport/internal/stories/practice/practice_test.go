//go:build linux

// The story of a newcomer who starts `sallyport try`, and does what it says.
package practice_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

func TestPractice(t *testing.T) {
	home := t.TempDir()
	tmp := t.TempDir()
	cmd := machines.Command(t, home, "try")
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	practice := machines.StartProcess(t, cmd)
	args := strings.Fields(practice.Out.Await(t, `\n  sallyport login (.*)\n`)[1])

	login := machines.StartProcess(t, machines.Command(t, home, append([]string{"login", "--no-browser", "--profile", "other"}, args...)...))
	link := login.Err.Await(t, machines.Offered)[1]
	if page := open(t, link); !strings.Contains(page, "Sign in as Ada") || strings.Contains(page, "Signed in") {
		t.Errorf("the login page is %s", page)
	}
	// Whoever refuses sees it on our page.
	if page := open(t, link+"&practice=no"); !strings.Contains(page, "Not signed in") {
		t.Errorf("the page after a refusal is %s", page)
	}
	if status := login.Wait(t); status != machines.StatusSignIn {
		t.Errorf("a refused login ends with status %d", status)
	}

	host := machines.StartHost(t, machines.Command(t, home, append([]string{"--no-browser"}, args...)...), nil)
	if page := open(t, host.Stderr.Await(t, machines.Offered)[1]+"&practice=yes"); !strings.Contains(page, "Signed in") {
		t.Errorf("the page after the button is %s", page)
	}
	if got := host.Call(t, "clock"); !strings.Contains(got, ":") {
		t.Errorf("the clock says %q", got)
	}
	if got := host.Tools(t); got != "greet clock" {
		t.Errorf("the tools are %q", got)
	}
	host.Close(t)
	practice.Signal(t, syscall.SIGINT)
	if status := practice.Wait(t); status != machines.StatusInterrupted {
		t.Errorf("Ctrl-C ends it with status %d", status)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "sallyport-try-*")); len(left) > 0 {
		t.Errorf("it leaves %q", left)
	}
	if _, err := os.Stat(filepath.Join(home, ".local")); err == nil {
		t.Error("it leaves something in the person's own state directory")
	}
}

// open follows a link as a browser does, and returns the page.
func open(t *testing.T, link string) string {
	t.Helper()
	resp, err := http.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}
