//go:build !windows

package hostkeys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// What known_hosts says is judged by a real ssh on the same server: we connect exactly when it
// does.
func TestVerifyAgreesWithSSH(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "ssh")
	dir := t.TempDir()
	hostKey := openssh.WriteKey(t, filepath.Join(dir, "host"), "")
	rsaKey := generate(t, dir, "rsa", "-t", "rsa", "-b", "2048")
	caKey := openssh.WriteKey(t, filepath.Join(dir, "ca"), "")
	key, rsa, ca := keyLine(hostKey.PublicKey()), keyLine(rsaKey.PublicKey()), keyLine(caKey.PublicKey())
	other := keyLine(sshtest.NewKey().PublicKey())

	plain, both, asCA := serve(t, hostKey), serve(t, hostKey, rsaKey), serve(t, caKey)
	certified := func(args ...string) *sshtest.Server {
		return serve(t, certify(t, dir, "host", hostKey, args...))
	}
	good := certified("-n", "127.0.0.1,alias")
	expired := certified("-n", "127.0.0.1", "-V", "20200101:20200102")
	wrongName := certified("-n", "elsewhere")
	critical := certified("-n", "127.0.0.1", "-O", "critical:strange@example.org=x")
	withPlain := serve(t, certify(t, dir, "host", hostKey, "-n", "elsewhere"), hostKey)

	hashed := func(name string) string { return hashedName(make([]byte, 20), name) }
	port := func(s *sshtest.Server) string { _, p, _ := net.SplitHostPort(s.Addr()); return p }
	for _, tt := range []struct {
		name   string
		server *sshtest.Server
		known  string
		global string
		alias  string
		ok     bool
	}{
		{name: "port", server: plain, known: at(plain) + " " + key, ok: true},
		{name: "hashed", server: plain, known: hashed(at(plain)) + " " + key, ok: true},
		{name: "bare host, other port", server: plain, known: "127.0.0.1 " + key, ok: true},
		{name: "hashed bare host", server: plain, known: hashed("127.0.0.1") + " " + key, ok: true},
		{name: "wildcard, other port", server: plain, known: "127.0.* " + key, ok: true},
		{name: "negated", server: plain, known: "*,!127.0.0.1 " + key, ok: true},              // [127.0.0.1]:port is not negated
		{name: "negated port", server: plain, known: "*,!" + at(plain) + " " + key, ok: true}, // the bare name is left
		{name: "other port's entry", server: plain, known: "[127.0.0.1]:1 " + key},
		{name: "bad lines", server: plain, known: "junk\n* 1024 35 123\n* ssh-new AAAA\n" + at(plain) + " ssh-ed25519 A===\n" + at(plain) + " " + key, ok: true},
		{name: "unknown", server: plain, known: ""},
		{name: "changed", server: plain, known: at(plain) + " " + other},
		{name: "changed bare", server: plain, known: "127.0.0.1 " + other},
		{name: "one of two", server: plain, known: at(plain) + " " + other + "\n" + at(plain) + " " + key, ok: true},
		{name: "second file", server: plain, global: at(plain) + " " + key, ok: true},
		{name: "other in the second file", server: plain, known: at(plain) + " " + key, global: at(plain) + " " + other, ok: true},
		{name: "revoked", server: plain, known: at(plain) + " " + key + "\n@revoked * " + key},
		{name: "revoked for another", server: plain, known: at(plain) + " " + key + "\n@revoked other " + key, ok: true},
		{name: "revoked for the bare host", server: plain, known: at(plain) + " " + key + "\n@revoked 127.0.0.1 " + key, ok: true},
		{name: "alias", server: plain, known: "alias " + key, alias: "ALIAS", ok: true},
		{name: "alias with port", server: plain, known: "[alias]:" + port(plain) + " " + key, alias: "alias"},
		{name: "alias, address known", server: plain, known: at(plain) + " " + key, alias: "alias"},
		{name: "only rsa known", server: both, known: at(both) + " " + rsa, ok: true},
		{name: "only ed25519 known", server: both, known: at(both) + " " + key, ok: true},
		{name: "other type known", server: plain, known: at(plain) + " " + rsa},
		{name: "authority", server: good, known: "@cert-authority * " + ca, ok: true},
		{name: "authority and alias", server: good, known: "@cert-authority alias " + ca, alias: "alias", ok: true},
		{name: "authority of others", server: good, known: "@cert-authority other " + ca},
		{name: "authority revoked", server: good, known: "@cert-authority * " + ca + "\n@revoked * " + ca},
		{name: "authority's key as a host key", server: asCA, known: "@cert-authority * " + ca},
		{name: "authority as a plain line", server: good, known: "* " + ca},
		{name: "certificate expired", server: expired, known: "@cert-authority * " + ca},
		{name: "certificate of another host", server: wrongName, known: "@cert-authority * " + ca},
		{name: "critical option", server: critical, known: "@cert-authority * " + ca},
		{name: "plain key of a certificate of another host", server: withPlain, known: "@cert-authority * " + ca + "\n" + at(withPlain) + " " + key, ok: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "bastion", tt.server.Addr())
			h.GlobalKnownHostsFiles = []string{filepath.Join(t.TempDir(), "global")}
			h.HostKeyAlias = tt.alias
			writeFile(t, h.UserKnownHostsFiles[0], tt.known)
			writeFile(t, h.GlobalKnownHostsFiles[0], tt.global)
			ssh, out := sshConnects(t, h)
			if ssh != tt.ok {
				t.Errorf("ssh connects: %v, expected %v: %s", ssh, tt.ok, out)
			}
			err := connects(t, h, nil)
			if (err == nil) != ssh {
				t.Errorf("we: %v; ssh connects: %v", err, ssh)
			}
			if _, ok := errors.AsType[*Error](err); err != nil && !ok {
				t.Errorf("not an Error: %v", err)
			}
		})
	}
}

func TestErrorOfAChangedKeyTellsAll(t *testing.T) {
	s := serve(t, sshtest.NewKey())
	h := openssh.NewHost(t, "bastion", s.Addr())
	h.StrictHostKeyChecking = "no" // does not help
	old := sshtest.NewKey().PublicKey()
	writeFile(t, h.UserKnownHostsFiles[0], "# first\n"+fmt.Sprintf("[127.0.0.1]:%d ", h.Port)+keyLine(old)+"\n")
	err := connects(t, h, nil)
	key, ok := errors.AsType[*Error](err)
	if !ok || !key.Changed || key.Hop != "bastion" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{h.UserKnownHostsFiles[0] + ":2", ssh.FingerprintSHA256(old), ssh.FingerprintSHA256(s.HostKey()), "ssh-keygen -f ", fmt.Sprintf("-R '[127.0.0.1]:%d'", h.Port)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

// With StrictHostKeyChecking no, ssh goes on over a changed key without passwords and forwards. For
// a forward that must not fail, which is all that we do, it ends.
func TestChangedKeyIsRefusedInAllModes(t *testing.T) {
	t.Parallel()
	s := serve(t, sshtest.NewKey())
	for _, strict := range []string{"yes", "ask", "accept-new", "no"} {
		h := openssh.NewHost(t, "bastion", s.Addr())
		writeFile(t, h.UserKnownHostsFiles[0], fmt.Sprintf("[127.0.0.1]:%d %s\n", h.Port, keyLine(sshtest.NewKey().PublicKey())))
		h.StrictHostKeyChecking = strict
		if ok, out := sshConnects(t, h, "ExitOnForwardFailure=yes"); ok {
			t.Errorf("%s: ssh connects: %s", strict, out)
		}
		p := &person{answers: []string{"yes"}}
		err := connects(t, h, p.ask)
		if e, ok := errors.AsType[*Error](err); !ok || !e.Changed || len(p.asked) > 0 {
			t.Errorf("%s: got %v", strict, err)
		}
	}
}

// A key that is revoked under the name without a port counts as unknown under the name with its
// port, except where ssh would go on without forwards.
func TestKeyRevokedUnderTheBareName(t *testing.T) {
	t.Parallel()
	s := serve(t, sshtest.NewKey())
	for _, strict := range []string{"yes", "accept-new", "no"} {
		h := openssh.NewHost(t, "bastion", s.Addr())
		h.StrictHostKeyChecking = strict
		revoked := "@revoked 127.0.0.1 " + keyLine(s.HostKey()) + "\n"
		writeFile(t, h.UserKnownHostsFiles[0], revoked)
		want, out := sshConnects(t, h, "ExitOnForwardFailure=yes")
		if want != (strict == "accept-new") {
			t.Errorf("%s: ssh connects: %v: %s", strict, want, out)
		}
		writeFile(t, h.UserKnownHostsFiles[0], revoked)
		err := connects(t, h, nil)
		if e, _ := errors.AsType[*Error](err); (err == nil) != want || strict == "no" && !e.Revoked {
			t.Errorf("%s: got %v", strict, err)
		}
	}
}

func TestUnknownKeyByStrictHostKeyChecking(t *testing.T) {
	s := serve(t, sshtest.NewKey())
	print := ssh.FingerprintSHA256(s.HostKey())
	for _, tt := range []struct {
		name, strict string
		answers      []string
		ok, added    bool
		needsPerson  bool
	}{
		{name: "yes", strict: "yes", answers: []string{"yes"}},
		{name: "no", strict: "no", ok: true, added: true},
		{name: "accept-new", strict: "accept-new", ok: true, added: true},
		{name: "ask: yes", strict: "ask", answers: []string{"what?", "yes"}, ok: true, added: true},
		{name: "ask: fingerprint", strict: "ask", answers: []string{print}, ok: true, added: true},
		{name: "ask: no", strict: "ask", answers: []string{"no"}},
		{name: "ask: nobody", strict: "ask", needsPerson: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := openssh.NewHost(t, "bastion", s.Addr())
			h.StrictHostKeyChecking, h.HashKnownHosts = tt.strict, true
			p := &person{answers: tt.answers}
			err := connects(t, h, p.ask)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if len(p.asked) > 0 && !strings.Contains(p.asked[0], print) {
				t.Errorf("asked %+v", p.asked[0])
			}
			if _, err := os.Stat(h.UserKnownHostsFiles[0]); (err == nil) != tt.added {
				t.Errorf("known_hosts: %v", err)
			}
			if !tt.ok {
				key, _ := errors.AsType[*Error](err)
				if key == nil || !key.Unknown || key.NeedsPerson != tt.needsPerson {
					t.Errorf("got %#v", key)
				}
				return
			}
			h.StrictHostKeyChecking = "yes"
			if err := connects(t, h, nil); err != nil {
				t.Errorf("what was added does not serve: %v", err)
			}
		})
	}
}
