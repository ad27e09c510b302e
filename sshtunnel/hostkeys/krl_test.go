//go:build !windows

package hostkeys

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// What a key revocation list revokes is judged by ssh-keygen -Q, on random lists that ssh-keygen -k
// makes: keys, their digests, serial numbers in lists, ranges and bitmaps, key ids, of one
// authority or of any.
func TestKRLAgreesWithSSHKeygen(t *testing.T) {
	t.Parallel()
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
	n := draws(t, 20)
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

func hexString(s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
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
