//go:build !windows

package userkeys

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest/openssh"
)

// signsAs expects that a key file signs, after the passphrase "secret" if it has one, as the key of
// a .pub file does.
func signsAs(t *testing.T, file, pub string, sealed bool) {
	t.Helper()
	var r report
	keys := Collect(r.config(host(file), "secret"))
	if len(keys) != 1 {
		t.Fatalf("%d keys: %q", len(keys), r.notes)
	}
	k, ok := keys[0].Open()
	if !ok {
		t.Fatalf("not opened: %q", r.notes)
	}
	sig, err := k.Signer.Sign(nil, []byte("data"))
	if err != nil || openssh.ReadPublicKey(t, pub).Verify([]byte("data"), sig) != nil {
		t.Errorf("signature %v, %v", sig, err)
	}
	if (r.asked == 1) != sealed {
		t.Errorf("asked %d times", r.asked)
	}
	if !sealed {
		return
	}
	var wrong report
	keys = Collect(wrong.config(host(file), "guess"))
	if k, ok = keys[0].Open(); ok {
		_, err = k.Signer.Sign(nil, []byte("data"))
	}
	if all := strings.Join(wrong.notes, "; "); err != nil && !errors.Is(err, errWrongPassphrase) || !strings.Contains(all, "wrong passphrase") {
		t.Errorf("with a wrong passphrase: %v, %q", err, all)
	}
}

// OpenSSH's format, encrypted with each cipher that ssh-keygen knows.
func TestCiphersOfSSHKeygen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ciphers := strings.Fields(openssh.Run(t, "ssh", "-Q", "cipher"))
	if len(ciphers) < 10 {
		t.Errorf("ssh -Q cipher: %q", ciphers)
	}
	for _, c := range ciphers {
		for _, kind := range [][]string{{"ed25519"}, {"rsa", "-b", "2048"}, {"ecdsa", "-b", "521"}} {
			t.Run(c+" "+kind[0], func(t *testing.T) {
				t.Parallel()
				if kind[0] == "rsa" && c != "chacha20-poly1305@openssh.com" && c != "aes256-gcm@openssh.com" {
					return // it is slow to make
				}
				file := filepath.Join(dir, c+kind[0])
				openssh.Run(t, "ssh-keygen", append([]string{"-q", "-a", "2", "-Z", c, "-N", "secret", "-f", file, "-t"}, kind...)...)
				signsAs(t, file, file+".pub", true)
			})
		}
	}
}

// Formats of OpenSSL, plain and encrypted, also as what ssh-keygen -m makes of them.
func TestFormatsOfOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal(err) // ssh does not come without it
	}
	dir := t.TempDir()
	run := func(t *testing.T, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v: %s", args, err, out)
		}
	}
	pem := map[string]string{}
	for name, args := range map[string][]string{
		"rsa":     {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"ecdsa":   {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:named_curve"},
		"ed25519": {"-algorithm", "ED25519"},
	} {
		pem[name] = filepath.Join(dir, name)
		run(t, append([]string{"genpkey", "-out", pem[name]}, args...)...)
		os.Chmod(pem[name], 0o600)
		parsed, err := parsePrivate(readText(t, pem[name]))
		if err != nil || parsed.private == nil {
			t.Fatalf("%s: %v", name, err)
		}
		signer, err := ssh.NewSignerFromKey(parsed.private)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(pem[name]+".reference", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o600)
		// For these the judge is ssh-keygen, which asks OpenSSL.
		if name != "ed25519" {
			if got := openssh.Run(t, "ssh-keygen", "-y", "-f", pem[name]); strings.TrimSpace(got) != openssh.KeyLine(signer.PublicKey()) {
				t.Errorf("%s: ssh-keygen -y says %s", name, got)
			}
		}
	}
	for name, args := range map[string][]string{
		"pkcs8 plain":             {"pkcs8", "-topk8", "-nocrypt"},
		"pkcs8 default":           {"pkcs8", "-topk8", "-passout", "pass:secret"},
		"pkcs8 aes-128":           {"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-passout", "pass:secret"},
		"pkcs8 aes-192":           {"pkcs8", "-topk8", "-v2", "aes-192-cbc", "-passout", "pass:secret"},
		"pkcs8 aes-256, SHA-1":    {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1", "-passout", "pass:secret"},
		"pkcs8 aes-256, SHA-224":  {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA224", "-passout", "pass:secret"},
		"pkcs8 aes-256, SHA-384":  {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA384", "-passout", "pass:secret"},
		"pkcs8 aes-256, SHA-512":  {"pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512", "-passout", "pass:secret"},
		"pkcs8 3des":              {"pkcs8", "-topk8", "-v2", "des3", "-passout", "pass:secret"},
		"pkcs8 scrypt":            {"pkcs8", "-topk8", "-scrypt", "-passout", "pass:secret"},
		"pkcs8 scrypt, parameter": {"pkcs8", "-topk8", "-scrypt", "-scrypt_N", "1024", "-scrypt_r", "4", "-scrypt_p", "2", "-passout", "pass:secret"},
		"legacy plain":            {"rsa", "-traditional"},
		"legacy 3des":             {"rsa", "-traditional", "-des3", "-passout", "pass:secret"},
		"legacy aes-128":          {"rsa", "-traditional", "-aes128", "-passout", "pass:secret"},
		"legacy aes-256":          {"rsa", "-traditional", "-aes256", "-passout", "pass:secret"},
		"ec legacy plain":         {"ec"},
		"ec legacy aes-192":       {"ec", "-aes192", "-passout", "pass:secret"},
		"ec legacy 3des":          {"ec", "-des3", "-passout", "pass:secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kinds := []string{"rsa", "ecdsa", "ed25519"}
			if args[0] != "pkcs8" {
				kinds = []string{map[string]string{"rsa": "rsa", "ec": "ecdsa"}[args[0]]}
			}
			for _, kind := range kinds {
				file := filepath.Join(dir, name+" "+kind)
				run(t, slices.Concat(args, []string{"-in", pem[kind], "-out", file})...)
				os.Chmod(file, 0o600)
				signsAs(t, file, pem[kind]+".reference", !strings.Contains(name, "plain"))
			}
		})
	}
	t.Run("with parameters before the key", func(t *testing.T) {
		file := filepath.Join(dir, "parameters")
		run(t, "ecparam", "-name", "prime256v1", "-genkey", "-out", file)
		os.Chmod(file, 0o600)
		public := openssh.Run(t, "ssh-keygen", "-y", "-f", file)
		os.WriteFile(file+".reference", []byte(public), 0o600)
		signsAs(t, file, file+".reference", false)
	})
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"a curve that SSH does not use", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, "a kind of key that SSH does not use"},
		{"Ed448", []string{"genpkey", "-algorithm", "ED448"}, "a kind of key that SSH does not use"},
		{"cipher that is not known", []string{"pkcs8", "-topk8", "-in", pem["rsa"], "-v2", "camellia-256-cbc", "-passout", "pass:secret"}, "openssl pkcs8 -topk8"},
		{"legacy cipher that is not known", []string{"rsa", "-traditional", "-in", pem["rsa"], "-camellia256", "-passout", "pass:secret"}, `"CAMELLIA-256-CBC", which is not known; openssl pkcs8 -topk8`},
		{"public key", []string{"pkey", "-in", pem["rsa"], "-pubout"}, "ssh-keygen -i -m PKCS8"},
		{"certificate", []string{"req", "-x509", "-key", pem["rsa"], "-subj", "/CN=x"}, `it holds a "CERTIFICATE" and no private key`},
		{"binary", []string{"pkey", "-in", pem["rsa"], "-outform", "DER"}, "openssl pkey -inform DER"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, tt.name)
			run(t, append(tt.args, "-out", file)...)
			os.Chmod(file, 0o600)
			var r report
			if keys := Collect(r.config(host(file), "secret")); len(keys) > 0 || !strings.Contains(strings.Join(r.notes, ""), tt.want) {
				t.Errorf("%d keys, %q", len(keys), r.notes)
			}
			if r.asked > 0 {
				t.Errorf("asked %q", r.notes)
			}
		})
	}
}

func readText(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What surrounds the key in a file does not matter.
func TestShapesOfKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	openssh.WriteKey(t, good, "")
	text := readText(t, good)
	utf16Text := func(low, high int) []byte {
		var b []byte
		for _, u := range append([]uint16{0xfeff}, utf16.Encode([]rune(string(text)))...) {
			pair := [2]byte{}
			pair[low], pair[high] = byte(u), byte(u>>8)
			b = append(b, pair[:]...)
		}
		return b
	}
	for name, shape := range map[string][]byte{
		"CRLF":             bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"mark":             append([]byte("\ufeff"), text...),
		"mark and CRLF":    append([]byte("\ufeff"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...),
		"UTF-16":           utf16Text(0, 1),
		"UTF-16 big":       utf16Text(1, 0),
		"no final newline": bytes.TrimSuffix(text, []byte("\n")),
		"junk behind":      append(slices.Clone(text), "junk\nmore junk"...),
		"blanks before":    append([]byte("\n \n\n"), text...),
		"text before":      append([]byte("Bag Attributes\n    friendlyName: x\n"), text...),
		"indented end":     bytes.ReplaceAll(text, []byte("\n"), []byte(" \n")),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, shape, 0o600); err != nil {
				t.Fatal(err)
			}
			signsAs(t, file, good+".pub", false)
		})
	}
}

// A file that is no key for us is named with its cause. If its public half is known, it selects the
// agent's key all the same, as with ssh.
func TestFilesThatAreNoKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	pub := openssh.WriteKey(t, good, "secret").PublicKey()
	text := string(readText(t, good))
	unknown := unknownCipher(t, text)
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"blank", " \n\n", "the file is empty"},
		{"PuTTY 3", "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "puttygen FILE -O private-openssh -o NEW"},
		{"PuTTY 2", "PuTTY-User-Key-File-2: ssh-rsa\r\nEncryption: aes256-cbc\r\n", "a key in PuTTY's format"},
		{"ssh.com", "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56w==\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\n", "ssh-keygen -i -f FILE > NEW"},
		{"RFC 4716", "---- BEGIN SSH2 PUBLIC KEY ----\n", "ssh-keygen -i -f FILE > FILE.pub"},
		{"SSH 1", "SSH PRIVATE KEY FILE FORMAT 1.1\n\x00", "a key of SSH 1"},
		{"DSA", "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "a DSA key"},
		{"DSA public", "ssh-dss AAAAB3NzaC1kc3M= x\n", "a DSA key"},
		{"composite public", "ssh-mldsa44-ed25519 AAAA x\n", "a composite ML-DSA key"},
		{"cut", text[:len(text)/2], "the file is damaged"},
		{"cut inside", text[:200] + text[260:], "the file is damaged"},
		{"cipher that nobody knows", unknown, `encrypted with "aes999-foo" and "bcrypt", which are not known; ssh-keygen -p -Z aes256-ctr -f FILE`},
		{"PGP", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQVYBF==\n-----END PGP PRIVATE KEY BLOCK-----\n", `no private key`},
		{"other text", "hello", "no key found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, tt.name)
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(tt.want, "FILE", quoted(file))
			var r report
			keys := Collect(r.config(host(file), "secret"))
			if all := strings.Join(r.notes, "; "); len(keys) > 0 || !strings.Contains(all, want) || r.asked > 0 {
				t.Errorf("%d keys, asked %d times, notes %q, want %q", len(keys), r.asked, all, want)
			}
			if err := os.WriteFile(file+".pub", ssh.MarshalAuthorizedKey(pub), 0o600); err != nil {
				t.Fatal(err)
			}
			if f, err := loadKeyFile(file); err != nil || f.pub == nil {
				t.Errorf("with its public half: %v", err)
			}
		})
	}
}

// quoted is a path as commands in notes have it.
func quoted(path string) string {
	f := keyFile{path: path}
	return f.explain(errors.New("FILE"))
}

// unknownCipher changes the name of the cipher in an encrypted key.
func unknownCipher(t *testing.T, text string) string {
	t.Helper()
	return repack(t, text, func(k *openSSHKey) { k.Cipher = "aes999-foo" })
}
