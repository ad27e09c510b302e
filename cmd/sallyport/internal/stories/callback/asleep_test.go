//go:build linux

package callback_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// sleeper is a workstation that falls asleep in mid-login. It reaches HOST over a cable of its own,
// and its browser is a real one.
type sleeper struct {
	*lending
	// cable is HOST's end of the cable.
	cable string
	// links is the file with the pages that the helper opens, and tab the browser.
	links string
	tab   *machines.Tab
	host  *machines.Host
	// args are those of the proxy.
	args []string
}

var cables atomic.Int32

// newSleeper makes both machines, and a login on HOST whose page is open in the browser.
func newSleeper(t *testing.T, site *machines.Site, sshdConfig []string, args ...string) *sleeper {
	t.Helper()
	s := &sleeper{lending: &lending{Site: site, ada: machines.NewAccount(t), home: t.TempDir(), workstation: newWorkstation(t, site)}}
	number := cables.Add(1)
	s.cable = fmt.Sprintf("cable%d", number)
	run := func(args ...string) {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
	}
	run("link", "add", s.cable, "type", "veth", "peer", "name", "eth0", "netns", s.workstation.Name)
	run("addr", "add", fmt.Sprintf("10.98.%d.1/24", number), "dev", s.cable)
	run("link", "set", s.cable, "up")
	run("-n", s.workstation.Name, "addr", "add", fmt.Sprintf("10.98.%d.2/24", number), "dev", "eth0")
	run("-n", s.workstation.Name, "link", "set", "eth0", "up")

	s.sshd = machines.StartSSHD(t, machines.SSHDOptions{User: s.ada, Listen: fmt.Sprintf("10.98.%d.1:0", number), Config: sshdConfig})
	s.config = machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: s.sshd})
	putSallyport(t, s.ada)
	s.links = filepath.Join(machines.OpenDir(t), "links")
	machines.WriteFile(t, filepath.Dir(s.links), "browser", "#!/bin/sh\necho \"$1\" >> "+s.links+"\n", 0o755)
	s.lendHere(t)
	s.tab = machines.StartTab(t, s.workstation)
	s.args = append(args, "--callback-port", strconv.Itoa(53690+int(number)))
	s.host = machines.StartHost(t, s.proxy(t, s.args...), nil)
	s.tab.Goto(t, s.awaitLink(t, 1))
	s.tab.Await(t, "devbox wants to sign in")
	return s
}

// lendHere starts `sallyport callback` on the workstation, and waits until it says that it is
// ready.
func (s *sleeper) lendHere(t *testing.T) {
	t.Helper()
	browser := filepath.Join(filepath.Dir(s.links), "browser")
	cmd := machines.Command(t, s.home, "callback", "-F", s.config, "--browser", browser, "devbox")
	s.helper = machines.StartProcess(t, s.workstation.Move(t, cmd))
	s.helper.Err.Await(t, `devbox: ready`)
}

// awaitLink waits until the helper has opened n pages, and returns the last one.
func (s *sleeper) awaitLink(t *testing.T, n int) string {
	t.Helper()
	machines.Poll(t, func() bool { return len(s.pagesOpened()) >= n }, fmt.Sprint(n, " pages on the workstation"))
	return s.pagesOpened()[n-1]
}

// pagesOpened returns the pages that the helper has opened.
func (s *sleeper) pagesOpened() []string {
	text, _ := os.ReadFile(s.links)
	return strings.Fields(string(text))
}

// unplug takes the cable away, or puts it back.
func (s *sleeper) unplug(t *testing.T, away bool) {
	t.Helper()
	state := map[bool]string{true: "down", false: "up"}[away]
	if out, err := exec.Command("ip", "link", "set", s.cable, state).CombinedOutput(); err != nil {
		t.Fatalf("ip link: %v: %s", err, out)
	}
}

// sleep stops every process of the workstation for d, with the cable away. What is in the network
// of the workstation is a process of it: helper, shared connection, browser.
func (s *sleeper) sleep(t *testing.T, d time.Duration) {
	t.Helper()
	s.unplug(t, true)
	stopped := s.signalAll(t, syscall.SIGSTOP)
	t.Logf("%s: asleep for %v: %d processes", time.Now().UTC().Format(time.TimeOnly), d, stopped)
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
	s.signalAll(t, syscall.SIGCONT)
	s.unplug(t, false)
	t.Logf("%s: awake", time.Now().UTC().Format(time.TimeOnly))
}

// signalAll sends a signal to the processes of the workstation, and counts them.
func (s *sleeper) signalAll(t *testing.T, signal syscall.Signal) (n int) {
	t.Helper()
	info, err := os.Stat("/run/netns/" + s.workstation.Name)
	if err != nil {
		t.Fatal(err)
	}
	here := fmt.Sprintf("net:[%d]", info.Sys().(*syscall.Stat_t).Ino)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if net, err := os.Readlink(filepath.Join(dir, "ns/net")); err == nil && net == here && syscall.Kill(pid, signal) == nil {
			n++
		}
	}
	return n
}

// The workstation falls asleep while a login of HOST waits, and its network is away. Awake again,
// it goes on in the same page, and the proxy on HOST needs no second one. SALLYPORT_ASLEEP_SECONDS
// is how long it sleeps.
func TestAsleepInMidLogin(t *testing.T) {
	asleep := time.Duration(machines.Setting(t, "SALLYPORT_ASLEEP_SECONDS", 20)) * time.Second
	long := asleep + 10*time.Minute
	site := machines.NewDirectSite(t, machines.OIDCOptions{LoginTTL: long})
	waits := []string{"--callback-timeout", long.String()}
	finished := func(t *testing.T, s *sleeper) {
		t.Helper()
		s.tab.Await(t, "devbox is signed in")
		s.host.Echo(t)
		if n := len(s.pagesOpened()); n != 1 {
			t.Errorf("%d pages were opened, want 1", n)
		}
		s.host.Close(t)
	}
	t.Run("before the click", func(t *testing.T) {
		t.Parallel()
		s := newSleeper(t, site, nil, waits...)
		s.sleep(t, asleep)
		s.tab.Click(t, "Continue")
		s.tab.SignIn(t)
		finished(t, s)
	})
	t.Run("after the callback, which HOST did not get", func(t *testing.T) {
		t.Parallel()
		s := newSleeper(t, site, nil, waits...)
		s.tab.Click(t, "Continue")
		s.tab.Await(t, "Sign-in")
		s.unplug(t, true)
		s.tab.SignIn(t)
		s.tab.Await(t, "devbox is away")
		s.sleep(t, asleep)
		finished(t, s)
	})
	t.Run("HOST's sshd drops the connections", func(t *testing.T) {
		t.Parallel()
		s := newSleeper(t, site, []string{"ClientAliveInterval 2", "ClientAliveCountMax 2"}, waits...)
		s.tab.Click(t, "Continue")
		s.tab.Await(t, "Sign-in")
		s.sleep(t, asleep)
		if text := s.sshd.Log.String(); !strings.Contains(text, "Timeout, client not responding") {
			t.Error("sshd has dropped nothing")
		}
		s.tab.SignIn(t)
		finished(t, s)
	})
	t.Run("logins come by a forwarded socket", func(t *testing.T) {
		t.Parallel()
		s := newSleeper(t, site, []string{"ForceCommand " + forced}, waits...)
		s.tab.Click(t, "Continue")
		s.tab.Await(t, "Sign-in")
		s.sleep(t, asleep)
		s.tab.SignIn(t)
		finished(t, s)
	})
	t.Run("the login on HOST is over", func(t *testing.T) {
		t.Parallel()
		timeout := max(30*time.Second, asleep/10)
		s := newSleeper(t, site, nil, "--callback-timeout", timeout.String())
		s.sleep(t, max(asleep, timeout+time.Second))
		page := s.tab.Click(t, "Continue")
		t.Logf("the page says: %s", page.Text)
		if !strings.Contains(page.Text, "Too late") || !strings.Contains(page.Text, "Start it again on devbox") {
			t.Errorf("the page says %q", page.Text)
		}
		s.host.Session(t)
		s.host.EchoError(t) // this call has another page opened
		s.tab.Goto(t, s.awaitLink(t, 2))
		s.tab.Click(t, "Continue")
		s.tab.SignIn(t)
		s.tab.Await(t, "devbox is signed in")
		s.host.Echo(t)
		s.host.Close(t)
	})
}
