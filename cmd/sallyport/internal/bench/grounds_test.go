//go:build linux

package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// grounds are where the trials of the shared connection take place.
type grounds struct {
	t     *testing.B
	sites map[string]*sharedSite // by round trip and sshd_config
}

// sharedSite is a site with an upstream behind the hops.
type sharedSite struct {
	*site
	upstream string
	ca       *machines.Authority
}

// at returns the site with a round trip. It is made when the first trial wants it. config holds
// lines of sshd_config(5).
func (g *grounds) at(roundTrip time.Duration, config ...string) *sharedSite {
	key := fmt.Sprint(roundTrip, config)
	if g.sites[key] == nil {
		g.sites[key] = newSharedSite(g.t, roundTrip, append(slices.Clip(config), "LogLevel VERBOSE")...)
	}
	return g.sites[key]
}

// newSharedSite makes a site. config holds lines of sshd_config(5).
func newSharedSite(t testing.TB, roundTrip time.Duration, config ...string) *sharedSite {
	t.Helper()
	near, far, ip := apart(t, roundTrip, internetPackets)
	s := &sharedSite{site: newSite(t, near, far, ip, config...)}
	s.upstream, s.ca = startUpstream(t, far, "127.0.0.1") // the hops alone can reach it
	return s
}

// via is sallyport, in a home of its own, through the first hop.
func (s *sharedSite) via(t testing.TB, sharing side) contender {
	t.Helper()
	return sallyport(t, s.upstream, s.ca, append(sharing.flags(t), "-F", s.config, "--via", s.hops[0])...)
}

// accepted is the line of sshd's log for a login.
var accepted = regexp.MustCompile(`(?m)^Accepted \S+ for `)

// arrivals are how many logins the first hop has granted so far, and how many connections have come
// there, those included that it has dropped at once (MaxStartups). Its log tells.
func (s *sharedSite) arrivals() (logins, connections int) {
	log := s.servers[0].Log.String()
	return len(accepted.FindAllString(log, -1)), strings.Count(log, "Connection from ") + strings.Count(log, "past MaxStartups")
}

// fleet starts so many processes at once, in homes that hold tokens and no shared connection, and
// then as many again, as when the hosts are restarted. config holds lines of sshd_config(5).
func (g *grounds) fleet(count int, roundTrip time.Duration, config ...string) *trial {
	return &trial{run: func(t testing.TB) map[side]reached {
		s := g.at(roundTrip, config...)
		all := map[side]reached{}
		for _, sharing := range ours(t) {
			fleet := s.crew(t, sharing)
			r := s.coldFleet(t, count, fleet)
			r.Restarted = drive(t, s.near, work{Calls: 1, Fleet: count}, fleet)[0].Served
			all[sharing] = r
			endShares(t)
		}
		return all
	}}
}

// crew is via with a home that holds tokens and no shared connection.
func (s *sharedSite) crew(t testing.TB, sharing side, env ...string) contender {
	t.Helper()
	first := s.via(t, alone)
	first.Env = append(first.Env, env...)
	drive(t, s.near, work{Calls: 1}, first)
	fleet := s.via(t, sharing)
	fleet.Env = first.Env
	return fleet
}

// coldFleet starts a fleet. The login of crew is forgotten: where there is no shared connection,
// nobody has logged in within the last ten minutes (--share-idle).
func (s *sharedSite) coldFleet(t testing.TB, count int, fleet contender) (r reached) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(fleet.home(), ".local/state/sallyport/logins")); err != nil {
		t.Fatal(err)
	}
	logins, connections := s.arrivals()
	r.figures = drive(t, s.near, work{Calls: 1, Fleet: count}, fleet)[0]
	r.Logins, r.Connections = s.arrivals()
	r.Logins -= logins
	r.Connections -= connections
	return r
}

// home is the home directory of the process.
func (c contender) home() string {
	for _, variable := range c.Env {
		if dir, ok := strings.CutPrefix(variable, "HOME="); ok {
			return dir
		}
	}
	return ""
}

// factor is a second factor.
type factor struct {
	name string
	// pam are the auth lines of PAM. In them %s is a directory with the programs push, judge and
	// askpass, each of which writes a line to a file "prompts" there when it asks the person.
	pam string
}

var (
	// pushFactor is a message to the person's phone.
	pushFactor = factor{"push", "auth required pam_exec.so stdout %[1]s/push\n"}
	// codeFactor is a code, which SSH_ASKPASS asks for. pam_stress of Debian's libpam-modules takes
	// it, and pam_exec checks it.
	codeFactor = factor{"code", "auth required pam_stress.so\nauth requisite pam_exec.so expose_authtok %[1]s/judge\n"}
)

// twoFactors is fleet behind a bastion that takes a key and asks the person by PAM. The person
// takes a second to answer.
func (g *grounds) twoFactors(count int, f factor) *trial {
	makeSite := sync.OnceValue(func() *sharedSite {
		return newSharedSite(g.t, 0, "LogLevel INFO", "PermitRootLogin yes", "UsePAM yes", "KbdInteractiveAuthentication yes",
			"AuthenticationMethods publickey,keyboard-interactive")
	})
	return &trial{run: func(t testing.TB) map[side]reached {
		machines.NeedPAM(t)
		dir := machines.OpenDir(t)
		note := "#!/bin/sh\necho asked >>" + dir + "/prompts\nsleep 1\n"
		machines.WriteFile(t, dir, "push", note+"echo Pushed a login request to your phone\n", 0o755)
		askpass := machines.WriteFile(t, dir, "askpass", note+"echo 123456\n", 0o755)
		machines.WriteFile(t, dir, "judge", "#!/bin/sh\n[ \"$(tr -d '\\000')\" = 123456 ]\n", 0o755)
		machines.WriteFile(t, dir, "prompts", "", 0o666)
		machines.WriteFile(t, "/etc/pam.d", "sshd", fmt.Sprintf(f.pam, dir)+ // of the tests' own machine
			"auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n", 0o644)
		prompts := func() int { return strings.Count(machines.ReadFile(t, filepath.Join(dir, "prompts")), "\n") }
		s, all := makeSite(), map[side]reached{}
		for _, sharing := range ours(t) {
			fleet := s.crew(t, sharing, "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force")
			asked := prompts()
			r := s.coldFleet(t, count, fleet)
			r.Prompts = prompts() - asked
			all[sharing] = r
			endShares(t)
		}
		return all
	}}
}

// warmStart starts single processes while a connection stands, that of a ControlMaster or a shared
// one through which others use the same server. Those of alone find none, and show what such a
// connection spares.
func (g *grounds) warmStart(hops int, roundTrip time.Duration) *trial {
	const starts = 5
	return &trial{run: func(t testing.TB) map[side]reached {
		s := g.at(roundTrip)
		socket, stop := s.startMaster(t, hops)
		defer stop()
		defer endShares(t)
		start := map[side]func() time.Duration{
			realSSH: func() time.Duration { return s.startRiding(t, hops, socket) },
			alone:   func() time.Duration { return s.startSallyport(t, hops, alone) },
			shared:  func() time.Duration { return s.startSallyport(t, hops, shared) },
		}
		contenders := append([]side{realSSH}, ours(t)...)
		times := map[side][]time.Duration{}
		for i := range starts + 1 {
			for _, c := range contenders {
				times[c] = append(times[c], start[c]())
			}
			if i == 0 && slices.Contains(contenders, shared) {
				s.warmUp(t, hops)
			}
		}
		all := map[side]reached{}
		for c, list := range times {
			all[c] = reached{First: median(list[1:])} // the first one may have had to log in
		}
		return all
	}}
}

// calls makes calls through connections that stand. On the side of ssh, sallyport goes directly to
// where `ssh -L` listens.
func (g *grounds) calls(roundTrip time.Duration, w work) *trial {
	return &trial{run: func(t testing.TB) map[side]reached {
		s := g.at(roundTrip)
		defer s.startForward(t, s.upstream).Stop()
		defer endShares(t)
		names := append([]side{realSSH}, ours(t)...)
		contenders := []contender{sallyport(t, forwardAddr, s.ca)}
		for _, sharing := range names[1:] {
			contenders = append(contenders, s.via(t, sharing))
		}
		all := map[side]reached{}
		for i, f := range drive(t, s.near, w, contenders...) {
			all[names[i]] = reached{figures: f}
		}
		return all
	}}
}

// bulk moves bytes through connections that stand.
func (g *grounds) bulk(bytes int64) *trial {
	rate := func(took time.Duration) float64 { return float64(bytes) / (1 << 20) / took.Seconds() }
	return &trial{run: func(t testing.TB) map[side]reached {
		s := g.at(0)
		defer endShares(t)
		down, up := load{Op: opSource, Count: bytes}, load{Op: opSink, Count: bytes}
		if slices.Contains(ours(t), shared) {
			down.Socket = s.share(t)
			up.Socket = down.Socket
		}
		downs, ups := s.allWays(t, down), s.allWays(t, up)
		all := map[side]reached{}
		for i := range downs {
			all[sides[i]] = reached{Down: rate(downs[i]), Up: rate(ups[i])}
		}
		return all
	}}
}

// share has a proxy start a shared connection through the first hop, and returns its socket.
func (s *sharedSite) share(t testing.TB) string {
	t.Helper()
	first := s.via(t, shared)
	drive(t, s.near, work{Calls: 1}, first)
	if sockets, _ := filepath.Glob(first.home() + "/sallyport/shared/*.sock"); len(sockets) == 1 {
		return sockets[0]
	}
	t.Fatal("there is not one shared connection")
	return ""
}

// flags are those of sallyport for a side. A build that knows nothing of sharing gets none.
func (s side) flags(t testing.TB) []string {
	t.Helper()
	if !slices.Contains(ours(t), shared) {
		return nil
	}
	return strings.Fields(string(s))
}

var knowsShare struct {
	sync.Once
	yes bool
}

// ours are the sides of sallyport that this build has.
func ours(t testing.TB) []side {
	t.Helper()
	knowsShare.Do(func() {
		help, err := exec.Command(machines.Sallyport(t), "proxy", "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		knowsShare.yes = strings.Contains(string(help), " --share=")
	})
	if knowsShare.yes {
		return []side{alone, shared}
	}
	return []side{alone}
}

// shares are the processes `sallyport share` of a build, which is the bench's own.
func shares(program string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if exe, err := os.Readlink(dir + "/exe"); err != nil || exe != program {
			continue
		}
		line, err := os.ReadFile(dir + "/cmdline")
		if args := strings.Split(string(line), "\x00"); err == nil && len(args) > 1 && args[1] == "share" {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// shareMemory is the memory of these processes in MiB.
func shareMemory(program string) (total float64, err error) {
	for _, pid := range shares(program) {
		mib, err := proportional(pid)
		if err != nil {
			return 0, err
		}
		total += mib
	}
	return total, nil
}

// endShares ends these processes: no round may find the connection of another one.
func endShares(t testing.TB) {
	t.Helper()
	program := machines.Sallyport(t)
	for _, pid := range shares(program) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Error(err)
		}
	}
	machines.Poll(t, func() bool { return len(shares(program)) == 0 }, "the shared connections to end")
}
