//go:build !windows

package userkeys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest/openssh"
)

// peerMode makes the test binary an ssh-sk-helper with a token inside, which works as the value
// says: sign, pin, absent, garbage, old, crash, silent.
const peerMode = "USERKEYS_TEST_SK_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(peerMode); mode != "" {
		os.Exit(skPeer(mode))
	}
	os.Exit(m.Run())
}

// skPeer is the helper's side of the protocol, written from ssh-sk-helper.c. The handle of its keys
// is the private key.
func skPeer(mode string) int {
	var head [4]byte
	if _, err := io.ReadFull(os.Stdin, head[:]); err != nil {
		return 1
	}
	message := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(os.Stdin, message); err != nil {
		return 1
	}
	var req struct {
		Type     uint32
		Log      byte
		Level    uint32
		Key      []byte
		Provider string
		Data     []byte
		Algo     string
		Compat   uint32
		PIN      string
	}
	if message[0] != 5 || ssh.Unmarshal(message[1:], &req) != nil || req.Type != 1 || req.Provider != "internal" {
		fmt.Fprintln(os.Stderr, "bad request")
		return 255
	}
	answer := func(version byte, body []byte) int {
		out := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
		os.Stdout.Write(append(append(out, version), body...))
		return 0
	}
	fail := func(n uint32) int { return answer(5, ssh.Marshal(struct{ Type, Err uint32 }{0, n})) }
	switch {
	case mode == "absent":
		return fail(60)
	case mode == "refuses":
		return fail(4)
	case mode == "pin" && req.PIN != "1234":
		return fail(43)
	case mode == "garbage":
		return answer(5, []byte("xx"))
	case mode == "old":
		return answer(4, ssh.Marshal(struct{ Type uint32 }{1}))
	case mode == "crash":
		fmt.Fprintln(os.Stderr, "unsupported\x1b version")
		return 255
	case mode == "flood":
		os.Stdout.Write(make([]byte, 4<<20))
		return 0
	}
	var key struct {
		Type, Public, App string
		Flags             byte
		Handle, Reserved  []byte
	}
	if ssh.Unmarshal(req.Key, &key) != nil {
		fmt.Fprintln(os.Stderr, "bad key")
		return 255
	}
	app, sum := sha256.Sum256([]byte(key.App)), sha256.Sum256(req.Data)
	state := []byte{key.Flags, 0, 0, 0, 9}
	sig := ed25519.Sign(ed25519.PrivateKey(key.Handle), slices.Concat(app[:], state, sum[:]))
	blob := ssh.Marshal(ssh.Signature{Format: key.Type, Blob: sig, Rest: state})
	return answer(5, ssh.Marshal(struct {
		Type uint32
		Sig  []byte
	}{1, blob}))
}

// writeTokenKey writes the file of a security key whose handle skPeer knows. It returns the public
// key.
func writeTokenKey(t *testing.T, file string, flags byte) ssh.PublicKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	blob := ssh.Marshal(struct{ Type, Key, App string }{ssh.KeyAlgoSKED25519, string(public), "ssh:"})
	rest := ssh.Marshal(struct {
		Flags                     byte
		Handle, Reserved, Comment []byte
	}{flags, private, nil, []byte("token")})
	secret := ssh.Marshal(struct {
		Check1, Check2 uint32
		Rest           []byte `ssh:"rest"`
	}{7, 7, append(slices.Clone(blob), rest...)})
	for i := byte(1); len(secret)%8 != 0; i++ {
		secret = append(secret, i)
	}
	text := append([]byte(openSSHMagic), ssh.Marshal(openSSHKey{Cipher: "none", KDF: "none", Keys: 1, Public: blob, Private: secret})...)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: openSSHType, Bytes: text}), 0o600); err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// A security key in a file signs through ssh-sk-helper. A touch and a PIN are asked for as ssh asks
// for them, and each fault has its words.
func TestSecurityKeyFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "id_ed25519_sk")
	pub := writeTokenKey(t, file, skTouch)
	untouched := filepath.Join(dir, "untouched")
	untouchedPub := writeTokenKey(t, untouched, 0)
	for _, tt := range []struct {
		mode, answer string
		file         string
		pub          ssh.PublicKey
		ok           bool
		asked        int
		waits        int
		note         string
		person       bool
	}{
		{mode: "sign", file: file, pub: pub, ok: true, waits: 1},
		{mode: "sign", file: untouched, pub: untouchedPub, ok: true},
		{mode: "pin", answer: "1234", file: file, pub: pub, ok: true, asked: 1, waits: 2},
		{mode: "pin", answer: "9999", file: file, pub: pub, asked: 1, waits: 2, note: "the token did not accept the PIN"},
		{mode: "pin", file: file, pub: pub, asked: 1, waits: 1, note: "PIN: nobody is there", person: true},
		{mode: "absent", file: file, pub: pub, waits: 1, note: "the token of this key is not plugged in"},
		{mode: "refuses", file: file, pub: pub, waits: 1, note: "it was not touched in time"},
		{mode: "garbage", file: file, pub: pub, waits: 1, note: "does not speak version 5"},
		{mode: "old", file: file, pub: pub, waits: 1, note: "does not speak version 5"},
		{mode: "crash", file: file, pub: pub, waits: 1, note: "unsupported version; ssh-add " + file},
		{mode: "flood", file: file, pub: pub, waits: 1, note: "does not speak version 5"},
	} {
		t.Run(tt.mode+tt.answer, func(t *testing.T) {
			t.Setenv(peerMode, tt.mode)
			var r report
			c := r.config(host(tt.file), tt.answer)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			c.Getenv = func(name string) string { return map[string]string{"SSH_SK_HELPER": self}[name] }
			waits, over := 0, 0
			c.Wait = func(w Wait) func() {
				if w.Text == "" {
					t.Error("there is no agent to wait for")
				}
				if waits++; !w.Certain || !strings.HasPrefix(w.Text, "Confirm user presence for key ED25519-SK SHA256:") {
					t.Errorf("told %+v", w)
				}
				return func() { over++ }
			}
			keys := Collect(c)
			if len(keys) != 1 {
				t.Fatalf("%d keys: %q", len(keys), r.notes)
			}
			sig, err := keys[0].Signer.Sign(nil, []byte("data"))
			// x/crypto takes no signature without a touch.
			if (err == nil) != tt.ok || tt.ok && tt.waits > 0 && tt.pub.Verify([]byte("data"), sig) != nil {
				t.Fatalf("got %v", err)
			}
			if all := strings.Join(r.notes, "; "); !strings.Contains(all, tt.note) || strings.Contains(all, "\x1b") {
				t.Errorf("notes %q, want %q", all, tt.note)
			}
			if r.asked != tt.asked || waits != tt.waits || over != waits || r.needsPerson != tt.person {
				t.Errorf("asked %d, told to wait %d and that it is over %d times, person %v", r.asked, waits, over, r.needsPerson)
			}
		})
	}
}

// Where there is no way to the token, the words say why, and what else to do.
func TestSecurityKeyWithoutAWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id_ed25519_sk")
	writeTokenKey(t, file, skTouch)
	for _, tt := range []struct{ provider, helper, want string }{
		{"none", "/bin/true", "SecurityKeyProvider is none"},
		{"$NOT_SET", "/bin/true", "SecurityKeyProvider is none"},
		{"", "", "ssh-sk-helper, which reaches it, is not installed: ssh-add " + file},
	} {
		var r report
		h := host(file)
		h.SecurityKeyProvider = tt.provider
		c := r.config(h, "")
		c.Getenv = func(name string) string { return map[string]string{"SSH_SK_HELPER": tt.helper}[name] }
		if tt.helper == "" {
			c.helperDirs = []string{t.TempDir()}
		}
		if keys := Collect(c); len(keys) > 0 || !strings.Contains(strings.Join(r.notes, ""), tt.want) {
			t.Errorf("%q: %d keys, %q", tt.provider, len(keys), r.notes)
		}
	}
}

// The real helper signs with the real middleware that OpenSSH's tests use (regress/misc/sk-dummy).
// SALLYPORT_SK_DUMMY names it. .ci/install-parts cannot get it.
func TestSecurityKeyByTheRealHelper(t *testing.T) {
	t.Parallel()
	dummy := os.Getenv("SALLYPORT_SK_DUMMY")
	if dummy == "" {
		t.Skip("SALLYPORT_SK_DUMMY does not name the sk-dummy.so of OpenSSH's regress/misc/sk-dummy")
	}
	dir := t.TempDir()
	for _, kind := range []string{"ed25519-sk", "ecdsa-sk"} {
		for _, options := range [][]string{nil, {"-N", "secret", "-a", "1"}, {"-O", "no-touch-required"}, {"-O", "resident"}, {"-O", "verify-required"}} {
			t.Run(kind+strings.Join(options, " "), func(t *testing.T) {
				file := filepath.Join(dir, kind+strings.Join(options, ""))
				args := append([]string{"-q", "-t", kind, "-w", dummy, "-f", file}, options...)
				if !slices.Contains(options, "-N") {
					args = append(args, "-N", "")
				}
				openssh.Run(t, "ssh-keygen", args...)
				var r report
				h := host(file)
				h.SecurityKeyProvider = dummy
				keys := Collect(r.config(h, "secret"))
				if len(keys) != 1 {
					t.Fatalf("%d keys: %q", len(keys), r.notes)
				}
				sig, err := keys[0].Signer.Sign(nil, []byte("data"))
				touched := !slices.Contains(options, "no-touch-required") // x/crypto takes no signature without a touch
				if err != nil || touched && openssh.ReadPublicKey(t, file+".pub").Verify([]byte("data"), sig) != nil {
					t.Errorf("got %v; %q", err, r.notes)
				}
			})
		}
	}
}

// No handle makes its reader panic, and what it takes is the beginning of the handle.
func FuzzHandle(f *testing.F) {
	f.Add(ssh.Marshal(struct {
		Type, Key, App   string
		Flags            byte
		Handle, Reserved []byte
		Comment          string
	}{ssh.KeyAlgoSKED25519, "k", "ssh:", 1, []byte("h"), nil, "c"}))
	f.Add(ssh.Marshal(struct {
		Type, Curve, Key, App string
		Flags                 byte
		Handle, Reserved      []byte
	}{ssh.KeyAlgoSKECDSA256, "nistp256", "k", "ssh:", 5, []byte("h"), nil}))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, ok := parseHandle(b)
		if ok && !bytes.HasPrefix(b, k.text) {
			t.Error("something else was taken")
		}
	})
}
