//go:build !windows

package hostkeys

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// trustWorld is what random configurations are drawn from.
type trustWorld struct {
	*rand.Rand
	dir     string
	servers []*sshtest.Server
	// keys are lines of public keys, some of them of the servers.
	keys []string
	// lists are key revocation lists.
	lists []string
	// strictLists is true for a judge from OpenSSH 10 on, where HostKeyAlgorithms must allow the
	// plain key of a certificate, too.
	strictLists bool
}

func (w *trustWorld) pick(s ...string) string { return s[w.IntN(len(s))] }

func newTrustWorld(t *testing.T) *trustWorld {
	w := &trustWorld{Rand: randomSource(t), dir: t.TempDir()}
	signers := map[string]ssh.Signer{
		"rsa": generate(t, w.dir, "rsa", "-t", "rsa", "-b", "2048"), "ecdsa": generate(t, w.dir, "ecdsa", "-t", "ecdsa"),
		"ed25519": generate(t, w.dir, "ed25519", "-t", "ed25519"), "ca": generate(t, w.dir, "ca", "-t", "ed25519"),
		"other": generate(t, w.dir, "other", "-t", "ed25519"), "otherrsa": generate(t, w.dir, "otherrsa", "-t", "rsa", "-b", "2048"),
	}
	all := []ssh.Signer{
		signers["ed25519"], signers["rsa"], signers["ecdsa"],
		certify(t, w.dir, "ed25519", signers["ed25519"], "-z", "7", "-n", "127.0.0.1,alias"),
		certify(t, w.dir, "ecdsa", signers["ecdsa"], "-z", "7", "-n", "elsewhere"),
	}
	for _, keys := range [][]ssh.Signer{all, all[:3], {all[0]}, {all[1]}, {all[0], all[3]}, {all[2], all[4]}} {
		w.servers = append(w.servers, serve(t, keys...))
	}
	for _, name := range []string{"rsa", "ecdsa", "ed25519", "ca", "other", "otherrsa"} {
		w.keys = append(w.keys, keyLine(signers[name].PublicKey()))
	}
	spec := filepath.Join(w.dir, "spec")
	for i, text := range []string{"serial: 7", "serial: 8", "id: id", "key: " + w.keys[2], "sha256: " + w.keys[0], "sha1: " + w.keys[3]} {
		w.lists = append(w.lists, filepath.Join(w.dir, fmt.Sprint("krl", i)))
		writeFile(t, spec, text+"\n")
		openssh.Run(t, "ssh-keygen", "-q", "-k", "-f", w.lists[i], "-s", filepath.Join(w.dir, "ca.pub"), spec)
	}
	return w
}

// trustCase is one draw.
type trustCase struct {
	host *sshconfig.Host
	// at is what the host is called in known_hosts, but for its alias.
	at string
	// user and global are the texts of the known_hosts files. With noUser, there is no
	// UserKnownHostsFile.
	user, global string
	noUser       bool
}

// knownHosts draws the text of a file.
func (w *trustWorld) knownHosts(at string, most int) string {
	var b strings.Builder
	for range w.IntN(most + 1) {
		hosts := w.pick(at, at, at, "127.0.0.1", "127.0.0.1", "*", "alias", "alias", "127.0.0.*", "other", "*,!"+at, "*,!alias",
			hashedName(make([]byte, 20), at), hashedName(make([]byte, 20), "alias"))
		marker := w.pick("", "", "", "", "", "", "@cert-authority ", "@cert-authority ", "@revoked ")
		b.WriteString(marker + hosts + " " + w.pick(w.keys...) + "\n")
	}
	return b.String()
}

func (w *trustWorld) draw(t *testing.T) *trustCase {
	server := w.servers[w.IntN(len(w.servers))]
	h := openssh.NewHost(t, "bastion", server.Addr())
	c := &trustCase{host: h, at: at(server)}
	h.HostKeyAlias = w.pick("", "", "", "alias", "Alias")
	c.user, c.global = w.knownHosts(c.at, 4), w.knownHosts(c.at, 2)
	h.StrictHostKeyChecking = w.pick("yes", "yes", "accept-new", "accept-new", "ask", "no")
	h.HashKnownHosts = w.IntN(2) == 0
	switch w.IntN(8) {
	case 0:
		list := w.pick("ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512,ssh-ed25519", "ecdsa-sha2-nistp256,rsa-sha2-512",
			"ssh-ed25519-cert-v01@openssh.com,ssh-ed25519")
		if w.strictLists && w.IntN(2) == 0 {
			list = w.pick("ssh-ed25519-cert-v01@openssh.com", "ecdsa-sha2-nistp256-cert-v01@openssh.com,rsa-sha2-512")
		}
		h.HostKeyAlgorithms = strings.Split(list, ",")
	case 1: // -*cert*
		h.HostKeyAlgorithms, h.HostKeyAlgorithmsRelative = defaultAlgorithms[6:], true
	}
	switch w.IntN(10) {
	case 0:
		h.RevokedHostKeyFiles = []string{w.pick(w.lists...)}
	case 1:
		h.RevokedHostKeyFiles = []string{filepath.Join(w.dir, "revoked")}
		writeFile(t, h.RevokedHostKeyFiles[0], w.pick(w.keys...)+"\n")
	}
	c.noUser = w.IntN(12) == 0
	return c
}

// prepare returns a copy of the Host with new files.
func (c *trustCase) prepare(t *testing.T) *sshconfig.Host {
	h := *c.host
	dir := t.TempDir()
	h.UserKnownHostsFiles, h.GlobalKnownHostsFiles = []string{dir + "/user"}, []string{dir + "/global"}
	writeFile(t, dir+"/user", c.user)
	writeFile(t, dir+"/global", c.global)
	if c.noUser {
		h.UserKnownHostsFiles = nil
	}
	return &h
}

// added returns the lines that were added to the user's file.
func (c *trustCase) added(h *sshconfig.Host) string {
	if c.noUser {
		return ""
	}
	return unhashed(strings.TrimPrefix(readFile(h.UserKnownHostsFiles[0]), c.user), c.at, "alias")
}

// options says to ssh what h says to us. With ExitOnForwardFailure, ssh does not go on after a
// changed key, which it otherwise does with StrictHostKeyChecking=no, but without forwards and
// passwords.
func (c *trustCase) options() []string {
	h := c.host
	options := []string{"ExitOnForwardFailure=yes", "HashKnownHosts=" + map[bool]string{true: "yes", false: "no"}[h.HashKnownHosts]}
	if h.HostKeyAlgorithmsRelative {
		options = append(options, "HostKeyAlgorithms=-*cert*")
	} else if h.HostKeyAlgorithms != nil {
		options = append(options, "HostKeyAlgorithms="+strings.Join(h.HostKeyAlgorithms, ","))
	}
	if h.RevokedHostKeyFiles != nil {
		options = append(options, "RevokedHostKeys="+h.RevokedHostKeyFiles[0])
	}
	return options
}

// Random known_hosts, RevokedHostKeys, HostKeyAlias, HostKeyAlgorithms and StrictHostKeyChecking
// are judged by a real ssh on the same server, which has keys of three types, two of them with
// certificates: we trust it exactly when ssh does, and leave the same known_hosts behind.
// SALLYPORT_SSH names another ssh.
func TestRandomConfigurationsAgreeWithSSH(t *testing.T) {
	t.Parallel()
	judge := os.Getenv("SALLYPORT_SSH")
	if judge == "" {
		judge = openssh.Tool(t, "ssh")
	}
	version, _ := exec.CommandContext(t.Context(), judge, "-V").CombinedOutput()
	w := newTrustWorld(t)
	w.strictLists = strings.Contains(string(version), "OpenSSH_1")
	trusted, added := map[bool]int{}, 0
	n := draws(t, 25)
	for range n {
		c := w.draw(t)
		h := c.prepare(t)
		out, _ := exec.CommandContext(t.Context(), judge, append([]string{"-v"}, sshArgs(h, c.options()...)...)...).CombinedOutput()
		want, wantAdded := strings.Contains(string(out), "Authenticated to "), c.added(h)
		trusted[want]++
		if wantAdded != "" {
			added++
		}
		h = c.prepare(t)
		h.BatchMode = true
		err := connects(t, h, nil)
		_, isKey := errors.AsType[*Error](err)
		noneInCommon := strings.Contains(string(out), "no matching host key type")
		if (err == nil) != want || err != nil && !isKey && !noneInCommon || c.added(h) != wantAdded {
			t.Errorf("ssh connects: %v, we: %v\nadded %q, ssh %q\n%+v\nuser\n%sglobal\n%s%s", want, err, c.added(h), wantAdded, *c.host, c.user, c.global, out)
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
