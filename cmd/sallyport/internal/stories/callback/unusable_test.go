//go:build linux

package callback_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// A sallyport lies on HOST that cannot run there. The person is told once, with the remedy, and
// logins of a sallyport that runs would come by a forwarded socket.
func TestASallyportThatDoesNotRun(t *testing.T) {
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte, mode os.FileMode) func(*testing.T, *lending, string) {
		return func(t *testing.T, _ *lending, path string) {
			if err := os.WriteFile(path, text, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	machine := bytes.Clone(program)
	machine[18], machine[19] = 0xf7, 0 // e_machine of ELF is that of eBPF
	for _, row := range []struct {
		name string
		put  func(t *testing.T, l *lending, path string)
		said string
	}{
		{"built for another machine", write(machine, 0o755), `exit status (126|2)`},
		{"with another libc", write(bytes.Replace(program, []byte("/lib64/ld-linux"), []byte("/lib64/no-linux"), 1), 0o755), `exit status 127`},
		{"without the right to execute it", write(program, 0o644), `exit status 126`},
		{"on a file system without programs", func(t *testing.T, _ *lending, path string) {
			dir := filepath.Dir(path)
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "noexec,mode=755", "none", dir).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v: %s", err, out)
			}
			t.Cleanup(func() { exec.Command("umount", dir).Run() })
			write(program, 0o755)(t, nil, path)
		}, `exit status 126`},
		{"that crashes", write([]byte("#!/bin/sh\nkill -SEGV $$\n"), 0o755), `exit status 139`},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := lendBrowser(t)
			path := filepath.Join(l.ada.Home, ".local/bin/sallyport")
			os.Remove(path)
			row.put(t, l, path)
			cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", "/bin/true", "devbox")
			l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
			l.helper.Err.Await(t, `devbox: ready, as soon as there is a sallyport \(a forwarded Unix socket\)`)
			l.helper.Err.Await(t, `this lasts until Ctrl-C`)
			machines.CheckExplained(t, l.helper.Err.String(), `the sallyport on devbox does not run there: "`+path+`", `+row.said, `callback --install devbox`)
			l.helper.Stop()
		})
	}
	t.Run("beside one that runs", func(t *testing.T) {
		l := lendBrowser(t)
		write(machine, 0o755)(t, l, filepath.Join(bin(t, l.ada, "bin"), "sallyport"))
		os.Rename(filepath.Join(l.ada.Home, ".local/bin/sallyport"), filepath.Join(bin(t, l.ada, "go/bin"), "sallyport"))
		write(machine, 0o755)(t, l, filepath.Join(l.ada.Home, ".local/bin/sallyport"))
		l.lend(t)
		l.helper.Err.Await(t, `devbox: ready, logins there open your browser here \(sallyport .* there\)`)
	})
	t.Run("and --install puts one there that does", func(t *testing.T) {
		l := lendBrowser(t)
		path := filepath.Join(l.ada.Home, ".local/bin/sallyport")
		os.Remove(path)
		write(machine, 0o755)(t, l, path)
		l.lend(t, "--install")
		l.helper.Err.Await(t, `devbox: ready, logins there open your browser here \(sallyport .* there\)`)
		if text := l.helper.Err.String(); strings.Contains(text, "does not run") {
			t.Errorf("it says %s", text)
		}
	})
}

// The sshd of HOST lets one command run on a connection, which is the one that brings its logins
// here. Then --port cannot look who listens there, and the person is told what to change.
func TestAPortAtMaxSessions1(t *testing.T) {
	l := lendBrowser(t, "MaxSessions 1")
	cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", "/bin/true", "--port", "53682", "devbox")
	l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
	l.helper.Err.Await(t, `devbox: ready, logins there open your browser here \(sallyport .* there\)`)
	machines.CheckExplained(t, l.helper.Err.String(), `devbox would not run the command`, `MaxSessions in its sshd_config must be higher`)
	p, _ := (&lent{Site: l.Site, ada: l.ada, workstation: l.workstation}).catch(t, l.ada)
	if page := machines.Curl(t, l.workstation, machines.DefaultCallback+"?code=mine"); !strings.Contains(page, "MaxSessions in its sshd_config must be higher") {
		t.Errorf("the page says %s", page)
	}
	p.Stop()
}

// bin makes a directory in the home of an account.
func bin(t *testing.T, a *machines.Account, name string) string {
	t.Helper()
	dir := filepath.Join(a.Home, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The sshd of HOST runs no command, and makes a socket to which others may connect. The helper
// cannot see that. A login there does not use the socket, and both sides say so.
func TestASocketThatIsOpenToOthers(t *testing.T) {
	l := lendBrowser(t, "ForceCommand "+forced, "StreamLocalBindMask 0111")
	l.lend(t, "--trust", "devbox")
	login := machines.StartProcess(t, l.inSession("login", l.Gate.URL)(t))
	login.Err.Await(t, `leads to your workstation and is not used, because other users of this machine may connect to it: the sshd here needs StreamLocalBindMask 0177`)
	l.helper.Err.Await(t, `devbox grants a socket .* that is of no use: other users there may connect to it`)
	l.helper.Err.Await(t, `hint: the sshd_config of devbox needs StreamLocalBindMask 0177`)
	if n := l.opened(); n != 0 {
		t.Errorf("%d pages were opened", n)
	}
	machines.Poll(t, func() bool {
		left, _ := filepath.Glob("/tmp/sallyport-" + l.ada.Name + "*.sock")
		return len(left) == 0 || !isListening(t, left[0])
	}, "the end of the socket")
	login.Stop()
}

// isListening reports whether somebody listens at a Unix socket of the machine of the tests.
func isListening(t *testing.T, path string) bool {
	t.Helper()
	return strings.Contains(machines.ReadFile(t, "/proc/net/unix"), path)
}
