//go:build linux

package share_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// Fifty proxies that a host starts at once are one login.
func TestFiftyAtOnce(t *testing.T) {
	t.Parallel()
	c := newCrew(t, machines.SSHDOptions{})
	c.start(50)
	c.checkLogins(1)
	c.share()
	c.end()
}

// Proxies to which the host has not written yet have started the process. It has not logged in, and
// serves them when the host writes.
func TestBeforeTheFirstLine(t *testing.T) {
	t.Parallel()
	c := newCrew(t, machines.SSHDOptions{})
	started := c.launch(3)
	machines.Poll(t, func() bool { return strings.Contains(c.log(), "shared connection started") }, "the process to be there")
	before := c.share()
	c.checkLogins(0)
	for i, p := range started {
		p.initialize(t)
		p.echo(t, fmt.Sprintf("after the first line %d", i))
	}
	c.checkLogins(1)
	if now := c.share(); now != before {
		t.Errorf("process %d, and %d before the first line", now, before)
	}
	c.end()
}

// The connection grows too old while calls are in flight. They come to their end, and who needs a
// connection later logs in anew, once.
func TestTooOld(t *testing.T) {
	t.Parallel()
	const age = 6 * time.Second
	c := newCrew(t, machines.SSHDOptions{}, "--share-max", age.String())
	began := time.Now()
	c.start(crewSize)
	var held []*call
	for i, p := range c.proxies {
		held = append(held, p.send("hold", fmt.Sprintf("held %d", i)))
	}
	old := c.proxies
	machines.Poll(t, func() bool { return strings.Contains(c.log(), `why="too old"`) }, "the connection to drain")
	c.start(2) // while it drains; the others call, too
	close(c.up.release)
	for i, p := range old {
		if call := p.await(t, held[i]); call.fault != "" {
			t.Errorf("a call in flight: %s", call.fault)
		}
	}
	if got, most := c.logins(), 1+int(time.Since(began)/age); got < 2 || got > most {
		t.Errorf("%d logins, want 2 to %d", got, most)
	}
	t.Logf("%d logins, %d processes of shared connections after the calls", c.logins(), len(c.shares()))
	c.end()
}

// A connection that takes no new streams is stopped, with calls in flight. They are answered, and
// do not wait for it.
func TestDrainsAndIsStopped(t *testing.T) {
	t.Parallel()
	c := newCrew(t, machines.SSHDOptions{})
	c.start(crewSize)
	var held []*call
	for i, p := range c.proxies {
		held = append(held, p.send("hold", fmt.Sprintf("held %d", i)))
	}
	machines.Poll(t, func() bool { return c.up.held.Load() == crewSize }, "all calls to be held")
	old := c.share()
	c.remove("sallyport/shared/*.sock")
	machines.Poll(t, func() bool { return strings.Contains(c.log(), "takes no new stream") }, "the connection to drain")
	for i, p := range c.proxies {
		p.echo(t, fmt.Sprintf("new %d", i))
	}
	c.checkLogins(2)
	stopped := time.Now()
	syscall.Kill(old, syscall.SIGSTOP)
	var took []time.Duration
	for i, p := range c.proxies {
		p.await(t, held[i])
		took = append(took, held[i].answered.Sub(stopped))
	}
	t.Logf("calls in flight are answered after %v, with %q", spanOf(took), held[0].fault)
	close(c.up.release)
	syscall.Kill(old, syscall.SIGCONT)
	c.checkLogins(2)
	c.end()
}

// log is what the shared connections and the proxies have logged.
func (c *crew) log() string {
	text, _ := os.ReadFile(filepath.Join(c.home, "log"))
	return string(text)
}

// A connection that nobody uses ends. The next call makes another one, and the host sees nothing of
// it.
func TestUnused(t *testing.T) {
	t.Parallel()
	c := newCrew(t, machines.SSHDOptions{}, "--share-idle", "1s")
	c.up.beBrief()
	c.start(crewSize)
	c.checkLogins(1)
	machines.Poll(t, func() bool { return len(c.shares()) == 0 }, "the end of the connection")
	for _, p := range c.proxies {
		p.stderr.forget()
	}
	for i, p := range c.proxies {
		p.echo(t, fmt.Sprintf("again %d", i))
	}
	c.checkLogins(2)
	for i, p := range c.proxies {
		if told := p.stderr.toldPerson(); len(told) > 0 {
			t.Errorf("proxy %d told the person %q", i, told)
		}
	}
	c.end()
}

// A host that ends is not worth a login: the upstream is told only over a connection that is there.
func TestEndAfterStop(t *testing.T) {
	t.Parallel()
	c := newCrew(t, machines.SSHDOptions{})
	c.start(2)
	if out, status := c.run("share", "--stop"); status != machines.StatusDone {
		t.Fatalf("share --stop: status %d: %s", status, out)
	}
	machines.Poll(t, func() bool { return len(c.shares()) == 0 }, "the end of the connection")
	before := c.logins() // a GET stream may have come back meanwhile
	c.end()
	c.checkLogins(before)
}

// Where no socket can be made, each proxy dials alone. It says so once, at most.
func TestNoSocket(t *testing.T) {
	t.Parallel()
	for name, obstruct := range map[string]func(*crew){
		"no directory": func(c *crew) {
			c.env = append(c.env, "XDG_RUNTIME_DIR="+c.file(), "TMPDIR="+c.file(), "XDG_STATE_HOME="+c.file())
		},
		"path too long": func(c *crew) {
			long := filepath.Join(c.home, strings.Repeat("long/", 30))
			if err := os.MkdirAll(long, 0o700); err != nil {
				c.t.Fatal(err)
			}
			c.env = append(c.env, "XDG_RUNTIME_DIR="+long, "TMPDIR="+long, "XDG_STATE_HOME="+long)
		},
		"no room for files": func(c *crew) {
			c.fillDirectory()
			c.env = append(c.env, "TMPDIR="+c.file(), "XDG_STATE_HOME="+c.file())
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			c := newCrew(t, machines.SSHDOptions{})
			obstruct(c)
			c.start(3)
			c.checkLogins(3)
			c.hop.Drop()
			for i, p := range c.proxies {
				machines.Poll(t, func() bool { return p.await(t, p.send("echo", fmt.Sprint("after ", i, time.Now()))).fault == "" }, "a proxy to heal")
				warned := strings.Count(p.stderr.String(), "without a shared connection")
				t.Logf("proxy %d: %d warnings; told %q", i, warned, p.stderr.toldPerson())
				if warned > 1 {
					t.Errorf("proxy %d warned %d times", i, warned)
				}
			}
			c.checkLogins(6)
			c.end()
		})
	}
}

// file is one where a directory is wanted.
func (c *crew) file() string { return machines.WriteFile(c.t, c.home, "file", "", 0o600) }

// fillDirectory uses up the files that the file system of the sockets may have.
func (c *crew) fillDirectory() {
	c.t.Helper()
	for n := 0; ; n++ {
		if os.WriteFile(filepath.Join(filepath.Dir(c.runtime), fmt.Sprint("ballast", n)), nil, 0o600) != nil {
			return
		}
	}
}
