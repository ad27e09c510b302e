//go:build !windows

package sshtunnel

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// startMasterOf logs in to h, which is s, by the real ssh. It answers PAM's questions of startPAM,
// and becomes the ControlMaster of h's ControlPath.
func startMasterOf(t *testing.T, s *openssh.Server, h *sshconfig.Host) *exec.Cmd {
	t.Helper()
	answers := filepath.Join(t.TempDir(), "answers")
	writeFile(t, answers, "first\nsecond\n")
	cmd := exec.Command(openssh.Tool(t, "ssh"), "-F", "none", "-M", "-N", "-S", h.ControlPath, "-i", h.IdentityFiles[0],
		"-o", "UserKnownHostsFile="+h.UserKnownHostsFiles[0], "-p", strconv.Itoa(s.Addr.Port), h.User+"@127.0.0.1")
	askpass := writeProgram(t, "askpass", `head -n 1 '`+answers+`'; sed -i 1d '`+answers+"'\n")
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force", "SSH_AUTH_SOCK=")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	m := newMasterHop(h, testLog(t), nil)
	openssh.Eventually(t, "the master answers", func() bool { return m.answers(t.Context()) })
	return cmd
}

// bastionOf returns the configuration of a server of startPAM, with a ControlPath where no master
// is.
func bastionOf(t *testing.T, s *openssh.Server, alias, key string) *sshconfig.Host {
	t.Helper()
	h := s.Host(t, alias, key)
	h.ControlPath = filepath.Join(t.TempDir(), "m")
	return h
}

// reached returns how the hops were reached in turn, such as "bastion tcp".
func (r *recorder) reached() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if rest, ok := strings.CutPrefix(line, "connected "); ok {
			all = append(all, strings.Join(strings.Fields(rest)[:2], " "))
		}
	}
	return all
}

const (
	bothFactors = "AuthenticationMethods publickey,keyboard-interactive"
	keyAlone    = "AuthenticationMethods publickey"
)

// twoAnswers is a person who answers the questions of startPAM, once.
func twoAnswers() *person {
	return &person{answers: map[string][]string{"keyboard-interactive": {"first", "second"}, "passphrase": {"secret"}, "host-key": {"yes"}}}
}

func TestWhenAMasterStandsIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain, sealed := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed")
	openssh.WriteKey(t, plain, "")
	openssh.WriteKey(t, sealed, "secret")
	stale := func(t *testing.T, h *sshconfig.Host) {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.ControlPath, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
	}
	silent := func(t *testing.T, h *sshconfig.Host) {
		ln, err := net.Listen("unix", h.ControlPath)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
	for _, tt := range []struct {
		name    string
		use     MasterUse
		methods string
		// master starts a master; before puts something else in its place.
		master bool
		before func(*testing.T, *sshconfig.Host)
		edit   func(*sshconfig.Host)
		nobody bool
		// asked is how many questions there are, and by how the server was reached.
		asked int
		by    []string
	}{
		{name: "auto", use: MasterAuto, methods: bothFactors, master: true, by: []string{ByTCP, ByControlMaster}},
		{name: "auto, either order", use: MasterAuto, methods: "AuthenticationMethods keyboard-interactive,publickey", master: true, by: []string{ByTCP, ByControlMaster}},
		{name: "auto, nobody there", use: MasterAuto, methods: bothFactors, master: true, nobody: true, by: []string{ByTCP, ByControlMaster}},
		{name: "auto, BatchMode", use: MasterAuto, methods: bothFactors, master: true, by: []string{ByTCP, ByControlMaster},
			edit: func(h *sshconfig.Host) { h.BatchMode = true }},
		{name: "auto, passphrase", use: MasterAuto, methods: keyAlone, master: true, by: []string{ByTCP, ByControlMaster},
			edit: func(h *sshconfig.Host) { h.IdentityFiles = []string{sealed} }},
		{name: "auto, passphrase and BatchMode", use: MasterAuto, methods: keyAlone, master: true, by: []string{ByTCP, ByControlMaster},
			edit: func(h *sshconfig.Host) { h.IdentityFiles, h.BatchMode = []string{sealed}, true }},
		{name: "auto, unknown host key", use: MasterAuto, methods: keyAlone, master: true, by: []string{ByTCP, ByControlMaster},
			edit: func(h *sshconfig.Host) {
				h.UserKnownHostsFiles, h.StrictHostKeyChecking = []string{h.UserKnownHostsFiles[0] + ".new"}, "ask"
			}},
		{name: "auto, nobody is needed", use: MasterAuto, methods: keyAlone, master: true, by: []string{ByTCP}},
		{name: "auto, no master", use: MasterAuto, methods: bothFactors, asked: 2, by: []string{ByTCP}},
		{name: "auto, no ControlPath", use: MasterAuto, methods: bothFactors, asked: 2, by: []string{ByTCP}, edit: func(h *sshconfig.Host) { h.ControlPath = "" }},
		{name: "auto, stale socket", use: MasterAuto, methods: bothFactors, before: stale, asked: 2, by: []string{ByTCP}},
		{name: "auto, silent socket", use: MasterAuto, methods: bothFactors, before: silent, asked: 2, by: []string{ByTCP}},
		{name: "auto, another user's socket", use: MasterAuto, methods: bothFactors, master: true, asked: 2, by: []string{ByTCP},
			edit: func(h *sshconfig.Host) { os.Chown(h.ControlPath, 65534, 65534) }}, // startPAM runs as root
		{name: "never", use: MasterNever, methods: bothFactors, master: true, asked: 2, by: []string{ByTCP}},
		{name: "always", use: MasterAlways, methods: bothFactors, master: true, by: []string{ByControlMaster}},
		{name: "always, nobody is needed", use: MasterAlways, methods: keyAlone, master: true, by: []string{ByControlMaster}},
		{name: "always, no master", use: MasterAlways, methods: bothFactors, asked: 2, by: []string{ByTCP}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startPAM(t, plain, tt.methods)
			lines := openssh.KeyLine(openssh.ReadPublicKey(t, plain+".pub")) + "\n" + openssh.KeyLine(openssh.ReadPublicKey(t, sealed+".pub")) + "\n"
			writeFile(t, filepath.Join(s.Dir, "authorized_keys"), lines)
			h := bastionOf(t, s, "bastion", plain)
			if tt.master {
				startMasterOf(t, s, h)
			}
			if tt.before != nil {
				tt.before(t, h)
			}
			if tt.edit != nil {
				tt.edit(h)
			}
			before, p, r := s.Accepted(), twoAnswers(), &recorder{}
			cfg := Config{
				ControlMaster: tt.use, Ask: p.ask, Trace: r.trace(), Refusals: ledger(t, t.TempDir()),
				Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil },
			}
			if tt.nobody {
				cfg.Ask = nil
			}
			target := echo(t)
			noLeak(t, func() {
				tun := tunnelOf(t, cfg)
				checkEcho(t, mustDial(t, tun, target))
				tun.Close()
			})
			var want []string
			for _, by := range tt.by {
				want = append(want, "bastion "+by)
			}
			if got := r.reached(); !slices.Equal(got, want) || len(p.asked) != tt.asked {
				t.Errorf("reached %q, want %q; asked %+v", got, want, p.asked)
			}
			logins := 0
			if tt.by[0] == ByTCP {
				logins = 1
			}
			if got := s.Accepted() - before; got != logins {
				t.Errorf("%d connections, want %d", got, logins)
			}
		})
	}
}

// A master spares a push, which the server would send when keyboard-interactive begins.
func TestMasterSparesAPush(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "id")
	openssh.WriteKey(t, key, "")
	push := writeProgram(t, "push", `echo pushed >>"$1/pushes"`+"\n")
	auth := "auth required pam_exec.so stdout " + push + " " + dir + "\nauth required pam_permit.so\n" // which has credentials
	s := startPAMOf(t, key, auth, bothFactors)
	h := bastionOf(t, s, "bastion", key)
	startMasterOf(t, s, h)
	tun := tunnelOf(t, Config{ControlMaster: MasterAuto, Chain: chainOf(h)})
	checkEcho(t, mustDial(t, tun, echo(t)))
	if got, err := os.ReadFile(filepath.Join(dir, "pushes")); string(got) != "pushed\n" || err != nil {
		t.Errorf("the person got %q, %v; want the one of the master", got, err)
	}
}

// A master spares a touch, and the person is not told to touch anything.
func TestMasterSparesATouch(t *testing.T) {
	t.Parallel()
	sk := newSecurityKey(t)
	s := openssh.Start(t, sk.pub)
	file := filepath.Join(t.TempDir(), "id_ed25519_sk")
	sk.writeFile(t, file)
	other, _ := startMaster(t)
	h := s.Host(t, "bastion", file)
	h.ControlPath = other.ControlPath
	r, told := &recorder{}, 0
	tun := tunnelOf(t, Config{
		ControlMaster: MasterAuto,
		Trace:         r.trace(),
		Chain:         func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil },
		Notice:        func(Notice) { told++ },
		Getenv:        func(name string) string { return map[string]string{"SSH_SK_HELPER": "/bin/false"}[name] },
	})
	if err := tun.Connect(t.Context()); err != nil || told > 0 {
		t.Errorf("got %v, told %d times", err, told)
	}
	if got, want := r.auth[len(r.auth)-1].Outcome, AuthFailed; got != want {
		t.Errorf("the key was %s, want %s", got, want)
	}
}

// The master of a later hop stands for all hops before it, and is worth more than that of an
// earlier one.
func TestMasterOfOneHopOfTwo(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	for _, tt := range []struct {
		name    string
		methods [2]string
		masters [2]bool
		asked   int
		want    []string
	}{
		{"first", [2]string{bothFactors, keyAlone}, [2]bool{true, false}, 0, []string{"first tcp", "first controlmaster", "second hop"}},
		{"second", [2]string{keyAlone, bothFactors}, [2]bool{false, true}, 0, []string{"first tcp", "second hop", "second controlmaster"}},
		{"second, and the first needs a person", [2]string{bothFactors, keyAlone}, [2]bool{false, true}, 0, []string{"first tcp", "second controlmaster"}},
		{"both", [2]string{bothFactors, bothFactors}, [2]bool{true, true}, 0, []string{"first tcp", "second controlmaster"}},
		{"first, and the second needs a person", [2]string{keyAlone, bothFactors}, [2]bool{true, false}, 2, []string{"first tcp", "second hop"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var servers [2]*openssh.Server
			var chain []*sshconfig.Host
			for i, alias := range []string{"first", "second"} {
				servers[i] = startPAM(t, key, tt.methods[i])
				chain = append(chain, bastionOf(t, servers[i], alias, key))
				if tt.masters[i] {
					startMasterOf(t, servers[i], chain[i])
				}
			}
			open := servers[0].Open()
			p, r, target := twoAnswers(), &recorder{}, echo(t)
			noLeak(t, func() {
				tun := tunnelOf(t, Config{ControlMaster: MasterAuto, Ask: p.ask, Trace: r.trace(),
					Chain: func(context.Context) ([]*sshconfig.Host, error) { return chain, nil }})
				checkEcho(t, mustDial(t, tun, target))
				if got := r.reached(); !slices.Equal(got, tt.want) || len(p.asked) != tt.asked {
					t.Errorf("reached %q, want %q; asked %+v", got, tt.want, p.asked)
				}
				if tt.asked == 0 { // our own connection to the first hop has been of no use
					openssh.Eventually(t, "the abandoned login ends", func() bool { return servers[0].Open() == open })
				}
				tun.Close()
			})
		})
	}
}

// Ten processes start behind a bastion with two factors. One of them finds out that a person would
// be needed, and no login has failed for any. When the master is killed, the person is asked again.
func TestMasterStandsInForAll(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	s := startPAM(t, key, bothFactors)
	h := bastionOf(t, s, "bastion", key)
	master := startMasterOf(t, s, h)
	state, p := t.TempDir(), twoAnswers()
	tunnel := func() *Tunnel {
		return tunnelOf(t, Config{ControlMaster: MasterAuto, Ask: p.ask, Refusals: ledger(t, state),
			Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }})
	}
	connect := func() chan error {
		done, tun := make(chan error, 1), tunnel()
		go func() { done <- tun.Connect(t.Context()) }() // ends at the latest with the test's context
		return done
	}
	before := s.Accepted()
	var all []chan error
	for range 10 {
		all = append(all, connect())
	}
	for _, done := range all {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.Accepted() - before; got != 1 || len(p.asked) != 0 {
		t.Errorf("%d logins were tried, want 1; asked %+v", got, p.asked)
	}

	// The master in use is killed.
	tun, target := tunnel(), echo(t)
	checkEcho(t, mustDial(t, tun, target))
	if got := s.Accepted() - before; got != 1 {
		t.Errorf("%d logins, although it is known that a person is needed", got)
	}
	master.Process.Kill()
	master.Wait()
	checkEcho(t, mustDial(t, tun, target))
	if len(p.asked) != 2 {
		t.Errorf("without the master: asked %+v", p.asked)
	}

	// Nobody is there any more. That is met by all others, until there is another master.
	tun.Close()
	for range 2 {
		if err := <-connect(); !needsPerson(err) {
			t.Errorf("nobody is there: %v", err)
		}
	}
	os.Remove(h.ControlPath) // ssh takes no place where a socket is
	startMasterOf(t, s, h)
	before = s.Accepted()
	if err := <-connect(); err != nil || s.Accepted() != before {
		t.Errorf("with another master: %v, %d more logins", err, s.Accepted()-before)
	}
}
