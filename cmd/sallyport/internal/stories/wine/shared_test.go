//go:build linux

package wine_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"sallyport/sshtunnel/sshtest/openssh"
)

// All proxies use the connection of the first one, which outlives that proxy. A connection that was
// ended, by force too, comes back with one login.
func TestOneConnection(t *testing.T) {
	s := newSite(t)
	first := s.start(t)
	first.echo(t)
	s.checkLogins(t, 1)
	share := s.onlyShare(t)
	s.checkStarts(t, 1)

	second := s.start(t)
	second.echo(t)
	s.checkLogins(t, 1)
	out := s.run(t, append([]string{"status"}, s.store...)...)
	if !strings.Contains(out, "shared connection "+share+" through ") || strings.Count(out, s.url) < 2 {
		t.Errorf("status says:\n%s", out)
	}
	t.Logf("sallyport status says:\n%s", out)

	first.close()
	second.echo(t)
	third := s.start(t)
	third.echo(t)
	s.checkLogins(t, 1)
	if pid := s.onlyShare(t); pid != share {
		t.Errorf("the shared connection is that of process %s, not of %s any more", pid, share)
	}

	s.runProgram(t, "taskkill", "/f", "/pid", share)
	second.echoAgain(t) // a call may be under way before the proxy has noticed
	third.echoAgain(t)
	s.checkLogins(t, 2)
	if pid := s.onlyShare(t); pid == share {
		t.Errorf("process %s was not killed", share)
	}

	if out := s.run(t, append([]string{"share", "--stop"}, s.store...)...); !strings.Contains(out, "1 shared connection has ended") {
		t.Errorf("share --stop says %q", out)
	}
	second.echoAgain(t)
	third.echoAgain(t)
	s.checkLogins(t, 3)
	s.onlyShare(t)
	s.checkStarts(t, 3)

	alone := s.start(t, "--share", "off")
	alone.echo(t)
	s.checkLogins(t, 4)
}

// A host that ends its server with all processes that this has started does not find the shared
// connection.
func TestHostEndsTheTree(t *testing.T) {
	s := newSite(t)
	first, second := s.start(t), s.start(t)
	first.echo(t)
	second.echo(t)
	share := s.onlyShare(t)
	status := s.run(t, append([]string{"status"}, s.store...)...)
	match := regexp.MustCompile(`(?m)^proxy (\d+) to `).FindStringSubmatch(status) // the first one
	if match == nil {
		t.Fatalf("status says %s", status)
	}
	s.runProgram(t, "taskkill", "/t", "/f", "/pid", match[1])
	s.start(t).echo(t)
	if pid := s.onlyShare(t); pid != share {
		t.Errorf("the shared connection is that of process %s, not of %s any more", pid, share)
	}
	s.checkLogins(t, 1)
}

// Proxies leave a process that is suspended, with one login. When it goes on, it ends.
func TestSuspended(t *testing.T) {
	s := newSite(t)
	first, second := s.start(t), s.start(t)
	first.echo(t)
	second.echo(t)
	share := s.onlyShare(t)
	suspend := filepath.Join(s.dir, "suspend.exe")
	s.buildPackage(t, suspend, "./testdata/suspend")
	s.runProgram(t, suspend, "suspend", share)
	first.echoAgain(t) // what is under way is lost
	second.echoAgain(t)
	s.checkLogins(t, 2)
	s.runProgram(t, suspend, "resume", share)
	openssh.Eventually(t, "the end of the process that was suspended", func() bool { return len(s.sockets(t)) == 1 })
	if pid := s.onlyShare(t); pid == share {
		t.Errorf("process %s goes on", share)
	}
	first.echo(t)
	second.echo(t)
	s.checkLogins(t, 2)
}

// Eight proxies that start at once are one login.
func TestEightAtOnce(t *testing.T) {
	s := newSite(t)
	hosts := make([]*host, 8)
	var starting sync.WaitGroup
	for i := range hosts {
		starting.Go(func() {
			hosts[i] = s.start(t)
			hosts[i].echo(t)
		})
	}
	starting.Wait()
	s.checkLogins(t, 1)
	s.onlyShare(t)
	s.checkStarts(t, 1)
}

// A connection that nothing uses ends, and its name goes with it.
func TestUnused(t *testing.T) {
	s := newSite(t)
	h := s.start(t, "--share-idle", "1")
	h.echo(t)
	h.close()
	openssh.Eventually(t, "the end of the socket's name", func() bool { return len(s.sockets(t)) == 0 })
	openssh.Eventually(t, "the end of the process", func() bool {
		return strings.Contains(s.sharesLog(), "shared connection ended")
	})
	s.checkLogins(t, 1)
}

// A newer program starts a connection of its own. The older one serves its streams to their end.
func TestUpgrade(t *testing.T) {
	s := newSite(t)
	old := s.start(t)
	old.echo(t)
	share := s.onlyShare(t)
	newer := filepath.Join(s.dir, "newer.exe")
	s.build(t, newer, "v0.0.2")
	fresh := s.startProgram(t, newer)
	fresh.echo(t)
	old.echo(t)
	s.checkLogins(t, 2)
	fresh.echo(t)
	if pid := s.onlyShare(t); pid == share {
		t.Errorf("the shared connection of process %s was not replaced", share)
	}
	s.checkLogins(t, 2)
}

// checkStarts compares the number of shared connections that were started so far.
func (s *site) checkStarts(t *testing.T, want int) {
	t.Helper()
	if got := strings.Count(s.sharesLog(), "shared connection started"); got != want {
		t.Errorf("%d shared connections were started, want %d", got, want)
	}
}

func (s *site) sharesLog() string {
	text, _ := os.ReadFile(s.shares)
	return string(text)
}

// sockets are the names that stand for named pipes of shared connections.
func (s *site) sockets(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "state", "run", "shared", "*.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
