//go:build !windows

package hostkeys

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// RevokedHostKeys, judged by a real ssh on the same server: lists of keys, key revocation lists,
// several files.
func TestRevokedHostKeysAgreesWithSSH(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "ssh")
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	signer := openssh.WriteKey(t, path("host"), "")
	key := signer.PublicKey()
	ca := openssh.WriteKey(t, path("ca"), "").PublicKey()
	s := serve(t, certify(t, dir, "host", signer, "-I", "the id", "-z", "42", "-n", "127.0.0.1"))
	other := keyLine(sshtest.NewKey().PublicKey())
	list := func(name, spec string) string {
		writeFile(t, path("spec"), spec+"\n")
		openssh.Run(t, "ssh-keygen", "-q", "-k", "-f", path(name), "-s", path("ca.pub"), path("spec"))
		return path(name)
	}
	text := func(name, lines string) string {
		writeFile(t, path(name), lines)
		return path(name)
	}
	harmless := text("harmless", other+"\n")
	for _, tt := range []struct {
		name  string
		files []string
		ok    bool
	}{
		{name: "another key", files: []string{harmless}, ok: true},
		{name: "the key", files: []string{text("key", "# comment\n"+keyLine(key)+"\n")}},
		{name: "the authority", files: []string{text("authority", keyLine(ca))}},
		{name: "list: another serial", files: []string{list("l1", "serial: 41\nserial: 43-50")}, ok: true},
		{name: "list: serial", files: []string{list("l2", "serial: 40-42")}},
		{name: "list: id", files: []string{list("l3", "id: the id")}},
		{name: "list: key", files: []string{list("l4", "key: "+keyLine(key))}},
		{name: "list: digest", files: []string{list("l5", "sha1: "+keyLine(key))}},
		{name: "second file", files: []string{harmless, list("l6", "sha256: "+keyLine(key))}},
		{name: "missing file", files: []string{path("nosuch")}},
		{name: "damaged list", files: []string{text("damaged", krlMagic)}},
		{name: "damaged text", files: []string{text("junk", "junk\n")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "bastion", s.Addr())
			writeFile(t, h.UserKnownHostsFiles[0], "@cert-authority * "+keyLine(ca)+"\n")
			h.RevokedHostKeyFiles = tt.files
			if got, out := sshConnects(t, h, "RevokedHostKeys="+strings.Join(tt.files[:1], " ")); got != tt.ok && len(tt.files) == 1 {
				t.Errorf("ssh: %v: %s", got, out)
			}
			err := connects(t, h, nil)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				return
			}
			if e, ok := errors.AsType[*Error](err); !ok || !e.Revoked || !strings.Contains(err.Error(), tt.files[len(tt.files)-1]) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The text form of RevokedHostKeys, and damaged lists: ssh refuses every key by a file that it
// cannot understand.
func TestRevokedFileAgreesWithSSHKeygen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	key, other := openssh.WriteKey(t, path("key"), "").PublicKey(), sshtest.NewKey().PublicKey()
	openssh.WriteKey(t, path("ca"), "")
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "id", "-h", path("key.pub"))
	cert := openssh.ReadPublicKey(t, path("key-cert.pub"))
	ca := keyLine(openssh.ReadPublicKey(t, path("ca.pub")))
	writeFile(t, path("spec"), "serial: 1-9\nid: x\nsha256: "+keyLine(other)+"\n")
	openssh.Run(t, "ssh-keygen", "-q", "-k", "-f", path("whole"), "-s", path("ca.pub"), path("spec"))
	whole, err := os.ReadFile(path("whole"))
	if err != nil {
		t.Fatal(err)
	}
	section := func(kind byte, body string) string {
		return string(whole) + string([]byte{kind}) + string(ssh.Marshal(struct{ S string }{body}))
	}
	extension := func(critical string) string {
		return string(ssh.Marshal(struct{ S string }{"ext@example.org"})) + critical + string(ssh.Marshal(struct{ S string }{"x"}))
	}
	const (
		ok, revoked, fails = "ok", "REVOKED", "fails"
	)
	for name, tt := range map[string]struct{ text, want, wantCert string }{
		"key":                          {"# c\n\n \t" + keyLine(key) + " comment\n", revoked, revoked},
		"another":                      {keyLine(other) + "\n", ok, ok},
		"authority":                    {ca + "\n", ok, revoked},
		"certificate":                  {keyLine(cert) + "\n", revoked, revoked},
		"no newline":                   {keyLine(key), revoked, revoked},
		"junk":                         {"junk\n" + keyLine(key) + "\n", fails, fails},
		"junk after it":                {keyLine(key) + "\njunk\n", revoked, revoked},
		"options":                      {"no-pty " + keyLine(key) + "\n", fails, fails},
		"empty":                        {"", ok, ok},
		"whole list":                   {string(whole), ok, ok},
		"list cut":                     {string(whole[:len(whole)-3]), fails, fails},
		"bytes after it":               {string(whole) + "x", fails, fails},
		"unknown section":              {section(77, "x"), fails, fails},
		"critical extension":           {section(255, extension("\x01")), fails, fails},
		"extension that need not be":   {section(255, extension("\x00")), ok, ok},
		"fingerprint of another size":  {section(5, string(ssh.Marshal(struct{ S string }{"short"}))), fails, fails},
		"format of another version":    {strings.Replace(string(whole), "\x00\x00\x00\x01", "\x00\x00\x00\x02", 1), fails, fails},
		"serial numbers back to front": {section(1, hexString("00000000 00000000 21 00000010 0000000000000009 0000000000000003")), fails, fails},
		"serial number zero":           {section(1, hexString("00000000 00000000 20 00000008 0000000000000000")), fails, fails},
		"negative bitmap":              {section(1, hexString("00000000 00000000 22 0000000d 0000000000000001 00000001 80")), fails, fails},
		"bitmap beyond the last":       {section(1, hexString("00000000 00000000 22 0000000d ffffffffffffffff 00000001 02")), fails, fails},
		"bitmap at the last":           {section(1, hexString("00000000 00000000 22 0000000d ffffffffffffffff 00000001 01")), ok, ok},
		"empty bitmap":                 {section(1, hexString("00000000 00000000 22 0000000c 0000000000000001 00000000")), ok, ok},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "revoked")
			writeFile(t, file, tt.text)
			for _, k := range []struct {
				key  ssh.PublicKey
				want string
			}{{key, tt.want}, {cert, tt.wantCert}} {
				_, is, err := revokedIn(file, k.key)
				got := map[bool]string{true: revoked, false: ok}[is]
				if err != nil {
					got = fails
				}
				if got != k.want {
					t.Errorf("%T: got %s (%v), want %s", k.key, got, err, k.want)
				}
			}
			if !strings.HasPrefix(tt.text, "SSHKRL") || name == "extension that need not be" {
				return // ssh-keygen -Q takes only lists, the text form is judged in TestRevokedHostKeys; extensions came with 9.4
			}
			out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-Q", "-f", file, path("key.pub")).CombinedOutput()
			if want := tt.want == ok; (err == nil) != want {
				t.Errorf("ssh-keygen: %v: %s", err, out)
			}
		})
	}
}
