//go:build !windows

package hostkeys

import (
	"context"
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

// What UpdateHostKeys makes of known_hosts is judged by a real ssh: on a real server, from the same
// file, both leave the same one behind.
func TestUpdateHostKeysAgreesWithSSH(t *testing.T) {
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
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "id", "-h", path("host.pub"))
	certified := openssh.Start(t, user, "HostKey "+path("host"), "HostKey "+path("rsa"), "HostCertificate "+path("host-cert.pub"))
	at, port := fmt.Sprintf("[127.0.0.1]:%d", s.Addr.Port), fmt.Sprint(s.Addr.Port)
	salt := make([]byte, 20)
	for _, tt := range []struct {
		name    string
		server  *openssh.Server
		files   []string // UserKnownHostsFile
		global  string
		options []string
		edit    func(*sshconfig.Host)
		changed bool
	}{
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
			server := tt.server
			if server == nil {
				server = s
			}
			prepare := func(who string) *sshconfig.Host {
				h := server.Host(t, "bastion", path("user"))
				dir := filepath.Join(t.TempDir(), who)
				os.Mkdir(dir, 0o700)
				h.UserKnownHostsFiles = nil
				for i, text := range tt.files {
					file := filepath.Join(dir, fmt.Sprint("user", i))
					h.UserKnownHostsFiles = append(h.UserKnownHostsFiles, file)
					if text != "" {
						writeFile(t, file, text)
					}
				}
				h.GlobalKnownHostsFiles = []string{filepath.Join(dir, "global")}
				writeFile(t, h.GlobalKnownHostsFiles[0], tt.global)
				h.UpdateHostKeys = "yes"
				if tt.edit != nil {
					tt.edit(h)
				}
				return h
			}
			left := func(h *sshconfig.Host) (texts []string) {
				for _, file := range append(h.UserKnownHostsFiles, h.UserKnownHostsFiles[0]+".old") {
					b, err := os.ReadFile(file)
					if err != nil {
						b = []byte("missing")
					}
					texts = append(texts, string(b))
				}
				return texts
			}
			h := prepare("ssh")
			// The update is done before the command ends, where a round trip lies between.
			ok, out := sshConnects(t, h, path("user"), append(tt.options, "UpdateHostKeys=yes")...)
			if !ok {
				t.Fatalf("ssh: %s", out)
			}
			want := left(h)
			h = prepare("ours")
			c, err := connect(t, t.Context(), h, nil, false)
			if err != nil {
				t.Fatal(err)
			}
			if tt.changed {
				eventually(t, "the same files as ssh leaves", func() bool { return slices.Equal(left(h), want) })
			}
			for range 2 { // time enough for what should not happen: ssh has no more
				session, err := c.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				if err := session.Run("true"); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			if got := left(h); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if changed := want[0] != tt.files[0] || len(tt.files) > 1 && tt.files[1] != "" && want[1] != tt.files[1]; changed != tt.changed {
				t.Errorf("ssh made %q of %q", want, tt.files)
			}
			if st, err := os.Stat(h.UserKnownHostsFiles[0]); err == nil && st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", st.Mode())
			}
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
			eventually(t, "the question", func() bool { return len(p.questions()) >= max(1, len(tt.answers)) })
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
			eventually(t, "the key is learned", func() bool { return read() != old })
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

// A server that says more than it can prove teaches nothing.
func TestUpdateHostKeysWithoutProof(t *testing.T) {
	mine, stolen := sshtest.NewKey(), sshtest.NewKey()
	strings1 := func(all ...[]byte) (b []byte) {
		for _, s := range all {
			b = append(b, ssh.Marshal(struct{ S []byte }{s})...)
		}
		return b
	}
	sign := func(c ssh.Conn, request string, by ssh.Signer, key ssh.PublicKey) []byte {
		sig, err := by.Sign(zeroes{}, ssh.Marshal(struct {
			R    string
			S, K []byte
		}{request, c.SessionID(), key.Marshal()}))
		if err != nil {
			t.Fatal(err)
		}
		return ssh.Marshal(sig)
	}
	honest := func(c ssh.Conn) (bool, []byte) {
		return true, strings1(sign(c, proveRequest, stolen, stolen.PublicKey()))
	}
	for _, tt := range []struct {
		name    string
		notice  []byte
		prove   func(c ssh.Conn) (bool, []byte)
		learned bool
	}{
		{"proof", nil, honest, true},
		{"refused", nil, func(ssh.Conn) (bool, []byte) { return false, nil }, false},
		{"of another key", nil, func(c ssh.Conn) (bool, []byte) {
			return true, strings1(sign(c, proveRequest, mine, stolen.PublicKey()))
		}, false},
		{"of another text", nil, func(c ssh.Conn) (bool, []byte) {
			return true, strings1(sign(c, hostKeysRequest, stolen, stolen.PublicKey()))
		}, false},
		{"none", nil, func(ssh.Conn) (bool, []byte) { return true, nil }, false},
		{"junk", nil, func(ssh.Conn) (bool, []byte) { return true, []byte("\x00\x00\x00\x09junk") }, false},
		{"junk inside", nil, func(ssh.Conn) (bool, []byte) { return true, strings1([]byte("junk")) }, false},
		{"key told twice", strings1(mine.PublicKey().Marshal(), stolen.PublicKey().Marshal(), stolen.PublicKey().Marshal()), honest, false},
		{"notice of junk", []byte("\x00\x00\x00\x09junk"), honest, false},
		{"too many keys", strings1(make([][]byte, maxServerKeys+1)...), honest, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			old := "web " + keyLine(mine.PublicKey()) + "\n"
			writeFile(t, file, old)
			client, server := sshPair(t, mine)
			check := &Verifier{log: testLog(t), allowed: defaultAlgorithms, updatable: true,
				host: &sshconfig.Host{Alias: "web", HostName: "web", Port: 22, UserKnownHostsFiles: []string{file}, UpdateHostKeys: "yes"}}
			go func() { // ends with the connection
				for r := range server.reqs {
					r.Reply(tt.prove(server.Conn))
				}
			}()
			notice := tt.notice
			if notice == nil {
				notice = strings1(mine.PublicKey().Marshal(), stolen.PublicKey().Marshal())
			}
			rest := check.HandleUpdates(client.Conn, client.reqs, nil)
			for _, name := range []string{hostKeysRequest, hostKeysRequest, "another"} {
				if _, _, err := server.Conn.SendRequest(name, false, notice); err != nil {
					t.Fatal(err)
				}
			}
			if r := <-rest; r.Type != "another" {
				t.Errorf("passed on: %s", r.Type)
			}
			read := func() string {
				b, _ := os.ReadFile(file)
				return string(b)
			}
			if tt.learned {
				eventually(t, "the key is learned", func() bool { return read() == old+"web "+keyLine(stolen.PublicKey())+"\n" })
			}
			client.Conn.Close()
			for range rest { // closed after the update has ended
			}
			if changed := read() != old; changed != tt.learned {
				t.Errorf("known_hosts: %q", read())
			}
		})
	}
}

// Processes that write the same file at the same time lose nothing: ours lock, ssh's own appends come between.
func TestKnownHostsWritersDoNotLoseLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known_hosts")
	const writers, each = 4, 8
	key := sshtest.NewKey().PublicKey()
	done := make(chan error, writers)
	for w := range writers {
		go func() { // ends with its lines
			var err error
			for i := range each {
				name := fmt.Sprintf("w%d-%d", w, i)
				if err == nil {
					err = appendKnownHost(context.Background(), file, key, false, name)
				}
				if err == nil { // the same again adds nothing
					err = appendKnownHost(context.Background(), file, key, false, name)
				}
				if err == nil && i%2 == 0 { // rewritten under another key's name
					err = replaceKnownHost(context.Background(), file, replacement{name: "new-" + name, keys: []ssh.PublicKey{key}})
				}
			}
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	out, err := exec.Command("sort", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(out), "\n"), writers*(each+each/2); got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, out)
	}
}
