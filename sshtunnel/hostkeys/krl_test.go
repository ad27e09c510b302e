//go:build !windows

package hostkeys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// drawsOr is how many random cases a test makes: few, or as many as SALLYPORT_DRAWS says.
func drawsOr(t *testing.T, few int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("SALLYPORT_DRAWS"))
	if err != nil {
		n = few
	}
	t.Logf("%d draws", n)
	return n
}

// randomSource returns a random source, and logs its seed.
func randomSource(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// What a key revocation list revokes is judged by ssh-keygen -Q, on random lists that ssh-keygen -k
// makes: keys, their digests, serial numbers in lists, ranges and bitmaps, key ids, of one authority or of any.
func TestKRLAgreesWithSSHKeygen(t *testing.T) {
	openssh.Tool(t, "ssh-keygen")
	r := randomSource(t)
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	authorities := []string{"ca1", "ca2"}
	var files []string // public keys and certificates that are looked up
	keys := map[string]ssh.PublicKey{}
	add := func(file string) {
		files = append(files, file)
		keys[file] = openssh.ReadPublicKey(t, file)
	}
	for _, ca := range authorities {
		openssh.WriteKey(t, path(ca), "")
	}
	serials := []uint64{0, 1, 2, 7, 64, 1000, 1 << 40, math.MaxUint64}
	for i, serial := range serials {
		k := path(fmt.Sprintf("key%d", i))
		openssh.WriteKey(t, k, "")
		add(k + ".pub")
		for _, ca := range authorities {
			c := k + ca // a second name for the same key, for a certificate of its own
			b, _ := os.ReadFile(k + ".pub")
			writeFile(t, c+".pub", string(b))
			openssh.Run(t, "ssh-keygen", "-q", "-s", path(ca), "-I", fmt.Sprintf("id%d", i%3), "-h", "-z", fmt.Sprint(serial), c+".pub")
			add(c + "-cert.pub")
		}
	}
	add(path("ca1.pub"))
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "ecdsa", "-f", path("ecdsa"))
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", path("rsa"))
	add(path("ecdsa.pub"))
	add(path("rsa.pub"))

	serial := func() uint64 {
		return max(1, serials[r.IntN(len(serials))]+uint64(r.IntN(3))-1)
	}
	line := func() string {
		b, err := os.ReadFile(files[r.IntN(len(files))])
		if err != nil {
			t.Fatal(err)
		}
		switch r.IntN(7) {
		case 0:
			return fmt.Sprintf("serial: %d", serial())
		case 1:
			from := min(serial(), math.MaxUint64-100)
			return fmt.Sprintf("serial: %d-%d", from, from+1+uint64(r.IntN(99)))
		case 2: // near each other, so that it becomes a bitmap
			from := min(serial(), math.MaxUint64-500)
			var s []string
			for range 40 {
				s = append(s, fmt.Sprintf("serial: %d", from+uint64(r.IntN(400))))
			}
			return strings.Join(s, "\n")
		case 3:
			return fmt.Sprintf("id: id%d", r.IntN(4))
		case 4:
			return "sha1: " + strings.TrimSpace(string(b))
		case 5:
			return "sha256: " + strings.TrimSpace(string(b))
		}
		return "key: " + strings.TrimSpace(string(b))
	}
	revoked, kinds := 0, map[string]int{}
	n := drawsOr(t, 60)
	for range n {
		os.Remove(path("krl"))
		for _, ca := range append([]string{"none"}, authorities...)[r.IntN(2) : 1+r.IntN(3)] {
			var spec []string
			for range 1 + r.IntN(4) {
				spec = append(spec, line())
			}
			writeFile(t, path("spec"), strings.Join(spec, "\n")+"\n")
			args := []string{"-q", "-k", "-f", path("krl"), "-s", ca}
			if ca != "none" {
				args[5] = path(ca + ".pub")
			}
			if _, err := os.Stat(path("krl")); err == nil {
				args = append(args, "-u")
			}
			openssh.Run(t, "ssh-keygen", append(args, path("spec"))...)
		}
		b, err := os.ReadFile(path("krl"))
		if err != nil {
			continue // no authority was drawn
		}
		list, err := parseKRL(b)
		if err != nil {
			t.Fatalf("%v in %x", err, b)
		}
		for _, a := range list.authorities {
			for _, s := range a.serials {
				kinds[fmt.Sprintf("bitmap %v, range %v", s.bitmap != nil, s.lo != s.hi)]++
			}
			kinds["id"] += len(a.ids)
		}
		out, _ := exec.CommandContext(t.Context(), "ssh-keygen", append([]string{"-Q", "-f", path("krl")}, files...)...).Output() // status 1: some are revoked
		answers := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(answers) != len(files) {
			t.Fatalf("ssh-keygen -Q: %s", out)
		}
		for i, file := range files {
			want := strings.HasSuffix(answers[i], ": REVOKED")
			if want {
				revoked++
			}
			if got := list.revokes(keys[file]); got != want {
				t.Errorf("%s: got %v, ssh-keygen %q, list %x", filepath.Base(file), got, answers[i], b)
			}
			if _, got, err := revokedIn(path("krl"), keys[file]); got != want || err != nil {
				t.Errorf("%s: revokedIn: %v, %v", filepath.Base(file), got, err)
			}
		}
	}
	t.Logf("%d keys asked for, %d revoked; serials were %v", n*len(files), revoked, kinds)
	if revoked == 0 {
		t.Error("nothing was ever revoked")
	}
}

// The text form of RevokedHostKeys, and damaged lists: ssh refuses every key by a file that it cannot understand.
func TestRevokedFileAgreesWithSSHKeygen(t *testing.T) {
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

func hexString(s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// RevokedHostKeys on a real server, with ssh beside: lists of keys, key revocation lists, several files.
func TestRevokedHostKeys(t *testing.T) {
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user, key := openssh.WriteKey(t, path("user"), "").PublicKey(), openssh.WriteKey(t, path("host"), "").PublicKey()
	openssh.WriteKey(t, path("ca"), "")
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "the id", "-h", "-z", "42", path("host.pub"))
	s := openssh.Start(t, user, "HostKey "+path("host"), "HostCertificate "+path("host-cert.pub"))
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
		{name: "the authority", files: []string{text("authority", keyLine(openssh.ReadPublicKey(t, path("ca.pub"))))}},
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
			h := s.Host(t, "bastion", path("user"))
			writeFile(t, h.UserKnownHostsFiles[0], "@cert-authority * "+keyLine(openssh.ReadPublicKey(t, path("ca.pub")))+"\n")
			h.RevokedHostKeyFiles = tt.files
			if got, out := sshConnects(t, h, path("user"), "RevokedHostKeys="+strings.Join(tt.files[:1], " ")); got != tt.ok && len(tt.files) == 1 {
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

// sshConnects tells whether the real ssh gets to run a command on h with its known_hosts files.
func sshConnects(t *testing.T, h *sshconfig.Host, keyFile string, options ...string) (bool, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh"), sshArgs(h, keyFile, options...)...)
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

// sshArgs makes ssh do what h says about the host key; options go first, so they win.
func sshArgs(h *sshconfig.Host, keyFile string, options ...string) []string {
	args := []string{"-F", "none", "-p", fmt.Sprint(h.Port), "-i", keyFile}
	files := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, " ")
	}
	options = append(options, "BatchMode=yes", "StrictHostKeyChecking="+h.StrictHostKeyChecking, "IdentitiesOnly=yes", "UpdateHostKeys=no",
		"UserKnownHostsFile="+files(h.UserKnownHostsFiles), "GlobalKnownHostsFile="+files(h.GlobalKnownHostsFiles))
	if h.HostKeyAlias != "" {
		options = append(options, "HostKeyAlias="+h.HostKeyAlias)
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	return append(args, h.HostName, "true")
}

func FuzzKRL(f *testing.F) {
	key := sshtest.NewKey()
	cert := &ssh.Certificate{Key: sshtest.NewKey().PublicKey(), CertType: ssh.HostCert, Serial: 5, KeyId: "id", ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(zeroes{}, key); err != nil {
		f.Fatal(err)
	}
	head := krlMagic + hexString("00000001 0000000000000001 0000000000000000 0000000000000000 00000000 00000000")
	f.Add([]byte(head))
	f.Add([]byte(head + hexString("01 0000003a 00000000 00000000 20 00000008 0000000000000007 21 00000010 0000000000000001 0000000000000004 22 0000000d 0000000000000003 00000001 05")))
	f.Add([]byte(head + hexString("01 00000011 00000000 00000000 23 00000006 00000002 6964") + hexString("ff 0000000b 00000002 6162 00 00000001 78")))
	f.Add([]byte(head + hexString("02 00000008 00000004 61626364 03 00000018 00000014 0000000000000000000000000000000000000000")))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseKRL(b)
		if (list == nil) == (err == nil) {
			t.Fatalf("%v, %v", list, err)
		}
		if err != nil {
			return
		}
		list.revokes(key.PublicKey())
		list.revokes(cert)
		for _, a := range list.authorities {
			for _, s := range a.serials {
				if s.lo == 0 && s.bitmap == nil || s.lo > s.hi || !s.has(s.hi) || s.has(s.lo-1) && s.lo > 0 {
					t.Fatalf("serials %+v", s)
				}
			}
		}
	})
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
