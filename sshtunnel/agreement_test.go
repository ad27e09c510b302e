//go:build !windows

package sshtunnel

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/refusals"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
	"sallyport/sshtunnel/userkeys"
)

// ledger opens one as another process would.
func ledger(t *testing.T, dir string) *refusals.Ledger {
	t.Helper()
	l, err := refusals.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Twenty tunnels, each as if in a process of its own, have a key that the server refuses.
func TestOneFailedLoginForAll(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "id", "right")
	s := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{keys["right"].PublicKey()}, Banners: []string{"Ask the help desk."}})
	state := t.TempDir()
	alias := func(name, file string) *sshconfig.Host {
		h := fakeHost(t, name, s)
		h.IdentityFiles, h.IdentityFilesSet = []string{filepath.Join(dir, file)}, true
		return h
	}
	connect := func(h *sshconfig.Host, insist bool) error {
		return tunnelOf(t, Config{Refusals: ledger(t, state), Insist: insist,
			Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }}).Connect(t.Context())
	}
	var wg sync.WaitGroup
	for i := range 20 {
		h := alias([]string{"bastion", "other-alias"}[i%2], "id")
		wg.Go(func() {
			err := connect(h, false)
			auth, ok := errors.AsType[*AuthError](err)
			if !ok || auth.NeedsPerson || auth.Hop != h.Alias || auth.Said != "Ask the help desk." || !strings.Contains(err.Error(), "publickey SHA256:") {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if s.Accepted() != 1 || s.Asked() != 1 {
		t.Errorf("%d connections, %d tries", s.Accepted(), s.Asked())
	}

	if err := connect(alias("bastion", "id"), true); err == nil || s.Asked() != 2 {
		t.Errorf("a person's command: %v, %d tries", err, s.Asked())
	}
	if err := connect(alias("bastion", "right"), false); err != nil {
		t.Errorf("another key: %v", err)
	}
	// The file of the refused key has another key in it now.
	os.Remove(filepath.Join(dir, "id"))
	os.Remove(filepath.Join(dir, "id.pub"))
	for _, ending := range []string{"", ".pub"} {
		text, err := os.ReadFile(filepath.Join(dir, "right"+ending))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "id"+ending), string(text))
	}
	if err := connect(alias("bastion", "id"), false); err != nil {
		t.Errorf("after an edit: %v", err)
	}
}

// Nineteen wait while the first waits for the person, with the same words. One push serves all.
func TestOnePushForAll(t *testing.T) {
	t.Parallel()
	c := newConfirmation()
	s := startFake(t, sshtest.Config{NoAuth: true, Banners: []string{check}, Confirm: c.confirm})
	h := fakeHost(t, "bastion", s)
	state := t.TempDir()
	var wg sync.WaitGroup
	var tunnels []*Tunnel
	for range 20 {
		tun := tunnelOf(t, Config{Refusals: ledger(t, state),
			Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }})
		tunnels = append(tunnels, tun)
		wg.Go(func() {
			if err := tun.Connect(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	<-c.asked
	for _, tun := range tunnels {
		openssh.Eventually(t, "the link at all", func() bool {
			st, _ := tun.State()
			return st.Notice.URL == "https://login.example/a/1f2e3d"
		})
	}
	if s.Accepted() != 1 {
		t.Errorf("%d connections wait", s.Accepted())
	}
	close(c.given)
	wg.Wait()
}

// A process that comes to no end, because it is stopped or its server is silent, holds up nobody
// for longer than ConnectTimeout, or than a person may take if the server has said something.
func TestNobodyWaitsForEverForAnother(t *testing.T) {
	t.Parallel()
	c := newConfirmation()
	for _, tt := range []struct {
		name   string
		server sshtest.Config
		person bool
	}{
		{"a silent server", sshtest.Config{Stall: sshtest.StallTCP}, false},
		{"a person who does nothing", sshtest.Config{NoAuth: true, Banners: []string{check}, Confirm: c.confirm}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, tt.server)
			state := t.TempDir()
			tunnel := func(timeout time.Duration, cfg Config) *Tunnel {
				h := fakeHost(t, "bastion", s)
				h.ConnectTimeout, h.ConnectTimeoutSet = timeout, true
				cfg.Refusals = ledger(t, state)
				cfg.Chain = func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }
				return tunnelOf(t, cfg)
			}
			first := tunnel(0, Config{})
			go first.Connect(t.Context()) // ends with the test
			openssh.Eventually(t, "the first", func() bool { return s.Accepted() == 1 })
			second := Config{}
			if tt.person {
				noticed(t, first)
				second.patience = time.Millisecond
			}
			tun := tunnel(time.Millisecond, second)
			err := tun.Connect(t.Context())
			timeout, ok := errors.AsType[*TimeoutError](err)
			if !ok || !timeout.Queued || timeout.Person && !tt.person || !strings.Contains(err.Error(), "another process") {
				t.Errorf("got %v", err)
			}
			if st, _ := tun.State(); st.Phase != Down || st.Hop != "bastion" {
				t.Errorf("got %+v", st)
			}
			if s.Accepted() != 1 {
				t.Errorf("%d connections", s.Accepted())
			}
		})
	}
}

// Whoever meets the refusal of another process gets the hints of the same cause.
func TestRefusalOfTheAgentIsShared(t *testing.T) {
	t.Parallel()
	gone := &userkeys.AgentError{Path: "/gone", FromEnvironment: true, Fault: userkeys.AgentGone}
	text, err := json.Marshal(newRefusal(&AuthError{User: "me", NeedsPerson: true, Agent: gone}))
	if err != nil {
		t.Fatal(err)
	}
	got := metBefore(&sshconfig.Host{Alias: "bastion"}, &refusals.Refusal{Cause: text}).Agent
	if got == nil || *got != *gone {
		t.Errorf("got %+v", got)
	}
}

// A refusal that an older version has stored is still read.
func TestRefusalOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	stored := `{"user":"me","tried":["password"],"methods":["publickey"],"notes":["a note"],"needs_person":true,` +
		`"too_many":true,"said":"go away","agent":{"path":"/a","from_environment":true,"fault":1,"signing":true}}`
	at := time.Unix(1000, 0)
	got := metBefore(&sshconfig.Host{Alias: "bastion", User: "me"}, &refusals.Refusal{At: at, Until: at.Add(time.Minute), Cause: []byte(stored)})
	want := &AuthError{
		Hop: "bastion", User: "me", Tried: []string{"password"}, Methods: []string{"publickey"}, Notes: []string{"a note"},
		NeedsPerson: true, TooMany: true, Said: "go away", MetAt: at, NotBefore: at.Add(time.Minute),
		Agent: &userkeys.AgentError{Path: "/a", FromEnvironment: true, Fault: userkeys.AgentGone, Signing: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if text, err := json.Marshal(newRefusal(&AuthError{Hop: "bastion", User: "me"})); err != nil || string(text) != `{"user":"me"}` {
		t.Errorf("stored %s, %v", text, err)
	}
}
