//go:build linux

package callback_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// A person leaves the pages of one workstation alone, and finishes the logins elsewhere. Those
// pages are not in vain: they say that HOST is signed in, and the next ones open as before.
func TestLoginsFinishedElsewhere(t *testing.T) {
	for _, row := range []struct {
		name string
		// finish prepares the place where the logins are finished, and returns the command of one.
		finish func(*testing.T, *lending) func(args ...string) *exec.Cmd
	}{
		{"at a second workstation", func(t *testing.T, l *lending) func(args ...string) *exec.Cmd {
			second := &lending{Site: l.Site, ada: l.ada, home: t.TempDir(), workstation: newWorkstation(t, l.Site), sshd: l.sshd, config: l.config}
			second.workstation.Borrow(t, l.sshd.Addr)
			second.lend(t, "--trust", "devbox")
			return func(args ...string) *exec.Cmd { return l.inSession(args...)(t) }
		}},
		{"in the browser of HOST", func(t *testing.T, l *lending) func(args ...string) *exec.Cmd {
			browser := machines.Person{As: l.ada, TrustsAll: true}.BrowserScript(t)
			bin := filepath.Dir(machines.WriteFile(t, machines.OpenDir(t), "xdg-open", "#!/bin/sh\nexec "+browser+" \"$@\"\n", 0o755))
			return func(args ...string) *exec.Cmd {
				cmd := l.ada.Command(machines.Sallyport(t), args...)
				cmd.Env = append(cmd.Env, "SALLYPORT_CA_FILE="+l.CA.File, "DISPLAY=:9", "PATH="+bin+":"+os.Getenv("PATH"))
				return cmd
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := lendBrowser(t)
			links := filepath.Join(machines.OpenDir(t), "links")
			browser := machines.WriteFile(t, filepath.Dir(links), "browser", "#!/bin/sh\necho \"$1\" >> "+links+"\n", 0o755)
			cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", browser, "devbox")
			l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
			l.helper.Err.Await(t, `devbox: ready`)
			start := row.finish(t, l)
			for i := range 5 { // three in vain are the most
				login := machines.StartProcess(t, start("login", "--profile", fmt.Sprint("p", i), l.Gate.URL))
				if status := login.Wait(t); status != 0 {
					t.Fatalf("login %d ended with status %d", i, status)
				}
				var opened []string
				machines.Poll(t, func() bool {
					text, _ := os.ReadFile(links)
					opened = strings.Fields(string(text))
					return len(opened) == i+1
				}, fmt.Sprintf("page %d on the workstation; %s", i+1, l.helper.Err))
				if page := machines.Curl(t, l.workstation, "-L", opened[i]); !strings.Contains(page, "devbox is signed in") {
					t.Errorf("page %d says %s", i, page)
				}
			}
		})
	}
}
