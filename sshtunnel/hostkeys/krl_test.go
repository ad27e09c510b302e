//go:build !windows

package hostkeys

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// krlWorld is what random key revocation lists are made of.
type krlWorld struct {
	*rand.Rand
	dir string
	// files are public keys and certificates, and keys is what they hold.
	files   []string
	keys    map[string]ssh.PublicKey
	serials []uint64
}

func (w *krlWorld) path(name string) string { return filepath.Join(w.dir, name) }

// authorities are the names of the keys that sign.
var authorities = []string{"ca1", "ca2"}

// newKRLWorld makes keys of three types, and for each serial number a key with a certificate by
// each authority.
func newKRLWorld(t *testing.T) *krlWorld {
	w := &krlWorld{
		Rand: randomSource(t), dir: t.TempDir(), keys: map[string]ssh.PublicKey{},
		serials: []uint64{0, 1, 2, 7, 64, 1000, 1 << 40, math.MaxUint64},
	}
	add := func(file string) {
		w.files = append(w.files, file)
		w.keys[file] = openssh.ReadPublicKey(t, file)
	}
	for _, ca := range authorities {
		openssh.WriteKey(t, w.path(ca), "")
	}
	for i, serial := range w.serials {
		key := w.path(fmt.Sprintf("key%d", i))
		openssh.WriteKey(t, key, "")
		add(key + ".pub")
		for _, ca := range authorities {
			copied := key + ca // a second name for the same key, for a certificate of its own
			writeFile(t, copied+".pub", readFile(key+".pub"))
			openssh.Run(t, "ssh-keygen", "-q", "-s", w.path(ca), "-I", fmt.Sprintf("id%d", i%3), "-h", "-z", fmt.Sprint(serial), copied+".pub")
			add(copied + "-cert.pub")
		}
	}
	add(w.path("ca1.pub"))
	generate(t, w.dir, "ecdsa", "-t", "ecdsa")
	generate(t, w.dir, "rsa", "-t", "rsa", "-b", "2048")
	add(w.path("ecdsa.pub"))
	add(w.path("rsa.pub"))
	return w
}

func (w *krlWorld) serial() uint64 {
	return max(1, w.serials[w.IntN(len(w.serials))]+uint64(w.IntN(3))-1)
}

// line draws one or more lines of what ssh-keygen -k takes.
func (w *krlWorld) line() string {
	key := strings.TrimSpace(readFile(w.files[w.IntN(len(w.files))]))
	switch w.IntN(7) {
	case 0:
		return fmt.Sprintf("serial: %d", w.serial())
	case 1:
		from := min(w.serial(), math.MaxUint64-100)
		return fmt.Sprintf("serial: %d-%d", from, from+1+uint64(w.IntN(99)))
	case 2: // near each other, so that they become a bitmap
		from := min(w.serial(), math.MaxUint64-500)
		var lines []string
		for range 40 {
			lines = append(lines, fmt.Sprintf("serial: %d", from+uint64(w.IntN(400))))
		}
		return strings.Join(lines, "\n")
	case 3:
		return fmt.Sprintf("id: id%d", w.IntN(4))
	case 4:
		return "sha1: " + key
	case 5:
		return "sha256: " + key
	}
	return "key: " + key
}

// draw makes a list, in one or more steps, each for an authority or for all. It returns nil if no
// authority was drawn.
func (w *krlWorld) draw(t *testing.T) []byte {
	os.Remove(w.path("krl"))
	for _, ca := range append([]string{"none"}, authorities...)[w.IntN(2) : 1+w.IntN(3)] {
		var spec []string
		for range 1 + w.IntN(4) {
			spec = append(spec, w.line())
		}
		writeFile(t, w.path("spec"), strings.Join(spec, "\n")+"\n")
		if ca != "none" {
			ca = w.path(ca + ".pub")
		}
		args := []string{"-q", "-k", "-f", w.path("krl"), "-s", ca}
		if _, err := os.Stat(w.path("krl")); err == nil {
			args = append(args, "-u")
		}
		openssh.Run(t, "ssh-keygen", append(args, w.path("spec"))...)
	}
	list, err := os.ReadFile(w.path("krl"))
	if err != nil {
		return nil
	}
	return list
}

// What a key revocation list revokes is judged by ssh-keygen -Q, on random lists that ssh-keygen -k
// makes: keys, their digests, serial numbers in lists, ranges and bitmaps, key ids, of one
// authority or of all.
func TestKRLAgreesWithSSHKeygen(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "ssh-keygen")
	w := newKRLWorld(t)
	revoked, kinds := 0, map[string]int{}
	n := draws(t, 20)
	for range n {
		b := w.draw(t)
		if b == nil {
			continue
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
		args := append([]string{"-Q", "-f", w.path("krl")}, w.files...)
		out, _ := exec.CommandContext(t.Context(), "ssh-keygen", args...).Output() // status 1: some are revoked
		answers := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(answers) != len(w.files) {
			t.Fatalf("ssh-keygen -Q: %s", out)
		}
		for i, file := range w.files {
			want := strings.HasSuffix(answers[i], ": REVOKED")
			if want {
				revoked++
			}
			if got := list.revokes(w.keys[file]); got != want {
				t.Errorf("%s: got %v, ssh-keygen %q, list %x", filepath.Base(file), got, answers[i], b)
			}
			if _, got, err := revokedIn(w.path("krl"), w.keys[file]); got != want || err != nil {
				t.Errorf("%s: revokedIn: %v, %v", filepath.Base(file), got, err)
			}
		}
	}
	t.Logf("%d keys asked for, %d revoked; serials were %v", n*len(w.files), revoked, kinds)
	if revoked == 0 {
		t.Error("nothing was ever revoked")
	}
}

// hexString returns the bytes of hexadecimal digits; blanks do not count.
func hexString(s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// No bytes make the reader panic, and a list that it accepts can be asked.
func FuzzKRL(f *testing.F) {
	key := sshtest.NewKey()
	cert := &ssh.Certificate{Key: sshtest.NewKey().PublicKey(), CertType: ssh.HostCert, Serial: 5, KeyId: "id", ValidPrincipals: []string{"host"}, ValidBefore: ssh.CertTimeInfinity}
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
