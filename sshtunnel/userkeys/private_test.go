package userkeys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// repack changes the outer part of a key in OpenSSH's format.
func repack(t testing.TB, text string, edit func(*openSSHKey)) string {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	var k openSSHKey
	if block == nil || ssh.Unmarshal(bytes.TrimPrefix(block.Bytes, []byte(openSSHMagic)), &k) != nil {
		t.Fatal("no key in OpenSSH's format")
	}
	edit(&k)
	block.Bytes = append([]byte(openSSHMagic), ssh.Marshal(k)...)
	return string(pem.EncodeToMemory(block))
}

// Rounds that would take for ever are refused.
func TestBcryptRounds(t *testing.T) {
	for _, rounds := range []int{0, -1, maxRounds + 1} {
		if _, err := bcryptPBKDF([]byte("p"), []byte("salt"), rounds, 48); err == nil || !strings.Contains(err.Error(), "rounds") {
			t.Errorf("%d rounds: %v", rounds, err)
		}
	}
}

// No text makes the reader of private keys panic, and what it returns is one of its kinds.
func FuzzPrivate(f *testing.F) {
	for _, text := range []string{
		"", "\ufeff", "PuTTY-User-Key-File-3", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
	} {
		f.Add([]byte(text), []byte("secret"))
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(key, "comment")
	if err != nil {
		f.Fatal(err)
	}
	text := string(pem.EncodeToMemory(plain))
	f.Add([]byte(text), []byte("secret"))
	for name, c := range openSSHCiphers {
		options := ssh.Marshal(struct {
			Salt   string
			Rounds uint32
		}{"salt", 1})
		f.Add([]byte(repack(f, text, func(k *openSSHKey) {
			k.Cipher, k.KDF, k.KDFOptions, k.Tag = name, "bcrypt", string(options), make([]byte, c.tag)
		})), []byte("secret"))
	}
	f.Fuzz(func(t *testing.T, text, passphrase []byte) {
		p, err := parsePrivate(text)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		kinds := 0
		for _, set := range []bool{p.private != nil, p.handle != nil, p.unseal != nil, p.broken != nil} {
			if set {
				kinds++
			}
		}
		if kinds != 1 {
			t.Fatalf("%d kinds in %+v", kinds, p)
		}
		if p.unseal != nil && cheap(text) {
			p.unseal(passphrase)
		}
	})
}

// cheap tells whether the passphrase of a key takes little time to try.
func cheap(text []byte) bool {
	block, rest := pem.Decode(plainText(text))
	for block != nil && !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		block, rest = pem.Decode(rest)
	}
	if block == nil || block.Type != openSSHType {
		return block != nil && block.Type != "ENCRYPTED PRIVATE KEY"
	}
	var k openSSHKey
	var kdf struct {
		Salt   []byte
		Rounds uint32
	}
	return ssh.Unmarshal(bytes.TrimPrefix(block.Bytes, []byte(openSSHMagic)), &k) == nil &&
		ssh.Unmarshal([]byte(k.KDFOptions), &kdf) == nil && kdf.Rounds < 4
}
