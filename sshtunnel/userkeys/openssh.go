package userkeys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20"
	//lint:ignore SA1019 the cipher of OpenSSH is not the AEAD of RFC 8439.
	"golang.org/x/crypto/poly1305"
	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
)

const (
	openSSHType  = "OPENSSH PRIVATE KEY"
	openSSHMagic = "openssh-key-v1\x00"
)

// openSSHKey is OpenSSH's format of private keys (PROTOCOL.key).
type openSSHKey struct {
	Cipher, KDF, KDFOptions string
	// Keys is the number of keys. It is always 1.
	Keys   uint32
	Public []byte
	// Private is encrypted, unless Cipher is none.
	Private []byte
	// Tag proves that Private is whole. Only some ciphers have one.
	Tag []byte `ssh:"rest"`
}

// openSSHPrivate is the beginning of the private part. It is the same for all types of keys.
type openSSHPrivate struct {
	// Check1 and Check2 are equal if the passphrase was right.
	Check1, Check2 uint32
	Type           string
	Rest           []byte `ssh:"rest"`
}

// parseOpenSSH reads a block of the format. The result is sealed if there is a passphrase.
func parseOpenSSH(block []byte) (*privateFile, error) {
	rest, ok := bytes.CutPrefix(block, []byte(openSSHMagic))
	var k openSSHKey
	if !ok || ssh.Unmarshal(rest, &k) != nil || k.Keys != 1 {
		return nil, errDamaged
	}
	typ := keyTypeOf(k.Public)
	pub, err := ssh.ParsePublicKey(k.Public)
	switch {
	case hostkeys.Composite(typ):
		return nil, errComposite
	//lint:ignore SA1019 such a key is named, and not used.
	case typ == ssh.InsecureKeyAlgoDSA:
		return nil, errDSA
	case err != nil:
		return nil, fmt.Errorf("its key is of the type %q, which is not known", display.Cut(typ))
	}
	f := &privateFile{pub: pub}
	if k.Cipher == "none" && k.KDF == "none" {
		if len(k.Tag) > 0 {
			return nil, errDamaged
		}
		if err := f.setOpenSSH(k); err != nil {
			return nil, err
		}
		return f, nil
	}
	c, ok := openSSHCiphers[k.Cipher]
	if !ok || k.KDF != "bcrypt" {
		f.broken = fmt.Errorf("it is encrypted with %q and %q, which are not known; ssh-keygen -p -Z aes256-ctr -f FILE encrypts it anew",
			display.Cut(k.Cipher), display.Cut(k.KDF))
		return f, nil
	}
	f.unseal = func(passphrase []byte) (*privateFile, error) { return c.open(k, pub, passphrase) }
	return f, nil
}

// setOpenSSH takes the private key out of the decrypted part.
func (f *privateFile) setOpenSSH(k openSSHKey) error {
	var p openSSHPrivate
	if ssh.Unmarshal(k.Private, &p) != nil || p.Check1 != p.Check2 {
		return errDamaged
	}
	if isSecurityKey(f.pub) {
		f.handle = append([]byte(nil), k.Private[8:]...)
		return nil
	}
	k.Cipher, k.KDF, k.KDFOptions, k.Tag = "none", "none", "", nil
	plain := append([]byte(openSSHMagic), ssh.Marshal(k)...)
	private, err := ssh.ParseRawPrivateKey(pem.EncodeToMemory(&pem.Block{Type: openSSHType, Bytes: plain}))
	if err != nil {
		return errDamaged
	}
	f.private = private
	return nil
}

// openSSHCipher is one that ssh-keygen -Z takes.
type openSSHCipher struct {
	// key, iv and tag are lengths in bytes.
	key, iv, tag int
	// decrypt returns the plain text. It returns nil if the tag is not right.
	decrypt func(key, iv, text, tag []byte) []byte
}

// openSSHCiphers holds all ciphers of OpenSSH 10.6 (cipher.c).
var openSSHCiphers = map[string]openSSHCipher{
	"3des-cbc":                      {24, 8, 0, cbc(des.NewTripleDESCipher)},
	"aes128-cbc":                    {16, 16, 0, cbc(aes.NewCipher)},
	"aes192-cbc":                    {24, 16, 0, cbc(aes.NewCipher)},
	"aes256-cbc":                    {32, 16, 0, cbc(aes.NewCipher)},
	"rijndael-cbc@lysator.liu.se":   {32, 16, 0, cbc(aes.NewCipher)},
	"aes128-ctr":                    {16, 16, 0, ctr},
	"aes192-ctr":                    {24, 16, 0, ctr},
	"aes256-ctr":                    {32, 16, 0, ctr},
	"aes128-gcm@openssh.com":        {16, 12, 16, gcm},
	"aes256-gcm@openssh.com":        {32, 12, 16, gcm},
	"chacha20-poly1305@openssh.com": {64, 0, 16, chachaPoly},
}

// open decrypts a key. The error is errWrongPassphrase if the passphrase is not right.
func (c openSSHCipher) open(k openSSHKey, pub ssh.PublicKey, passphrase []byte) (*privateFile, error) {
	var kdf struct {
		Salt   []byte
		Rounds uint32
	}
	if ssh.Unmarshal([]byte(k.KDFOptions), &kdf) != nil || len(k.Tag) != c.tag {
		return nil, errDamaged
	}
	derived, err := bcryptPBKDF(passphrase, kdf.Salt, int(kdf.Rounds), c.key+c.iv)
	if err != nil {
		return nil, err
	}
	k.Private = c.decrypt(derived[:c.key], derived[c.key:], k.Private, k.Tag)
	if k.Private == nil {
		return nil, errWrongPassphrase
	}
	if len(k.Private) < 8 || binary.BigEndian.Uint32(k.Private) != binary.BigEndian.Uint32(k.Private[4:]) {
		return nil, errWrongPassphrase
	}
	f := &privateFile{pub: pub}
	if err := f.setOpenSSH(k); err != nil {
		return nil, err
	}
	return f, nil
}

// cbc returns the decryption of a block cipher in CBC mode.
func cbc(newCipher func([]byte) (cipher.Block, error)) func(key, iv, text, tag []byte) []byte {
	return func(key, iv, text, _ []byte) []byte {
		block, err := newCipher(key)
		if err != nil || len(text)%block.BlockSize() != 0 {
			return nil
		}
		out := make([]byte, len(text))
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, text)
		return out
	}
}

// ctr decrypts AES in counter mode.
func ctr(key, iv, text, _ []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	out := make([]byte, len(text))
	cipher.NewCTR(block, iv).XORKeyStream(out, text)
	return out
}

// gcm decrypts AES in Galois counter mode.
func gcm(key, iv, text, tag []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil
	}
	out, err := aead.Open(nil, iv, append(append([]byte(nil), text...), tag...), nil)
	if err != nil {
		return nil
	}
	return out
}

// chachaPoly decrypts chacha20-poly1305@openssh.com with the sequence number 0 and no length
// (PROTOCOL.chacha20poly1305 of OpenSSH). The second half of the key would be for the length.
func chachaPoly(key, _, text, tag []byte) []byte {
	stream, err := chacha20.NewUnauthenticatedCipher(key[:chacha20.KeySize], make([]byte, chacha20.NonceSize))
	if err != nil {
		return nil
	}
	var polyKey [32]byte
	stream.XORKeyStream(polyKey[:], polyKey[:])
	var sum [poly1305.TagSize]byte
	poly1305.Sum(&sum, text, &polyKey)
	if subtle.ConstantTimeCompare(sum[:], tag) != 1 {
		return nil
	}
	stream.SetCounter(1)
	out := make([]byte, len(text))
	stream.XORKeyStream(out, text)
	return out
}

// keyTypeOf returns the type that a key in wire format begins with.
func keyTypeOf(blob []byte) string {
	var head struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(blob, &head) != nil {
		return ""
	}
	return head.Type
}

var (
	// errDamaged says that a file is not what its first line says.
	errDamaged = errors.New("the file is damaged: a part of it is missing or was changed")
	// errWrongPassphrase says that a passphrase does not decrypt the key.
	errWrongPassphrase = errors.New("wrong passphrase")
	errComposite       = errors.New("a composite ML-DSA key (ssh-mldsa44-ed25519), a type that is not supported here")
	errDSA             = errors.New("a DSA key, a type that OpenSSH has given up; make another: ssh-keygen -t ed25519")
)
