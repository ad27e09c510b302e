//go:build linux

package callback_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// The person has signed in while HOST was away, and then the helper ends. The next helper hands the
// answer over, and the page in the browser goes on.
func TestTheAnswerOutlivesTheHelper(t *testing.T) {
	site := machines.NewDirectSite(t, machines.OIDCOptions{LoginTTL: machines.Patience * 10})
	for _, row := range []struct {
		name string
		end  func(*testing.T, *sleeper)
	}{
		{"the helper is killed", func(t *testing.T, s *sleeper) {
			s.sshd.Drop() // what is under way to HOST is lost
			s.helper.Signal(t, syscall.SIGKILL)
		}},
		// The connection comes to life again. HOST may get the answer twice, or tell the outcome to
		// nobody first.
		{"the helper is ended, as when its service is restarted", func(t *testing.T, s *sleeper) { s.helper.Signal(t, syscall.SIGTERM) }},
		{"the helper and the shared connection are killed", func(t *testing.T, s *sleeper) {
			s.sshd.Drop()
			s.helper.Signal(t, syscall.SIGKILL)
			s.endShare(t)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSleeper(t, site, nil)
			s.tab.Click(t, "Continue")
			s.tab.Await(t, "Sign-in")
			s.unplug(t, true)
			s.tab.SignIn(t)
			page := s.tab.Await(t, "devbox is away").URL
			kept := s.kept(t)
			if len(kept) != 1 {
				t.Fatalf("%q is kept", kept)
			}
			if fi, err := os.Stat(kept[0]); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("what is kept: %v, %v", fi, err)
			}
			row.end(t, s)
			s.helper.Wait(t)
			if got := s.kept(t); len(got) != 1 {
				t.Errorf("after the end %q is kept", got)
			}
			s.unplug(t, false)
			s.lendHere(t)
			s.tab.Goto(t, page) // the browser does that by itself, or the person loads the page again
			s.tab.Await(t, "devbox is signed in")
			s.host.Echo(t)
			if n := len(s.pagesOpened()); n != 1 {
				t.Errorf("%d pages were opened, want 1", n)
			}
			if got := s.kept(t); len(got) != 0 {
				t.Errorf("after the login %q is kept", got)
			}
			if strings.Contains(row.name, "killed") {
				s.helper.Err.Await(t, `devbox gets the answer of a sign-in that was kept here`)
			}
			s.host.Close(t)
		})
	}
}

// kept returns the files of callbacks on the workstation.
func (s *sleeper) kept(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.home, ".local/state/sallyport/callbacks/*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// endShare kills the shared connection of the workstation.
func (s *sleeper) endShare(t *testing.T) {
	t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if string(line) == "sallyport\x00share\x00" && strings.Contains(string(environ), "HOME="+s.home+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
