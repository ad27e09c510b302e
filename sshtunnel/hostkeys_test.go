//go:build !windows

package sshtunnel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// A question about an unknown host key reaches Config.Ask, and the answer decides about the phase.
func TestUnknownHostKeyIsPutToThePerson(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{})
	for _, tt := range []struct {
		name    string
		answers []string
		phase   string
	}{
		{"yes", []string{"yes"}, Up},
		{"no", []string{"no"}, Refused},
		{"nobody", nil, NeedsPerson},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := openssh.NewHost(t, "bastion", s.Addr())
			h.StrictHostKeyChecking = "ask"
			p := &person{answers: map[string][]string{"host-key": tt.answers}}
			tun := newTunnel(t, p.ask, h)
			err := tun.Connect(t.Context())
			if (err == nil) != (tt.phase == Up) {
				t.Errorf("got %v", err)
			}
			if q := p.asked[0]; q.Hop != "bastion" || q.Kind != "host-key" || !q.Echo || !strings.Contains(q.Prompt, ssh.FingerprintSHA256(s.HostKey())) {
				t.Errorf("asked %+v", q)
			}
			if st, _ := tun.State(); st.Phase != tt.phase {
				t.Errorf("phase %s, want %s", st.Phase, tt.phase)
			}
			if key, ok := errors.AsType[*hostkeys.Error](err); err != nil && (!ok || !key.Unknown) {
				t.Errorf("got %#v", err)
			}
		})
	}
}

// A question of UpdateHostKeys reaches Config.Ask after the login.
func TestUpdateHostKeysIsPutToThePerson(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user := openssh.WriteKey(t, path("user"), "").PublicKey()
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "ecdsa", "-f", path("ecdsa"))
	key := openssh.WriteKey(t, path("host"), "").PublicKey()
	s := openssh.Start(t, user, "HostKey "+path("host"), "HostKey "+path("ecdsa"))
	h := s.Host(t, "bastion", path("user"))
	h.UpdateHostKeys = "ask"
	file := h.UserKnownHostsFiles[0]
	old := fmt.Sprintf("[127.0.0.1]:%d %s\n", h.Port, openssh.KeyLine(key))
	writeFile(t, file, old)
	p := &person{answers: map[string][]string{"host-key": {"yes"}}}
	if err := newTunnel(t, p.ask, h).Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	learned := openssh.KeyLine(openssh.ReadPublicKey(t, path("ecdsa.pub")))
	learned = learned[:strings.LastIndex(learned, " ")]
	openssh.Eventually(t, "the key is learned", func() bool {
		text, _ := os.ReadFile(file)
		return strings.Contains(string(text), learned)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.asked[0]; q.Hop != "bastion" || q.Kind != "host-key" {
		t.Errorf("asked %+v", q)
	}
}
