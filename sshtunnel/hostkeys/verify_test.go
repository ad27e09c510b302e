//go:build !windows

package hostkeys

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// What known_hosts says is judged by a real ssh on a real server: we connect exactly when it does.
func TestHostKeyAgreesWithSSH(t *testing.T) {
	sshBin := openssh.Tool(t, "ssh")
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user := openssh.WriteKey(t, path("user"), "")
	key := keyLine(openssh.WriteKey(t, path("host"), "").PublicKey())
	other := keyLine(sshtest.NewKey().PublicKey())
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", path("rsa"))
	rsa := keyLine(openssh.ReadPublicKey(t, path("rsa.pub")))
	ca := keyLine(openssh.WriteKey(t, path("ca"), "").PublicKey())

	plain := openssh.Start(t, user.PublicKey(), "HostKey "+path("host"))
	both := openssh.Start(t, user.PublicKey(), "HostKey "+path("host"), "HostKey "+path("rsa"))
	asCA := openssh.Start(t, user.PublicKey(), "HostKey "+path("ca"))
	certified := func(args ...string) *openssh.Server {
		n := filepath.Join(t.TempDir(), "certified")
		openssh.WriteKey(t, n, "")
		openssh.Run(t, "ssh-keygen", append(append([]string{"-q", "-s", path("ca"), "-I", "id", "-h"}, args...), n+".pub")...)
		return openssh.Start(t, user.PublicKey(), "HostKey "+n, "HostCertificate "+n+"-cert.pub")
	}
	good := certified("-n", "127.0.0.1,alias")
	expired := certified("-n", "127.0.0.1", "-V", "20200101:20200102")
	wrongName := certified("-n", "elsewhere")
	anyName := certified()
	critical := certified("-n", "127.0.0.1", "-O", "critical:strange@example.org=x")

	at := func(s *openssh.Server) string { return fmt.Sprintf("[127.0.0.1]:%d", s.Addr.Port) }
	hashed := func(name string) string {
		salt := make([]byte, 20)
		return hashedName(salt, name)
	}
	for _, tt := range []struct {
		name   string
		server *openssh.Server
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
		{name: "alias with port", server: plain, known: fmt.Sprintf("[alias]:%d %s", plain.Addr.Port, key), alias: "alias"},
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
		{name: "certificate without principals", server: anyName, known: "@cert-authority * " + ca, ok: true},
		{name: "critical option", server: critical, known: "@cert-authority * " + ca},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			user, global := filepath.Join(dir, "user"), filepath.Join(dir, "global")
			writeFile(t, user, tt.known)
			writeFile(t, global, tt.global)
			args := []string{"-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + user,
				"-o", "GlobalKnownHostsFile=" + global, "-o", "IdentitiesOnly=yes", "-o", "UpdateHostKeys=no", "-i", path("user"), "-p", fmt.Sprint(tt.server.Addr.Port)}
			if tt.alias != "" {
				args = append(args, "-o", "HostKeyAlias="+tt.alias)
			}
			out, err := exec.CommandContext(t.Context(), sshBin, append(args, "127.0.0.1", "true")...).CombinedOutput()
			if (err == nil) != tt.ok {
				t.Errorf("ssh: %v, expected ok %v: %s", err, tt.ok, out)
			}
			h := tt.server.Host(t, "bastion", path("user"))
			h.UserKnownHostsFiles, h.GlobalKnownHostsFiles = []string{user}, []string{global}
			h.HostKeyAlias = tt.alias
			ours := connects(t, h, nil)
			if (ours == nil) != (err == nil) {
				t.Errorf("we: %v; ssh: %v", ours, err)
			}
			if ours != nil {
				if _, ok := errors.AsType[*Error](ours); !ok {
					t.Errorf("not a Error: %v", ours)
				}
			}
		})
	}
}

func TestChangedKeyTellsAll(t *testing.T) {
	s := startFake(t, sshtest.Config{})
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

// With StrictHostKeyChecking no, ssh goes on over a changed key without passwords and forwards; as it is
// for a forward that must not fail, which is all that we do, it ends.
func TestChangedKeyIsRefusedInAllModes(t *testing.T) {
	key := filepath.Join(t.TempDir(), "id")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey())
	for _, strict := range []string{"yes", "ask", "accept-new", "no"} {
		h := s.Host(t, "bastion", key)
		writeFile(t, h.UserKnownHostsFiles[0], fmt.Sprintf("[127.0.0.1]:%d %s\n", h.Port, keyLine(sshtest.NewKey().PublicKey())))
		h.StrictHostKeyChecking = strict
		if ok, out := sshConnects(t, h, key, "ExitOnForwardFailure=yes"); ok {
			t.Errorf("%s: ssh connects: %s", strict, out)
		}
		p := &person{answers: []string{"yes"}}
		err := connects(t, h, p.ask)
		if e, ok := errors.AsType[*Error](err); !ok || !e.Changed || len(p.asked) > 0 {
			t.Errorf("%s: got %v", strict, err)
		}
	}
}

// A key that is revoked under the name without port is an unknown one under the name with it, except
// where ssh would go on without forwards.
func TestRevokedUnderTheBareName(t *testing.T) {
	key := filepath.Join(t.TempDir(), "id")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey())
	for _, strict := range []string{"yes", "accept-new", "no"} {
		h := s.Host(t, "bastion", key)
		h.StrictHostKeyChecking = strict
		revoked := "@revoked 127.0.0.1 " + keyLine(s.HostKey) + "\n"
		writeFile(t, h.UserKnownHostsFiles[0], revoked)
		want, out := sshConnects(t, h, key, "ExitOnForwardFailure=yes")
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

func TestUnknownKey(t *testing.T) {
	s := startFake(t, sshtest.Config{})
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
