//go:build linux

package callback_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// lending is a HOST, the machine of the tests, whose logins open in the browser of a workstation
// that runs `sallyport callback`.
type lending struct {
	*machines.Site
	ada         *machines.Account
	workstation *machines.Namespace
	sshd        *machines.SSHD
	config      string
	// home is the person's on the workstation, and pages the file with a line for each page that
	// was opened there.
	home, pages string
	helper      *machines.Process
}

// lendBrowser makes both machines. The sshd of HOST has the given lines of sshd_config.
func lendBrowser(t *testing.T, sshdConfig ...string) *lending {
	t.Helper()
	l := &lending{Site: machines.NewDirectSite(t, machines.OIDCOptions{}), ada: machines.NewAccount(t), home: t.TempDir()}
	l.workstation = newWorkstation(t, l.Site)
	l.sshd = machines.StartSSHD(t, machines.SSHDOptions{User: l.ada, Config: sshdConfig})
	l.workstation.Borrow(t, l.sshd.Addr)
	l.config = machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: l.sshd})
	putSallyport(t, l.ada)
	return l
}

// putSallyport puts the command where --install does, which is not in the PATH of a session.
func putSallyport(t *testing.T, a *machines.Account) {
	t.Helper()
	bin := filepath.Join(a.Home, ".local", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(machines.Sallyport(t), filepath.Join(bin, "sallyport")); err != nil {
		t.Fatal(err)
	}
	a.Own(t, filepath.Join(a.Home, ".local"), bin)
}

// lend starts `sallyport callback` on the workstation, and waits until it says that it is ready.
func (l *lending) lend(t *testing.T, args ...string) {
	t.Helper()
	var browser string
	browser, l.pages = machines.CountingBrowser(t, machines.Person{NS: l.workstation, TrustsAll: true}.BrowserScript(t))
	cmd := machines.Command(t, l.home, append([]string{"callback", "-F", l.config, "--browser", browser, "devbox"}, args...)...)
	l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
	l.helper.Err.Await(t, `devbox: ready`)
}

// opened counts the pages that the workstation has opened.
func (l *lending) opened() int {
	text, _ := os.ReadFile(l.pages)
	return strings.Count(string(text), "page\n")
}

// proxy returns a proxy on HOST, in a session of SSH.
func (l *lending) proxy(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return l.inSession(append(args, l.Gate.URL)...)(t)
}

// inSession returns a sallyport on HOST, in a session of SSH.
func (l *lending) inSession(args ...string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		t.Helper()
		cmd := l.ada.Command(machines.Sallyport(t), args...)
		cmd.Env = append(cmd.Env, "SALLYPORT_CA_FILE="+l.CA.File, "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22")
		return cmd
	}
}

// A person types one command on the workstation. Every login on HOST then opens there by itself: of
// a proxy, and of `sallyport login`. Nothing is copied, and HOST binds no port.
func TestLoginsOfHostOpenOnTheWorkstation(t *testing.T) {
	l := lendBrowser(t)
	l.lend(t, "--trust", "devbox")
	host := machines.StartHost(t, l.proxy(t), nil)
	host.Stderr.Await(t, machines.Offered)
	if machines.Here.Listens(t, 53682) {
		t.Error("HOST has bound the port of the callback")
	}
	host.Echo(t)
	if n := l.opened(); n != 1 {
		t.Errorf("%d pages were opened, want 1", n)
	}
	if l.workstation.Listens(t, 53682) {
		t.Error("the workstation still holds the port after the login")
	}
	host.Close(t)
	checkNoSecrets(t, l, host.Stderr.String())

	login := machines.StartProcess(t, l.inSession("login", "--profile", "other", l.Gate.URL)(t))
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
	if n := l.opened(); n != 2 {
		t.Errorf("%d pages were opened, want 2", n)
	}
}

// checkNoSecrets looks for the state of a login in what a person may send to others.
func checkNoSecrets(t *testing.T, l *lending, stderr string) {
	t.Helper()
	state := regexp.MustCompile(`state=([A-Z2-7]{26})`).FindStringSubmatch(stderr)
	if state == nil {
		t.Fatalf("stderr has no link:\n%s", stderr)
	}
	if strings.Contains(l.helper.Err.String(), state[1]) {
		t.Error("the workstation shows the state of the login")
	}
	log, _, _ := strings.Cut(stderr, "open this link")
	if strings.Contains(log, state[1]) {
		t.Error("the log shows the state of the login")
	}
}

// The first login is there before the helper: it names the one command to type, and goes on by
// itself when that was typed.
func TestTheHelperComesLater(t *testing.T) {
	l := lendBrowser(t)
	host := machines.StartHost(t, l.proxy(t), nil)
	host.Stderr.Await(t, `is your browser on another machine\? there, run: sallyport callback `+l.ada.Name+`@\S+ \(.* what you type after ssh`)
	l.lend(t, "--trust", "devbox")
	host.Echo(t)
	if n := l.opened(); n != 1 {
		t.Errorf("%d pages were opened, want 1", n)
	}
	host.Close(t)
}

// Faults in mid-login. In each, the login waits for the person on the workstation while something
// ends, and then goes on by itself.
func TestFaultsInMidLogin(t *testing.T) {
	farEnds := func(l *lending) []int { return processes(t, l.ada, "far-end") }
	for _, fault := range []struct {
		name string
		do   func(t *testing.T, l *lending)
	}{
		{"every connection of HOST's sshd is cut", func(t *testing.T, l *lending) { l.sshd.Drop() }},
		{"the far end is killed", func(t *testing.T, l *lending) {
			for _, pid := range farEnds(l) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}},
		{"the far end is stopped", func(t *testing.T, l *lending) {
			for _, pid := range farEnds(l) {
				syscall.Kill(pid, syscall.SIGSTOP)
			}
		}},
		{"the helper is killed, and started again", func(t *testing.T, l *lending) {
			l.helper.Signal(t, syscall.SIGKILL)
			l.helper.Wait(t)
			l.lend(t, "--trust", "devbox")
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			l := lendBrowser(t)
			pause := machines.WriteFile(t, machines.OpenDir(t), "pause", "#!/bin/sh\nexit 0\n", 0o755) // opens nothing
			cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", pause, "--trust", "devbox", "devbox")
			l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
			l.helper.Err.Await(t, `devbox: ready`)
			host := machines.StartHost(t, l.proxy(t), nil)
			link := host.Stderr.Await(t, machines.Offered)[1]
			host.Stderr.Await(t, `is open in the browser of your workstation`)
			fault.do(t, l)
			if fault.name != "the helper is killed, and started again" {
				machines.Person{NS: l.workstation, TrustsAll: true}.LogsIn(t, link)
			}
			host.Echo(t)
			if machines.Here.Listens(t, 53682) {
				t.Error("HOST holds the port after the login")
			}
			host.Close(t)
		})
	}
}

// processes returns the processes of an account whose command line has a word.
func processes(t *testing.T, a *machines.Account, word string) (pids []int) {
	t.Helper()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != a.UID {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		var pid int
		if strings.Contains(string(line), "\x00"+word+"\x00") {
			fmt.Sscan(filepath.Base(dir), &pid)
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		t.Fatalf("no process of %s has the word %s", a.Name, word)
	}
	return pids
}
