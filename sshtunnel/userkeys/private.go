package userkeys

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// privateFile is what the text of a private key file tells. One of private, handle, unseal and
// broken is set.
type privateFile struct {
	// pub is the public key. It is nil if the format tells it only with the private one.
	pub ssh.PublicKey
	// private is the private key.
	private any
	// handle is what the file of a security key has in the place of a private key: the type and
	// what follows it.
	handle []byte
	// unseal decrypts the key. Its error is errWrongPassphrase if another passphrase may do.
	unseal func(passphrase []byte) (*privateFile, error)
	// broken says why the private key cannot be used, and what helps.
	broken error
}

// errKind says that a file holds no key for SSH.
var errKind = errors.New("a kind of key that SSH does not use: RSA, Ed25519, or ECDSA over P-256, P-384 or P-521 are used")

// parsePrivate reads a private key in any of the formats that ssh reads: OpenSSH's own, PKCS #8,
// and the older PEM. It is lenient about what surrounds the key. The error names the format of a
// file that ssh does not read, and the command that converts it; FILE in it stands for the file.
func parsePrivate(text []byte) (*privateFile, error) {
	text = plainText(text)
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, errors.New("the file is empty")
	}
	if err := otherFormat(text); err != nil {
		return nil, err
	}
	var others []string
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, noPrivateKey(text, others)
		}
		// A file may begin with something else, such as EC PARAMETERS.
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return parseBlock(block)
		}
		others = append(others, block.Type)
	}
}

// parseBlock reads a PEM block (RFC 7468) of a private key.
func parseBlock(block *pem.Block) (*privateFile, error) {
	switch block.Type {
	case openSSHType:
		return parseOpenSSH(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return parseEncryptedPKCS8(block.Bytes)
	case "DSA PRIVATE KEY":
		return nil, errDSA
	case "RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY":
	default:
		return nil, fmt.Errorf("a %q, which is no key for SSH", display.Cut(block.Type))
	}
	if block.Headers["DEK-Info"] != "" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return parseEncryptedPEM(block), nil
	}
	private, err := ssh.ParseRawPrivateKey(pem.EncodeToMemory(block))
	if err != nil {
		return nil, errDamagedOrKind
	}
	return &privateFile{private: private}, nil
}

// errDamagedOrKind is for formats whose reader does not tell the two apart.
var errDamagedOrKind = fmt.Errorf("the file is damaged, or %w", errKind)

// legacyCiphers are those of encrypted PEM (RFC 1423 and OpenSSL) that x509 knows.
var legacyCiphers = []string{"DES-CBC", "DES-EDE3-CBC", "AES-128-CBC", "AES-192-CBC", "AES-256-CBC"}

// parseEncryptedPEM reads a key in the older encryption, which is a header of the PEM block.
func parseEncryptedPEM(block *pem.Block) *privateFile {
	name, _, _ := strings.Cut(block.Headers["DEK-Info"], ",")
	if !slices.Contains(legacyCiphers, name) {
		return &privateFile{broken: fmt.Errorf(
			"it is encrypted with %q, which is not known; openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW encrypts it anew", display.Cut(name))}
	}
	return &privateFile{unseal: func(passphrase []byte) (*privateFile, error) {
		//lint:ignore SA1019 old keys are encrypted so, and ssh reads them.
		der, err := x509.DecryptPEMBlock(block, passphrase)
		if err != nil {
			return nil, errWrongPassphrase
		}
		plain := &pem.Block{Type: block.Type, Bytes: der}
		private, err := ssh.ParseRawPrivateKey(pem.EncodeToMemory(plain))
		if err != nil {
			// The format has no proof of the passphrase, so what came out may be noise.
			return nil, errWrongPassphrase
		}
		return &privateFile{private: private}, nil
	}}
}

// plainText removes a byte order mark, and turns UTF-16, which some shells of Windows write, into
// UTF-8.
func plainText(text []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	var units []uint16
	for text = text[2:]; len(text) >= 2; text = text[2:] {
		units = append(units, order.Uint16(text))
	}
	return []byte(string(utf16.Decode(units)))
}

// otherFormat names the format of a key that other programs use.
func otherFormat(text []byte) error {
	for _, f := range []struct{ begin, words string }{
		{"PuTTY-User-Key-File-", "a key in PuTTY's format; puttygen FILE -O private-openssh -o NEW converts it"},
		{"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY", "a key in the format of ssh.com; ssh-keygen -i -f FILE > NEW converts it, if it has no passphrase"},
		{"---- BEGIN SSH2 PUBLIC KEY", "a public key in the format of RFC 4716; ssh-keygen -i -f FILE > FILE.pub converts it"},
		{"SSH PRIVATE KEY FILE FORMAT 1.1", "a key of SSH 1, which nothing uses any more; make another: ssh-keygen -t ed25519"},
		{"SSHKRL\n", "a key revocation list"},
		{"\x30\x82", "binary (DER); openssl pkey -inform DER -in FILE -out NEW converts it"},
		{"{", "JSON; a private key begins with -----BEGIN"},
	} {
		if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte(f.begin)) {
			return errors.New(f.words)
		}
	}
	return nil
}

// noPrivateKey says what is wrong with a text in which no private key is found. others are the
// types of its PEM blocks.
func noPrivateKey(text []byte, others []string) error {
	switch {
	case slices.Contains(others, "PUBLIC KEY"):
		return errors.New("a public key in PEM; ssh-keygen -i -m PKCS8 -f FILE > FILE.pub converts it")
	case len(others) > 0:
		return fmt.Errorf("it holds a %q and no private key", display.Cut(display.Printable(others[0])))
	case bytes.Contains(text, []byte("-----BEGIN")) && bytes.Contains(text, []byte("PRIVATE KEY")):
		return errDamaged
	}
	return errors.New("no key found")
}
