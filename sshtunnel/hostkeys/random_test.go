//go:build !windows

package hostkeys

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// Random known_hosts, RevokedHostKeys, HostKeyAlias, HostKeyAlgorithms and StrictHostKeyChecking
// are judged by a real ssh on the same server, which has keys of three types, two of them with
// certificates: we trust it exactly when ssh does, and leave the same known_hosts behind.
func TestRandomConfigurationsAgreeWithSSH(t *testing.T) {
	t.Parallel()
	sshBin := os.Getenv("SALLYPORT_SSH")
	if sshBin == "" {
		sshBin = openssh.Tool(t, "ssh")
	}
	version, _ := exec.CommandContext(t.Context(), sshBin, "-V").CombinedOutput()
	lists10 := strings.Contains(string(version), "OpenSSH_1") // since 10 the plain key of a certificate must be allowed, too
	r := randomSource(t)
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", path("rsa"))
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "ecdsa", "-f", path("ecdsa"))
	openssh.WriteKey(t, path("ed25519"), "")
	openssh.WriteKey(t, path("ca"), "")
	openssh.WriteKey(t, path("other"), "")
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", path("otherrsa"))
	signer := func(name string) ssh.Signer {
		b, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.ParsePrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	certified := func(name string, args ...string) ssh.Signer {
		openssh.Run(t, "ssh-keygen", append(append([]string{"-q", "-s", path("ca"), "-I", "id", "-h", "-z", "7"}, args...), path(name+".pub"))...)
		s, err := ssh.NewCertSigner(openssh.ReadPublicKey(t, path(name+"-cert.pub")).(*ssh.Certificate), signer(name))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	all := []ssh.Signer{signer("ed25519"), signer("rsa"), signer("ecdsa"), certified("ed25519", "-n", "127.0.0.1,alias"), certified("ecdsa", "-n", "elsewhere")}
	var servers []*sshtest.Server
	for _, keys := range [][]ssh.Signer{all, all[:3], {all[0]}, {all[1]}, {all[0], all[3]}, {all[2], all[4]}} {
		servers = append(servers, serve(t, keys...))
	}
	lineOf := func(name string) string { return keyLine(openssh.ReadPublicKey(t, path(name+".pub"))) }
	keys := []string{lineOf("rsa"), lineOf("ecdsa"), lineOf("ed25519"), lineOf("ca"), lineOf("other"), lineOf("otherrsa")}
	var lists []string
	for i, spec := range []string{"serial: 7", "serial: 8", "id: id", "key: " + keys[2], "sha256: " + keys[0], "sha1: " + keys[3]} {
		lists = append(lists, path(fmt.Sprint("krl", i)))
		writeFile(t, path("spec"), spec+"\n")
		openssh.Run(t, "ssh-keygen", "-q", "-k", "-f", lists[i], "-s", path("ca.pub"), path("spec"))
	}
	trusted, added := map[bool]int{}, 0
	n := draws(t, 25)
	for range n {
		s := servers[r.IntN(len(servers))]
		base := openssh.NewHost(t, "bastion", s.Addr())
		at := fmt.Sprintf("[127.0.0.1]:%d", base.Port)
		base.HostKeyAlias = pick("", "", "", "alias", "Alias")
		line := func() string {
			hosts := pick(at, at, at, "127.0.0.1", "127.0.0.1", "*", "alias", "alias", "127.0.0.*", "other", "*,!"+at, "*,!alias", hashedName(make([]byte, 20), at), hashedName(make([]byte, 20), "alias"))
			return pick("", "", "", "", "", "", "@cert-authority ", "@cert-authority ", "@revoked ") + hosts + " " + pick(keys...)
		}
		text := func(most int) string {
			var b strings.Builder
			for range r.IntN(most + 1) {
				b.WriteString(line() + "\n")
			}
			return b.String()
		}
		user, global := text(4), text(2)
		base.StrictHostKeyChecking = pick("yes", "yes", "accept-new", "accept-new", "ask", "no")
		base.HashKnownHosts = r.IntN(2) == 0
		switch r.IntN(8) {
		case 0:
			base.HostKeyAlgorithms = strings.Split(pick("ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512,ssh-ed25519", "ecdsa-sha2-nistp256,rsa-sha2-512",
				"ssh-ed25519-cert-v01@openssh.com,ssh-ed25519"), ",")
			if lists10 && r.IntN(2) == 0 {
				base.HostKeyAlgorithms = strings.Split(pick("ssh-ed25519-cert-v01@openssh.com", "ecdsa-sha2-nistp256-cert-v01@openssh.com,rsa-sha2-512"), ",")
			}
		case 1: // -*cert*
			base.HostKeyAlgorithms, base.HostKeyAlgorithmsRelative = defaultAlgorithms[6:], true
		}
		switch r.IntN(10) {
		case 0:
			base.RevokedHostKeyFiles = []string{pick(lists...)}
		case 1:
			writeFile(t, path("revoked"), pick(keys...)+"\n")
			base.RevokedHostKeyFiles = []string{path("revoked")}
		}
		noUser := r.IntN(12) == 0
		prepare := func() *sshconfig.Host {
			h := *base
			dir := t.TempDir()
			h.UserKnownHostsFiles, h.GlobalKnownHostsFiles = []string{dir + "/user"}, []string{dir + "/global"}
			writeFile(t, dir+"/user", user)
			writeFile(t, dir+"/global", global)
			if noUser {
				h.UserKnownHostsFiles = nil
			}
			return &h
		}
		left := func(h *sshconfig.Host) string {
			if noUser {
				return ""
			}
			b, _ := os.ReadFile(h.UserKnownHostsFiles[0])
			return unhashed(strings.TrimPrefix(string(b), user), at, "alias")
		}
		h := prepare()
		// A changed key with "no": ssh goes on without forwards and passwords, which ends what
		// needs them.
		options := []string{"ExitOnForwardFailure=yes", "HashKnownHosts=" + map[bool]string{true: "yes", false: "no"}[h.HashKnownHosts]}
		if h.HostKeyAlgorithmsRelative {
			options = append(options, "HostKeyAlgorithms=-*cert*")
		} else if h.HostKeyAlgorithms != nil {
			options = append(options, "HostKeyAlgorithms="+strings.Join(h.HostKeyAlgorithms, ","))
		}
		if h.RevokedHostKeyFiles != nil {
			options = append(options, "RevokedHostKeys="+h.RevokedHostKeyFiles[0])
		}
		out, _ := exec.CommandContext(t.Context(), sshBin, append([]string{"-v"}, sshArgs(h, options...)...)...).CombinedOutput()
		want := strings.Contains(string(out), "Authenticated to ")
		wantLeft := left(h)
		h = prepare()
		h.BatchMode = true
		err := connects(t, h, nil)
		trusted[want]++
		if wantLeft != "" {
			added++
		}
		key, isKey := errors.AsType[*Error](err)
		noCommon := err != nil && !isKey && strings.Contains(string(out), "no matching host key type") // no algorithm in common
		if (err == nil) != want || err != nil && !isKey && !noCommon || left(h) != wantLeft {
			t.Errorf("ssh %v, we %v (%v)\nleft %q, ssh %q\n%+v\nuser\n%sglobal\n%sserver %d\n%s", want, err == nil, key, left(h), wantLeft, *base, user, global, slices.Index(servers, s), out)
		}
	}
	t.Logf("%s: %d connections: %d trusted, %d not; %d keys added", strings.TrimSpace(string(version)), n, trusted[true], trusted[false], added)
	if trusted[true] == 0 || trusted[false] == 0 {
		t.Error("always the same")
	}
}

// unhashed names the hosts of hashed lines, whose salt differs each time, by those of names that
// match.
func unhashed(text string, names ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if e, ok := parseKnownHost(line); ok && strings.HasPrefix(line, "|1|") {
			_, key, _ := strings.Cut(line, " ")
			line = "hashed " + key
			for _, name := range names {
				if e.matches(name) {
					line = "hashed(" + name + ") " + key
				}
			}
		}
		b.WriteString(line)
	}
	return b.String()
}
