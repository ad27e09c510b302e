//go:build !windows

package sshtunnel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
	"sallyport/sshtunnel/userkeys"
)

// addConstrained adds a key to an agent for the given destinations only (ssh-add -h). Every host
// must be in known, a known_hosts file.
func addConstrained(t *testing.T, sock, known, key string, destinations ...string) {
	t.Helper()
	args := []string{"-q", "-H", known}
	for _, d := range destinations {
		args = append(args, "-h", d)
	}
	cmd := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh-add"), append(args, key)...)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add -h: %v: %s", err, out)
	}
}

// witnessed are the key exchanges whose reply a witness has to read: the plain Diffie-Hellman, a
// group exchange, the elliptic curves and the hybrid ones.
var witnessed = []string{
	"diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256", "ecdh-sha2-nistp256",
	"ecdh-sha2-nistp521", "curve25519-sha256", "mlkem768x25519-sha256",
}

// A key that the agent may use for one host only lets us in there, whatever the key exchange, and
// nowhere else. The judge of the binding is the real agent.
func TestConstrainedAgentKeys(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "constrained", "other")
	key := filepath.Join(dir, "constrained")
	pub := keys["constrained"].PublicKey()
	allowed, forbidden := openssh.Start(t, pub, "KexAlgorithms +diffie-hellman-group14-sha256,diffie-hellman-group-exchange-sha256"), openssh.Start(t, pub)
	known := filepath.Join(dir, "known")
	writeFile(t, known, fmt.Sprintf("allowed %sforbidden %s", ssh.MarshalAuthorizedKey(allowed.HostKey), ssh.MarshalAuthorizedKey(forbidden.HostKey)))
	sock := startAgent(t)
	addConstrained(t, sock, known, key, "allowed")
	at := func(s *openssh.Server, kex ...string) *sshconfig.Host {
		h := s.Host(t, "bastion", key)
		h.IdentityFiles, h.IdentityAgent, h.KexAlgorithms = nil, sock, kex
		return h
	}
	for _, kex := range witnessed {
		t.Run(kex, func(t *testing.T) {
			if known := openssh.Run(t, "ssh", "-Q", "kex"); !strings.Contains(known, kex) {
				t.Logf("the sshd of this machine is too old for it")
				return // TestWitness has it
			}
			if err := newTunnel(t, nil, at(allowed, kex)).Connect(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another host", func(t *testing.T) {
		err := newTunnel(t, nil, at(forbidden)).Connect(t.Context())
		if auth, ok := errors.AsType[*AuthError](err); !ok || len(auth.Tried) > 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another user", func(t *testing.T) {
		sock := startAgent(t)
		addConstrained(t, sock, known, key, "nobody@allowed")
		h := at(allowed)
		h.IdentityAgent = sock
		err := newTunnel(t, nil, h).Connect(t.Context())
		auth, ok := errors.AsType[*AuthError](err)
		if !ok || auth.Agent == nil || auth.Agent.Fault != userkeys.AgentRefused || !auth.Agent.Signing {
			t.Errorf("got %v", err)
		}
	})
	t.Run("wire keeps its rekeyed session", func(t *testing.T) {
		s := openssh.Start(t, pub, "RekeyLimit 1K")
		writeFile(t, known, "rekeyed "+string(ssh.MarshalAuthorizedKey(s.HostKey)))
		sock := startAgent(t)
		addConstrained(t, sock, known, key, "rekeyed")
		h := at(s)
		h.IdentityAgent = sock
		if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Over several hops, each hop is a session of its own that begins here: the channels of a jump
// forward no agent. So each host on the way must be named by itself, as for ssh -J.
func TestConstrainedAgentKeysOverHops(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "constrained")
	key := filepath.Join(dir, "constrained")
	pub := keys["constrained"].PublicKey()
	names := []string{"first", "second", "third"}
	var servers []*openssh.Server
	var lines strings.Builder
	for _, name := range names {
		s := openssh.Start(t, pub)
		servers = append(servers, s)
		fmt.Fprintf(&lines, "%s %s", name, ssh.MarshalAuthorizedKey(s.HostKey))
	}
	known := filepath.Join(dir, "known")
	writeFile(t, known, lines.String())
	for _, tt := range []struct {
		name         string
		destinations []string
		failsAt      int // the hop; 3 is none
	}{
		{"each named", names, 3},
		{"first two", names[:2], 2},
		{"first only", names[:1], 1},
		{"last only", names[2:], 0},
		{"a way for a forwarded agent", []string{"first", "first>second", "second>third"}, 1},
	} {
		for hops := 1; hops <= 3; hops++ {
			t.Run(fmt.Sprint(tt.name, " ", hops), func(t *testing.T) {
				t.Parallel()
				sock := startAgent(t)
				addConstrained(t, sock, known, key, tt.destinations...)
				var chain []*sshconfig.Host
				for i := range hops {
					h := servers[i].Host(t, names[i], key)
					h.IdentityFiles, h.IdentityAgent = nil, sock
					chain = append(chain, h)
				}
				err := newTunnel(t, nil, chain...).Connect(t.Context())
				if want := tt.failsAt >= hops; (err == nil) != want {
					t.Fatalf("got %v", err)
				}
				if hop, ok := errors.AsType[*HopError](err); err != nil && (!ok || hop.Hop != names[tt.failsAt]) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
