//go:build !windows

package hostkeys

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// updateCase is a state of known_hosts from which ssh and we begin.
type updateCase struct {
	name string
	// server is nil for the one with three plain keys.
	server *openssh.Server
	// files are the texts of the UserKnownHostsFiles; "" is a missing one.
	files []string
	// global is the text of the GlobalKnownHostsFile.
	global string
	// options are for ssh, and edit says the same to us.
	options []string
	edit    func(*sshconfig.Host)
	// changed says whether the files are other ones afterwards.
	changed bool
}

// prepare returns a Host with new files of the case.
func (c *updateCase) prepare(t *testing.T, keyFile string) *sshconfig.Host {
	t.Helper()
	h := c.server.Host(t, "bastion", keyFile)
	dir := t.TempDir()
	h.UserKnownHostsFiles = nil
	for i, text := range c.files {
		file := filepath.Join(dir, fmt.Sprint("user", i))
		h.UserKnownHostsFiles = append(h.UserKnownHostsFiles, file)
		if text != "" {
			writeFile(t, file, text)
		}
	}
	h.GlobalKnownHostsFiles = []string{filepath.Join(dir, "global")}
	writeFile(t, h.GlobalKnownHostsFiles[0], c.global)
	h.UpdateHostKeys = "yes"
	if c.edit != nil {
		c.edit(h)
	}
	return h
}

// left returns the texts of the user's files and of the backup of the first one.
func left(h *sshconfig.Host) (texts []string) {
	for _, file := range append(h.UserKnownHostsFiles, h.UserKnownHostsFiles[0]+".old") {
		texts = append(texts, readFile(file))
	}
	return texts
}

// compare lets ssh and us connect, each with files of its own, and compares what is left of them.
func (c *updateCase) compare(t *testing.T, keyFile string) {
	h := c.prepare(t, keyFile)
	// ssh is done with the update before its command ends, because a round trip lies between.
	if ok, out := sshConnects(t, h, append(c.options, "UpdateHostKeys=yes")...); !ok {
		t.Fatalf("ssh: %s", out)
	}
	want := left(h)
	h = c.prepare(t, keyFile)
	conn, err := connect(t, t.Context(), h, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if c.changed {
		openssh.Eventually(t, "the same files as ssh leaves", func() bool { return slices.Equal(left(h), want) })
	}
	for range 2 { // two round trips are time enough for what should not happen: ssh has no more
		session, err := conn.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Run("true"); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	if got := left(h); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	changed := want[0] != c.files[0] || len(c.files) > 1 && c.files[1] != "" && want[1] != c.files[1]
	if changed != c.changed {
		t.Errorf("ssh made %q of %q", want, c.files)
	}
	if st, err := os.Stat(h.UserKnownHostsFiles[0]); err == nil && st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

// What UpdateHostKeys makes of known_hosts is judged by a real ssh: on a real server, from the same
// files, both leave the same ones behind.
func TestUpdateHostKeysAgreesWithSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user := openssh.WriteKey(t, path("user"), "").PublicKey()
	key := keyLine(openssh.WriteKey(t, path("host"), "").PublicKey())
	gone, other := keyLine(sshtest.NewKey().PublicKey()), keyLine(sshtest.NewKey().PublicKey())
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", path("rsa"))
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "ecdsa", "-b", "384", "-f", path("ecdsa"))
	rsa, ecdsa := keyLine(openssh.ReadPublicKey(t, path("rsa.pub"))), keyLine(openssh.ReadPublicKey(t, path("ecdsa.pub")))
	openssh.WriteKey(t, path("ca"), "")
	ca := keyLine(openssh.ReadPublicKey(t, path("ca.pub")))
	s := openssh.Start(t, user, "HostKey "+path("host"), "HostKey "+path("rsa"), "HostKey "+path("ecdsa"))
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "id", "-h", "-n", "127.0.0.1", path("host.pub"))
	certified := openssh.Start(t, user, "HostKey "+path("host"), "HostKey "+path("rsa"), "HostCertificate "+path("host-cert.pub"))
	at, port := fmt.Sprintf("[127.0.0.1]:%d", s.Addr.Port), fmt.Sprint(s.Addr.Port)
	salt := make([]byte, 20)
	for _, tt := range []updateCase{
		{name: "learns", files: []string{"# comment\n" + at + " " + key + " my comment\njunk\nother " + other}, changed: true},
		{name: "learns by rsa", files: []string{at + " " + rsa + "\n"}, changed: true},
		{name: "forgets", files: []string{at + " " + key + "\n" + at + " " + gone + "\n"}, changed: true},
		{name: "only forgets", files: []string{at + " " + key + "\n" + at + " " + rsa + "\n" + at + " " + ecdsa + "\n" + at + " " + gone + "\n"}, changed: true},
		{name: "nothing new", files: []string{at + " " + key + "\n" + at + " " + rsa + "\n" + at + " " + ecdsa}},
		{name: "two names", files: []string{at + ",alias " + key + "\n"}, changed: true},
		{name: "three names", files: []string{at + ",alias,third " + key + "\n"}},
		{name: "pattern", files: []string{"*:" + port + " " + key + "\n"}},
		{name: "pattern beside", files: []string{at + " " + key + "\n* " + gone + "\n"}},
		{name: "bare name", files: []string{"127.0.0.1 " + key + "\n"}},
		{name: "known under another name", files: []string{at + " " + key + "\nother " + rsa + "\n"}},
		{name: "obsolete one under another name", files: []string{at + " " + key + "\n" + at + " " + gone + "\nother " + gone + "\n"}},
		{name: "authority noted", files: []string{at + " " + key + "\n@cert-authority " + at + " " + ca + "\n"}},
		{name: "revoked one noted", files: []string{at + " " + key + "\n@revoked " + at + " " + gone + "\n"}},
		{name: "revoked for another host", files: []string{at + " " + key + "\n@revoked other " + gone + "\n"}, changed: true},
		{name: "by certificate", server: certified, files: []string{fmt.Sprintf("@cert-authority * %s\n", ca)}},
		{name: "global file", files: []string{"other " + other + "\n"}, global: at + " " + key + "\n"},
		{name: "global file as well", files: []string{at + " " + key + "\n"}, global: at + " " + key + "\n", changed: true},
		{name: "second file", files: []string{"# empty\n", at + " " + key + "\n" + at + " " + gone + "\n"}, changed: true},
		{name: "second file missing", files: []string{at + " " + key + "\n", ""}, changed: true},
		{name: "was hashed", files: []string{hashedName(salt, at) + " " + key + "\n"}, changed: true},
		{name: "no", files: []string{at + " " + key + "\n"}, options: []string{"UpdateHostKeys=no"}, edit: func(h *sshconfig.Host) { h.UpdateHostKeys = "no" }},
		{name: "ask in batch mode", files: []string{at + " " + key + "\n"}, options: []string{"UpdateHostKeys=ask"},
			edit: func(h *sshconfig.Host) { h.UpdateHostKeys, h.BatchMode = "ask", true }},
		{name: "HostKeyAlgorithms", files: []string{at + " " + key + "\n"}, options: []string{"HostKeyAlgorithms=ssh-ed25519,rsa-sha2-256"},
			edit: func(h *sshconfig.Host) { h.HostKeyAlgorithms = []string{"ssh-ed25519", "rsa-sha2-256"} }, changed: true},
		{name: "alias", files: []string{"web " + key + "\n"}, options: []string{"HostKeyAlias=WEB"}, edit: func(h *sshconfig.Host) { h.HostKeyAlias = "web" }, changed: true},
		{name: "accept-new", files: []string{"other " + other + "\n"}, options: []string{"StrictHostKeyChecking=accept-new"},
			edit: func(h *sshconfig.Host) { h.StrictHostKeyChecking = "accept-new" }, changed: true}, // one key is added, no others
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.server == nil {
				tt.server = s
			}
			tt.compare(t, path("user"))
		})
	}
}

// UpdateHostKeys ask, and hashed names, which differ each time.
func TestUpdateHostKeysAsks(t *testing.T) {
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user := openssh.WriteKey(t, path("user"), "").PublicKey()
	key := keyLine(openssh.WriteKey(t, path("host"), "").PublicKey())
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", path("rsa"))
	rsa := openssh.ReadPublicKey(t, path("rsa.pub"))
	s := openssh.Start(t, user, "HostKey "+path("host"), "HostKey "+path("rsa"))
	at := fmt.Sprintf("[127.0.0.1]:%d", s.Addr.Port)
	for _, tt := range []struct {
		name    string
		answers []string
		learned bool
	}{
		{"yes", []string{"what?", "yes"}, true},
		{"no", []string{"no"}, false},
		{"nobody", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := s.Host(t, "bastion", path("user"))
			h.UpdateHostKeys, h.HashKnownHosts = "ask", true
			old := at + " " + key + "\n"
			// A link is followed, not replaced.
			target := filepath.Join(t.TempDir(), "target")
			writeFile(t, target, old)
			os.Remove(h.UserKnownHostsFiles[0])
			if err := os.Symlink(target, h.UserKnownHostsFiles[0]); err != nil {
				t.Fatal(err)
			}
			p := &person{answers: tt.answers}
			c, err := connect(t, t.Context(), h, p.ask, false)
			if err != nil {
				t.Fatal(err)
			}
			openssh.Eventually(t, "the question", func() bool { return len(p.questions()) >= max(1, len(tt.answers)) })
			if q := p.questions()[0]; !strings.Contains(q, ssh.FingerprintSHA256(rsa)) || !strings.HasSuffix(q, "Accept updated hostkeys? (yes/no): ") {
				t.Errorf("asked %q", q)
			}
			read := func() string {
				b, _ := os.ReadFile(target)
				return string(b)
			}
			if !tt.learned {
				c.Close()
				if read() != old {
					t.Errorf("changed to %q", read())
				}
				return
			}
			openssh.Eventually(t, "the key is learned", func() bool { return read() != old })
			if text := read(); !strings.HasPrefix(text, old+"|1|") || !strings.Contains(text, keyLine(rsa)) {
				t.Errorf("got %q", text)
			}
			out := openssh.Run(t, "ssh-keygen", "-l", "-F", at, "-f", target)
			if strings.Count(out, "SHA256:") != 2 {
				t.Errorf("ssh-keygen finds %s", out)
			}
		})
	}
}
