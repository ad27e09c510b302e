//go:build linux

package processes_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// sharedReport is what `sallyport status --json` prints of shared connections.
type sharedReport struct {
	Proxies []struct {
		PID    int
		Tunnel struct {
			Phase    string
			SharedBy int `json:"shared_by"`
		}
	}
	Shared []struct {
		Socket         string
		Silent         bool
		PID            int
		Started, Since time.Time
		Phase          string
		Hops           []struct{ Alias, Address string }
		Streams        int
		BytesIn        int64   `json:"bytes_in"`
		BytesOut       int64   `json:"bytes_out"`
		RoundTrip      float64 `json:"round_trip_ms"`
		Connections    int
		Attached       int
		EndsAt         time.Time `json:"ends_at"`
		Users          []struct {
			PID     int
			Purpose string
			Aliases []string
			Since   time.Time
		}
		Problem *struct {
			Text  string
			Hints []string
		}
	}
}

// report returns what `sallyport status --json` prints.
func (s *statusStory) report(t *testing.T) (got sharedReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.status(t, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// machine is a command that signs in without a person and logs as a newcomer's does.
func (s *statusStory) machine(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := s.AsMachine(t, args...)
	cmd.Env = append(cmd.Env, "HOME="+s.home, "XDG_RUNTIME_DIR="+s.runtime, "LOG_LEVEL=warn")
	return cmd
}

// proxy is a proxy that signs in without a person and logs as a newcomer's does.
func (s *statusStory) proxy(t *testing.T, args ...string) *machines.Host {
	t.Helper()
	host := machines.StartHost(t, s.machine(t, args...), nil)
	host.Echo(t)
	return host
}

// A newcomer sees nothing of the shared connection until `sallyport status`, which shows what it is
// and who uses it. One that is stopped is said to be silent.
func TestStatusOfSharedConnections(t *testing.T) {
	t.Parallel()
	s := &statusStory{machines.NewSite(t, 1, machines.StartMCP), t.TempDir(), t.TempDir()}
	machines.EndShares(t, s.home)

	var logins []string
	for _, how := range []string{"auto", "off"} {
		p := machines.StartProcess(t, s.machine(t, "login", "--share", how))
		if got := p.Wait(t); got != machines.StatusDone {
			t.Fatalf("login: status %d", got)
		}
		logins = append(logins, p.Err.String())
	}
	if logins[0] != logins[1] {
		t.Errorf("login says %q, and without sharing %q", logins[0], logins[1])
	}
	alone := s.proxy(t, "--share", "off")
	alone.Close(t)
	hosts := []*machines.Host{s.proxy(t), s.proxy(t)}
	for _, host := range hosts {
		if said, want := host.Stderr.String(), alone.Stderr.String(); said != want {
			t.Errorf("a proxy says %q, and without sharing %q", said, want)
		}
	}

	got := s.report(t)
	if len(got.Shared) != 1 || len(got.Proxies) != 2 {
		t.Fatalf("got %+v", got)
	}
	shared, hop := got.Shared[0], s.Hops[0].SSHD
	if shared.Silent || shared.Problem != nil || shared.Phase != "up" || shared.Connections != 1 || shared.RoundTrip <= 0 ||
		shared.BytesIn == 0 || shared.BytesOut == 0 || shared.Attached != 2 || shared.Started.IsZero() || shared.Since.IsZero() ||
		shared.EndsAt.IsZero() {
		t.Errorf("got %+v", shared)
	}
	if len(shared.Hops) != 1 || shared.Hops[0].Alias != "hop1" || !strings.HasSuffix(shared.Hops[0].Address, "@"+hop.Addr) {
		t.Errorf("hops %+v", shared.Hops)
	}
	for i, p := range got.Proxies {
		if p.Tunnel.Phase != "up" || p.Tunnel.SharedBy != shared.PID {
			t.Errorf("proxy %+v does not name the shared connection %d", p, shared.PID)
		}
		if i >= len(shared.Users) {
			t.Fatalf("users %+v", shared.Users)
		}
		user := shared.Users[i]
		if user.PID != hosts[i].PID() || user.Purpose != s.Gate.URL || !slices.Equal(user.Aliases, []string{"hop1"}) || user.Since.IsZero() {
			t.Errorf("user %+v", user)
		}
	}
	s.checkSharedText(t, shared.PID, hosts)

	if err := syscall.Kill(shared.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, is := range s.report(t).Shared {
		if is.Socket != shared.Socket {
			continue // the proxies have started another one by now
		}
		if !is.Silent || is.PID != 0 || is.Problem == nil || !strings.Contains(is.Problem.Text, "silent") || len(is.Problem.Hints) == 0 {
			t.Errorf("stopped: %+v", is)
		}
	}
	if text := s.status(t); !strings.Contains(text, "shared connection at "+shared.Socket+"\n  problem  ") {
		t.Errorf("stopped:\n%s", text)
	}
}

// checkSharedText looks at what people read.
func (s *statusStory) checkSharedText(t *testing.T, pid int, hosts []*machines.Host) {
	t.Helper()
	text := s.status(t)
	for _, want := range []string{
		fmt.Sprintf(`(?m)^  tunnel   via hop1: up, through the shared connection %d$`, pid),
		fmt.Sprintf(`(?m)^shared connection %d through [^ ,]+@%s, since `, pid, regexp.QuoteMeta(s.Hops[0].SSHD.Addr)),
		`(?m)^  state    up for \S+, round trip [0-9.]+ ms$`,
		`(?m)^  streams  \d+ open, \d+ in all, \S+ \S+ in, \S+ \S+ out$`,
		fmt.Sprintf(`(?m)^  used by  %d via hop1: %s$`, hosts[1].PID(), regexp.QuoteMeta(s.Gate.URL)),
		`(?m)^  ends     in (8h0m0|7h59m\d+)s`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// A directory of shared connections that another user owns is named, and its sockets are not asked.
func TestStatusOfAnotherUsersShares(t *testing.T) {
	t.Parallel()
	machines.NeedMachine(t)
	const stranger = 60_125
	home, runtime := t.TempDir(), t.TempDir()
	dir := filepath.Join(runtime, "sallyport", "shared")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"share"}, {"share", "--stop"}} {
		cmd := machines.Command(t, home, args...)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
		p := machines.StartProcess(t, cmd)
		if got := p.Wait(t); got != machines.StatusDone {
			t.Errorf("%s: status %d", args, got)
		}
		machines.CheckExplained(t, p.Err.String(), dir+" belongs to user 60125", "XDG_RUNTIME_DIR")
	}
}
