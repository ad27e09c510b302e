//go:build linux

package share_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"golang.org/x/sys/unix"
)

const (
	// noticeLimit and healLimit are what is promised. A busy machine may take three times as long.
	noticeLimit, healLimit = 5 * time.Second, 2 * time.Second
	leeway                 = 3
	// asleep is how long something stands still.
	asleep = 20 * time.Second
)

// fault is something that happens to a shared connection.
type fault struct {
	name   string
	strike func(*crew)
	// mend takes the fault away after lasts. It is nil if a new connection can be made at once.
	mend  func(*crew)
	lasts time.Duration
	// beside tells that a new connection can be made before mend.
	beside bool
	// asleep tells that the proxies stand still as well: they notice after mend.
	asleep bool
	// logins is how many more there are than before.
	logins int
	// slow tells that only silence gives the fault away: a connection that nobody cuts has the
	// time that it has without sharing.
	slow bool
	// stays tells that the fault is mended only when it has been noticed.
	stays bool
	// pressed tells that megabytes are on their way meanwhile. How soon a call is answered then
	// says little about the connection.
	pressed bool
	// unnoticed tells that nothing is lost.
	unnoticed bool
	// survives tells that the calls in flight go on.
	survives bool
	// alone tells that each proxy dials for itself.
	alone bool
	// named tells that each call is a new connection from the bastion, to a name. A bastion that is
	// silent may be looking up the name, so it has more time, and there may be a login beside it.
	named bool
	// idle tells that nobody makes a call before mend.
	idle bool
}

const crewSize = 8

var faults = []fault{
	{name: "killed", strike: func(c *crew) { c.signalShares(syscall.SIGKILL) }, logins: 1},
	{name: "stopped and continued", strike: func(c *crew) { c.signalShares(syscall.SIGSTOP) }, logins: 1,
		lasts: asleep, mend: func(c *crew) { c.signalShares(syscall.SIGCONT) }, beside: true},
	{name: "machine asleep", strike: func(c *crew) { c.sleep() }, asleep: true, unnoticed: true, survives: true,
		lasts: asleep, mend: func(c *crew) { c.wake() }},
	{name: "machine asleep, link dead after", strike: func(c *crew) { c.sleep(); c.hop.Drop() }, asleep: true, logins: 1,
		lasts: asleep, mend: func(c *crew) { c.wake() }},
	{name: "link dead", strike: func(c *crew) { c.hop.Drop() }, logins: 1},
	{name: "sshd away for 3 s", strike: func(c *crew) { c.hop.Close() }, logins: 1,
		lasts: 3 * time.Second, mend: func(c *crew) { c.hop.Reopen(c.t) }},
	{name: "packets dropped for 3 s", strike: func(c *crew) { c.cut() }, unnoticed: true, survives: true,
		lasts: 3 * time.Second, mend: func(c *crew) { c.uncut() }},
	{name: "packets dropped for 30 s", strike: func(c *crew) { c.cut() }, logins: 1,
		lasts: 30 * time.Second, mend: func(c *crew) { c.uncut() }},
	{name: "packets dropped for 30 s, idle", strike: func(c *crew) { c.cut() }, logins: 1, idle: true,
		lasts: 30 * time.Second, mend: func(c *crew) { c.uncut() }},
	{name: "sshd stopped", strike: func(c *crew) { c.hop.Pause() }, logins: 1, beside: true,
		stays: true, mend: func(c *crew) { c.hop.Continue() }},
	{name: "sshd stopped, server by name", strike: func(c *crew) { c.hop.Pause() }, logins: 1, beside: true,
		slow: true, stays: true, named: true, mend: func(c *crew) { c.hop.Continue() }},
	{name: "sshd stopped for 2 s", strike: func(c *crew) { c.hop.Pause() }, unnoticed: true, survives: true,
		lasts: 2 * time.Second, mend: func(c *crew) { c.hop.Continue() }},
	{name: "memory limit", strike: func(c *crew) { c.limitMemory(); c.press() }, logins: 1, pressed: true},
	{name: "address space limit", strike: func(c *crew) { c.limit(unix.RLIMIT_AS, c.sizeOf("VmSize")); c.press() }, logins: 1,
		slow: true, pressed: true}, // the process lives for some seconds
	{name: "descriptor limit", strike: func(c *crew) { c.limit(unix.RLIMIT_NOFILE, c.openFiles()); c.press() }, logins: 1,
		survives: true, pressed: true},
	{name: "disk full, then killed", strike: func(c *crew) { c.fillDisk(); c.signalShares(syscall.SIGKILL) }, logins: 1},
	{name: "directory removed", strike: func(c *crew) { c.remove("sallyport/shared") }, logins: 1, survives: true},
	{name: "socket removed", strike: func(c *crew) { c.remove("sallyport/shared/*.sock") }, logins: 1, survives: true},
	{name: "XDG_RUNTIME_DIR removed", strike: func(c *crew) { c.remove("") }, logins: 1, survives: true},
	{name: "alone: link dead", strike: func(c *crew) { c.hop.Drop() }, alone: true},
	{name: "alone: sshd away for 3 s", strike: func(c *crew) { c.hop.Close() }, alone: true,
		lasts: 3 * time.Second, mend: func(c *crew) { c.hop.Reopen(c.t) }},
	{name: "alone: packets dropped for 3 s", strike: func(c *crew) { c.cut() }, alone: true, unnoticed: true, survives: true,
		lasts: 3 * time.Second, mend: func(c *crew) { c.uncut() }},
	{name: "alone: packets dropped for 30 s", strike: func(c *crew) { c.cut() }, alone: true,
		lasts: 30 * time.Second, mend: func(c *crew) { c.uncut() }},
	{name: "alone: packets dropped for 30 s, idle", strike: func(c *crew) { c.cut() }, alone: true, idle: true,
		lasts: 30 * time.Second, mend: func(c *crew) { c.uncut() }},
	// Alone, a server by name may be taken for one that looks a name up, for 45 s.
	{name: "alone: sshd stopped", strike: func(c *crew) { c.hop.Pause() }, alone: true,
		stays: true, mend: func(c *crew) { c.hop.Continue() }},
	{name: "logout --all", strike: func(c *crew) { c.run("logout", "--all") }, logins: 1},
	{name: "share --stop", strike: func(c *crew) { c.run("share", "--stop") }, logins: 1},
}

// Whatever happens to the shared connection, each proxy notices, goes on with a new one, and there
// is one login among all. What was in flight is answered once.
func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			f.run(t)
		})
	}
}

func (f fault) run(t *testing.T) {
	first, more, args := 1, f.logins, []string(nil)
	if f.alone {
		first, args = crewSize, []string{"--share", "off"}
		if !f.unnoticed {
			more = crewSize
		}
	}
	c := newCrew(t, machines.SSHDOptions{}, args...)
	if f.named {
		c.args[len(c.args)-1] = strings.Replace(c.up.url, "127.0.0.1", "localhost", 1)
		c.up.beBrief()
	}
	c.start(crewSize)
	c.checkLogins(first)
	var held []*call
	for i, p := range c.proxies {
		held = append(held, p.send("hold", fmt.Sprintf("held %d", i)))
	}
	machines.Poll(t, func() bool { return c.up.held.Load() == crewSize }, "all calls to be held")
	var work *work
	begin := func() { work = c.work(c.proxies[1:]) } // the first one is idle, but for its call in flight
	if !f.idle {
		begin()
	}
	before := c.logins()

	struck := time.Now()
	f.strike(c)
	able, from := struck, struck
	var noticed span
	if f.stays {
		noticed = f.awaitNotice(c, from)
	}
	if f.mend != nil {
		<-time.After(f.lasts)
		if f.asleep { // nobody can notice before, and all may at once
			from = time.Now()
		}
		if f.mend(c); !f.beside {
			able = time.Now()
		}
	}
	if f.idle {
		begin()
	}
	if !f.stays {
		noticed = f.awaitNotice(c, from)
	}
	healed := work.awaitHealed(t, c, able, from, f.unnoticed)
	c.proxies[0].echo(t, "idle") // it needs no second try
	close(c.up.release)
	answered, failed := 0, 0
	for i, call := range held {
		if c.proxies[i].await(t, call); call.fault == "" {
			answered++
		} else {
			failed++
		}
	}
	work.stop()
	t.Logf("| %s | %v | %v | %d | %d answered, %d errors | %d other errors |", f.name, noticed, healed, c.logins()-before, answered, failed, work.failed())
	if got := c.logins(); got < before+more || got > before+more && (!f.named || got > before+more+1) {
		t.Errorf("%d logins, want %d", got, before+more)
	}
	if (f.survives && failed > 0) || (!f.survives && answered > 0) {
		t.Errorf("of the calls in flight, %d were answered and %d failed: %s", answered, failed, held[0].fault)
	}
	if noticed.max > leeway*noticeLimit && !f.slow && !f.pressed && !f.alone {
		t.Errorf("noticed after %v", noticed)
	}
	if healed.max > leeway*healLimit && !f.pressed && !f.alone { // the rows alone are there to compare with
		t.Errorf("healed after %v", healed)
	}
	if !f.alone && !f.survives {
		c.share() // one that drains lives as long as its streams
	}
	c.end()
}

// awaitNotice waits until each proxy has written that its connection is lost.
func (f fault) awaitNotice(c *crew, from time.Time) span {
	c.t.Helper()
	if f.unnoticed {
		return span{}
	}
	var took []time.Duration
	for _, p := range c.proxies {
		machines.Poll(c.t, func() bool { return !p.stderr.lostAfter(from).IsZero() }, "a proxy to notice")
		took = append(took, p.stderr.lostAfter(from).Sub(from))
	}
	return spanOf(took)
}

// work is proxies that make one call after the other.
type work struct {
	over    chan struct{} // closed by stop
	workers sync.WaitGroup

	mu    sync.Mutex
	calls map[*proxy][]*call // that were answered
}

// workPause is the time between two calls of one proxy.
const workPause = 50 * time.Millisecond

// work has proxies make calls until stop.
func (c *crew) work(proxies []*proxy) *work {
	w := &work{over: make(chan struct{}), calls: map[*proxy][]*call{}}
	for i, p := range proxies {
		w.workers.Go(func() {
			for n := 0; ; n++ {
				message := fmt.Sprintf("work %d %d", i, n)
				call := p.send("echo", message)
				select {
				case <-call.done:
				case <-time.After(2 * machines.Patience):
					c.t.Errorf("a call has no answer; stderr:\n%s", p.stderr)
					return
				}
				if call.fault == "" && call.text != "Echo: "+message {
					c.t.Errorf("%q was answered with %q", message, call.text)
				}
				w.mu.Lock()
				w.calls[p] = append(w.calls[p], call)
				w.mu.Unlock()
				select {
				case <-w.over:
					return
				case <-time.After(workPause):
				}
			}
		})
	}
	return w
}

// stop ends the work.
func (w *work) stop() {
	close(w.over)
	w.workers.Wait()
}

// failed counts the calls that were answered with an error.
func (w *work) failed() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, calls := range w.calls {
		for _, call := range calls {
			if call.fault != "" {
				n++
			}
		}
	}
	return n
}

// awaitHealed waits until each proxy at work has got a result for a call that it was sent after it
// has noticed the fault. The times count from able, or from the notice if that came later.
func (w *work) awaitHealed(t *testing.T, c *crew, able, from time.Time, unnoticed bool) span {
	t.Helper()
	var took []time.Duration
	for _, p := range c.proxies[1:] {
		since := able
		if at := p.stderr.lostAfter(from); !unnoticed && at.After(able) {
			since = at
		}
		var good *call
		machines.Poll(t, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, call := range w.calls[p] {
				if call.fault == "" && call.answered.After(since) {
					good = call
					return true
				}
			}
			return false
		}, "a proxy to heal")
		took = append(took, good.answered.Sub(since))
	}
	return spanOf(took)
}

// sleep stops all processes of the person, and wake lets them go on.
func (c *crew) sleep() {
	for _, pid := range c.processes() {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
}

func (c *crew) wake() {
	for _, pid := range c.processes() {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// cut has the network drop all packets, and uncut ends that. A queue without room drops what comes.
func (c *crew) cut()   { c.trafficControl("add", "dev", "lo", "root", "pfifo", "limit", "0") }
func (c *crew) uncut() { c.trafficControl("del", "dev", "lo", "root") }

func (c *crew) trafficControl(args ...string) {
	c.t.Helper()
	machines.NeedProgram(c.t, "tc", "iproute2")
	if out, err := c.ns.Command(c.t, "tc", append([]string{"qdisc"}, args...)...).CombinedOutput(); err != nil {
		c.t.Fatalf("tc %q: %v: %s", args, err, out)
	}
}

// press has the shared connection carry much more, on new streams.
func (c *crew) press() {
	for i, p := range c.proxies {
		for n := range 4 {
			go func() { // ends with the test
				<-p.send("hold", fmt.Sprintf("press %d %d %s", i, n, strings.Repeat("x", 300_000))).done
			}()
		}
	}
}

// limit sets a limit of the shared connection's process.
func (c *crew) limit(resource int, value uint64) {
	c.t.Helper()
	if err := unix.Prlimit(c.share(), resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
		c.t.Fatal(err)
	}
}

// sizeOf returns a size of that process, in bytes.
func (c *crew) sizeOf(name string) uint64 {
	c.t.Helper()
	_, rest, _ := strings.Cut(machines.ReadFile(c.t, fmt.Sprintf("/proc/%d/status", c.share())), name+":")
	var kilobytes uint64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		c.t.Fatal(err)
	}
	return kilobytes << 10
}

// openFiles counts the descriptors of that process.
func (c *crew) openFiles() uint64 {
	c.t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.share()))
	if err != nil {
		c.t.Fatal(err)
	}
	return uint64(len(files))
}

// limitMemory puts that process into a control group whose memory is used up soon.
func (c *crew) limitMemory() {
	c.t.Helper()
	dir := fmt.Sprintf("/sys/fs/cgroup/memory/sallyport-test-%d", c.share())
	if err := os.Mkdir(dir, 0o755); err != nil {
		c.t.Skip(err)
	}
	c.t.Cleanup(func() {
		machines.Poll(c.t, func() bool { return os.Remove(dir) == nil }, "the end of the control group")
	})
	for _, setting := range [][2]string{{"memory.limit_in_bytes", "262144"}, {"cgroup.procs", fmt.Sprint(c.share())}} {
		if err := os.WriteFile(filepath.Join(dir, setting[0]), []byte(setting[1]), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
}

// fillDisk leaves no room on the file system of the sockets.
func (c *crew) fillDisk() {
	c.t.Helper()
	file, err := os.Create(filepath.Join(filepath.Dir(c.runtime), "ballast"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
}

// remove removes what the pattern matches below XDG_RUNTIME_DIR.
func (c *crew) remove(pattern string) {
	c.t.Helper()
	paths, _ := filepath.Glob(filepath.Join(c.runtime, pattern))
	if len(paths) == 0 {
		c.t.Fatalf("nothing is called %s", pattern)
	}
	for _, path := range paths {
		// The proxies are quick to put a new socket there.
		machines.Poll(c.t, func() bool { return os.RemoveAll(path) == nil }, "the end of "+path)
	}
}
