//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// recorder is a Trace that writes one line for each event.
type recorder struct {
	mu    sync.Mutex
	lines []string
	kex   []KeyExchangeInfo
	keys  []hostkeys.Voucher
	auth  []AuthInfo
	trips []RoundTripInfo
}

func (r *recorder) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) trace() *Trace {
	return &Trace{
		Resolved:  func(i ResolvedInfo) { r.add("resolved %s %s", i.Hop, i.Host.HostName) },
		Connected: func(i ConnectedInfo) { r.add("connected %s %s %s", i.Hop, i.By, i.Addr) },
		HostKeyAccepted: func(i HostKeyInfo) {
			r.add("key %s %s", i.Hop, i.Voucher.Source)
			r.keys = append(r.keys, i.Voucher)
		},
		KeyExchanged: func(i KeyExchangeInfo) {
			r.add("kex %s", i.Hop)
			r.kex = append(r.kex, i)
		},
		AuthTried: func(i AuthInfo) {
			r.add("auth %s %s %s", i.Hop, i.Method, i.Outcome)
			r.auth = append(r.auth, i)
		},
		Up: func() { r.add("up") },
		RoundTrip: func(i RoundTripInfo) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.trips = append(r.trips, i)
		},
	}
}

// connectTraced makes one attempt and returns what the trace told of it.
func connectTraced(t *testing.T, cfg Config, chain ...*sshconfig.Host) (*recorder, error) {
	t.Helper()
	r := &recorder{}
	cfg.Trace = r.trace()
	cfg.Chain = func(context.Context) ([]*sshconfig.Host, error) { return chain, nil }
	err := tunnelOf(t, cfg).Connect(t.Context())
	return r, err
}

func checkLines(t *testing.T, r *recorder, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(r.lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestTraceOfRealServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, wrong := filepath.Join(dir, "id"), filepath.Join(dir, "wrong")
	openssh.WriteKey(t, wrong, "")
	pub := openssh.WriteKey(t, key, "").PublicKey()
	one, two := openssh.Start(t, pub), openssh.Start(t, pub)
	hosts := []*sshconfig.Host{one.Host(t, "one", key), two.Host(t, "two", key)}
	hosts[0].IdentityFiles = []string{wrong, key}
	hosts[1].ServerAliveSet, hosts[1].ServerAliveInterval, hosts[1].ServerAliveCountMax = true, 20*time.Millisecond, 100
	hosts[1].KexAlgorithms, hosts[1].Ciphers, hosts[1].MACs = []string{"curve25519-sha256"}, []string{"aes128-ctr"}, []string{"hmac-sha2-256-etm@openssh.com"}
	r, err := connectTraced(t, Config{}, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	checkLines(t, r,
		"resolved one 127.0.0.1",
		"resolved two 127.0.0.1",
		"connected one tcp "+one.Addr.String(),
		"key one UserKnownHostsFile",
		"kex one",
		"auth one publickey refused",
		"auth one publickey accepted",
		"connected two hop "+two.Addr.String(),
		"key two UserKnownHostsFile",
		"kex two",
		"auth two publickey accepted",
		"up",
	)
	if v := r.keys[1]; v.File != hosts[1].UserKnownHostsFiles[0] || v.Line != 1 || v.Type != ssh.KeyAlgoED25519 || v.Fingerprint != ssh.FingerprintSHA256(two.HostKey) {
		t.Errorf("voucher %+v", v)
	}
	if k := r.kex[0]; k.KeyExchange == "" || k.HostKey != ssh.KeyAlgoED25519 || k.ToServer.Cipher == "" || k.FromServer.Cipher == "" {
		t.Errorf("defaults: %+v", k)
	}
	both := CipherInfo{"aes128-ctr", "hmac-sha2-256-etm@openssh.com"}
	if want := (KeyExchangeInfo{"two", "curve25519-sha256", ssh.KeyAlgoED25519, both, both}); r.kex[1] != want || r.kex[1].PostQuantum() {
		t.Errorf("got %+v, want %+v", r.kex[1], want)
	}
	for i, want := range []AuthInfo{
		{Fingerprint: ssh.FingerprintSHA256(openssh.ReadPublicKey(t, wrong+".pub")), Source: wrong},
		{Fingerprint: ssh.FingerprintSHA256(pub), Source: key},
	} {
		if got := r.auth[i]; got.Fingerprint != want.Fingerprint || got.Source != want.Source || got.Agent || got.Err != nil {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	openssh.Eventually(t, "a round trip", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.trips) > 0
	})
	if trip := r.trips[0]; trip.Hop != "two" || trip.Took <= 0 || trip.Took > time.Minute {
		t.Errorf("got %+v", trip)
	}
}

// The agent's keys are told apart from those of files.
func TestTraceNamesTheAgent(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "listed", "other", "file")
	path := func(name string) string { return filepath.Join(dir, name) }
	sock := startAgent(t, path("listed"), path("other"))
	s := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{sshtest.NewKey().PublicKey()}})
	h := fakeHost(t, "bastion", s)
	h.IdentityAgent, h.IdentityFiles, h.IdentityFilesSet = sock, []string{path("listed"), path("file")}, true
	r, err := connectTraced(t, Config{}, h)
	if _, ok := errors.AsType[*AuthError](err); !ok {
		t.Fatalf("got %v", err)
	}
	var got []AuthInfo
	for _, i := range r.auth {
		i.Source = strings.TrimPrefix(i.Source, dir+"/")
		got = append(got, i)
	}
	try := func(name, source string, agent bool) AuthInfo {
		return AuthInfo{Hop: "bastion", Method: "publickey", Fingerprint: ssh.FingerprintSHA256(keys[name].PublicKey()), Source: source, Agent: agent, Outcome: AuthRefused}
	}
	want := []AuthInfo{try("listed", "listed", true), try("other", got[1].Source, true), try("file", "file", false)}
	if !slices.Equal(got, want) || !strings.HasPrefix(got[1].Source, "agent: ") {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What each outcome of a login looks like, and how far a trace gets.
func TestTraceOfLogins(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	pub := openssh.WriteKey(t, key, "").PublicKey()
	locked := filepath.Join(t.TempDir(), "locked")
	lockedPub := openssh.WriteKey(t, locked, "secret").PublicKey()
	challenges := []sshtest.Challenge{{Prompts: []string{"Code: "}, Answers: []string{"42"}}}
	for _, tt := range []struct {
		name    string
		server  sshtest.Config
		edit    func(*sshconfig.Host)
		answers map[string][]string
		ok      bool
		want    []string // after the key exchange
		err     error    // of the last try
	}{
		{name: "everybody is let in", ok: true, want: []string{"auth bastion none accepted"}},
		{
			name:    "wrong password, then the right one",
			server:  sshtest.Config{Password: "secret"},
			answers: map[string][]string{"password": {"guess", "secret"}}, ok: true,
			want: []string{"auth bastion password refused", "auth bastion password accepted"},
		},
		{
			name:    "key and code",
			server:  sshtest.Config{AuthorizedKeys: []ssh.PublicKey{pub}, Challenges: challenges, SecondFactor: true},
			answers: map[string][]string{"keyboard-interactive": {"42"}}, ok: true,
			want: []string{"auth bastion publickey partial", "auth bastion keyboard-interactive accepted"},
		},
		{
			name:   "nobody types the code",
			server: sshtest.Config{AuthorizedKeys: []ssh.PublicKey{pub}, Challenges: challenges, SecondFactor: true},
			want:   []string{"auth bastion publickey partial", "auth bastion keyboard-interactive failed"},
			err:    ErrNoPerson,
		},
		{
			name:   "nobody types the passphrase",
			server: sshtest.Config{AuthorizedKeys: []ssh.PublicKey{lockedPub}},
			edit:   func(h *sshconfig.Host) { h.IdentityFiles = []string{locked} },
			want:   []string{"auth bastion publickey failed"},
			err:    ErrNoPerson,
		},
		{
			name:   "too many keys",
			server: sshtest.Config{AuthorizedKeys: []ssh.PublicKey{lockedPub}, MaxAuthTries: 1},
			want:   []string{"auth bastion publickey refused"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startFake(t, tt.server)
			h := fakeHost(t, "bastion", s)
			h.IdentityFiles, h.IdentityFilesSet = []string{key}, true
			if tt.edit != nil {
				tt.edit(h)
			}
			p := &person{answers: tt.answers}
			r, err := connectTraced(t, Config{Ask: p.ask}, h)
			if (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			want := append([]string{"resolved bastion 127.0.0.1", "connected bastion tcp " + s.Addr(), "key bastion UserKnownHostsFile", "kex bastion"}, tt.want...)
			if tt.ok {
				want = append(want, "up")
			}
			checkLines(t, r, want...)
			if !r.kex[0].PostQuantum() {
				t.Errorf("two ends of our own agree on %s", r.kex[0].KeyExchange)
			}
			if last := r.auth[len(r.auth)-1]; !errors.Is(last.Err, tt.err) {
				t.Errorf("the last try failed with %v, want %v", last.Err, tt.err)
			}
		})
	}
}

// A login whose connection is cut has failed, and was not refused.
func TestTraceOfACutLogin(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	s := startFake(t, sshtest.Config{Stall: sshtest.StallAuth})
	c := startCable(t, s.Addr())
	h := c.host(t, fakeHost(t, "bastion", s))
	h.IdentityFiles = []string{key}
	go func() { // ends with the cut
		openssh.Eventually(t, "a login", func() bool { return s.Asked() > 0 })
		c.cut(true)
	}()
	r, err := connectTraced(t, Config{}, h)
	if err == nil || len(r.auth) != 1 || r.auth[0].Outcome != AuthFailed || r.auth[0].Err == nil {
		t.Errorf("got %v, %+v", err, r.auth)
	}
}

// A key that is not accepted ends the trace.
func TestTraceEndsWithAnUnknownHostKey(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{})
	h := openssh.NewHost(t, "bastion", s.Addr())
	r, err := connectTraced(t, Config{}, h)
	if key, ok := errors.AsType[*hostkeys.Error](err); !ok || !key.Unknown {
		t.Errorf("got %v", err)
	}
	checkLines(t, r, "resolved bastion 127.0.0.1", "connected bastion tcp "+s.Addr())
}

// The user's ControlMaster has done all that is before the connection.
func TestTraceOfAControlMaster(t *testing.T) {
	t.Parallel()
	h, _ := startMaster(t)
	r, err := connectTraced(t, Config{ControlMaster: MasterAlways}, h)
	if err != nil {
		t.Fatal(err)
	}
	checkLines(t, r, "resolved bastion 127.0.0.1", "connected bastion controlmaster "+h.ControlPath, "up")
}
