package userkeys

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
)

// maxKeyFile bounds how much of a key or certificate file is read, in bytes.
const maxKeyFile = 1 << 20

// keyFile is an IdentityFile.
type keyFile struct {
	// path is that of the file, expanded.
	path string
	// comment is that of the .pub file beside, if there is one.
	comment string
	// pub is the public key. It is nil only while an encrypted key does not tell it.
	pub ssh.PublicKey
	// encrypted is the private key as the file has it. It is nil if the key is not encrypted.
	encrypted []byte
	// private is the private key. It is nil if it is not there, or still encrypted.
	private any
	// plain signs with private.
	plain ssh.Signer
	// lazy signs with plain, once the passphrase is there.
	lazy *fileSigner
	// offered is set if the agent has the key.
	offered bool
	// added is set if the key was added to the agent, or it was decided not to.
	added bool
}

// signer returns nil for a public key without its private one. It always returns the same signer
// for a file, so that the passphrase is asked for once.
func (f *keyFile) signer(c *collector) ssh.Signer {
	if f.plain == nil && f.encrypted == nil {
		return nil
	}
	if f.lazy == nil {
		f.lazy = &fileSigner{collector: c, file: f}
	}
	return f.lazy
}

// useless says why a file without a signer is of no use.
func (f *keyFile) useless() string {
	if isSecurityKey(f.pub) {
		return "a security key (FIDO), which is used through the agent only: ssh-add " + display.ShellQuote(f.path)
	}
	return "a public key whose private key no agent holds"
}

// isSecurityKey reports whether a key lies in a FIDO device (PROTOCOL.u2f of OpenSSH).
func isSecurityKey(pub ssh.PublicKey) bool {
	return pub != nil && strings.HasPrefix(hostkeys.PlainKey(pub).Type(), "sk-")
}

// loadKeyFile reads a file of IdentityFile: a private key, or a public one that selects a key of
// the agent.
func (c *collector) loadKeyFile(path string) (*keyFile, error) {
	f := &keyFile{path: path}
	text, err := readPrivateKey(path)
	beside, comment, besideErr := readPublicKeyComment(path + ".pub")
	if errors.Is(err, fs.ErrNotExist) && besideErr == nil {
		f.pub = beside // only the public key is here: it selects a key of the agent
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	f.comment = comment
	// Only a handle of the key is in the file. The device signs, and the agent speaks with it.
	if pub := publicHalf(text); isSecurityKey(pub) {
		f.pub = pub
		return f, nil
	}
	private, err := ssh.ParseRawPrivateKey(text)
	if missing, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		f.encrypted, f.pub = text, missing.PublicKey
		if f.pub == nil { // the older PEM formats do not tell it
			f.pub = beside
		}
		if f.pub == nil {
			return f, f.unlock(c)
		}
		return f, nil
	}
	if err == nil {
		return f, f.set(private)
	}
	// IdentityFile may name a .pub file, which selects a key of the agent.
	if pub, _, _, _, perr := ssh.ParseAuthorizedKey(text); perr == nil {
		f.pub = pub
		return f, nil
	}
	return nil, errors.New(display.Cut(strings.TrimPrefix(err.Error(), "ssh: ")))
}

// set takes over the private key, unless it is not the one of the .pub file.
func (f *keyFile) set(private any) error {
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return errors.New(display.Cut(strings.TrimPrefix(err.Error(), "ssh: ")))
	}
	if f.pub != nil && !hostkeys.SameKey(hostkeys.PlainKey(f.pub), hostkeys.PlainKey(signer.PublicKey())) {
		return fmt.Errorf("it is not the private key of %s.pub", f.path)
	}
	f.private, f.plain, f.pub = private, signer, signer.PublicKey()
	return nil
}

// errNoPassphrase says that no answer has decrypted the key.
var errNoPassphrase = errors.New("wrong passphrase")

// unlock asks for the passphrase, as often as for a password. An empty answer ends it.
func (f *keyFile) unlock(c *collector) error {
	if c.Host.BatchMode {
		c.NeedsPerson() // the agent could sign with it
		return errors.New("encrypted, and BatchMode forbids asking for the passphrase")
	}
	for range c.Host.NumberOfPasswordPrompts {
		answer, err := c.Ask("passphrase", fmt.Sprintf("Enter passphrase for key '%s': ", f.path), false)
		if err != nil {
			if errors.Is(err, hostkeys.ErrNoPerson) {
				c.NeedsPerson()
			}
			return fmt.Errorf("passphrase: %w", err)
		}
		if answer == "" {
			break // go on to the next key, as ssh does
		}
		if private, err := ssh.ParseRawPrivateKeyWithPassphrase(f.encrypted, []byte(answer)); err == nil {
			return f.set(private)
		}
	}
	return errNoPassphrase
}

// fileSigner signs with the key of a file. It asks for the passphrase at the first signature.
type fileSigner struct {
	// collector has the functions to ask and to report.
	collector *collector
	// file is the key.
	file *keyFile
}

// PublicKey implements ssh.Signer.
func (s *fileSigner) PublicKey() ssh.PublicKey { return s.file.pub }

// Algorithms implements ssh.MultiAlgorithmSigner.
func (s *fileSigner) Algorithms() []string { return signatureAlgorithms(s.file.pub) }

// Sign implements ssh.Signer.
func (s *fileSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.Algorithms()[0])
}

// SignWithAlgorithm implements ssh.AlgorithmSigner. The server has accepted the key when it is
// called, so the person is asked for no passphrase in vain.
func (s *fileSigner) SignWithAlgorithm(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	if s.file.plain == nil {
		if err := s.file.unlock(s.collector); err != nil {
			s.collector.Note(fmt.Sprintf("%s: %v", s.file.path, err))
			s.collector.SignFailed(err)
			return nil, err
		}
	}
	s.collector.addToAgent(s.file)
	plain, ok := s.file.plain.(ssh.AlgorithmSigner)
	if !ok {
		return s.file.plain.Sign(rand, data)
	}
	return plain.SignWithAlgorithm(rand, data, algo)
}

// publicHalf returns the public key that OpenSSH's format of private keys (PROTOCOL.key) has
// outside of the encryption. It returns nil for other formats.
func publicHalf(text []byte) ssh.PublicKey {
	const magic = "openssh-key-v1\x00"
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "OPENSSH PRIVATE KEY" || !bytes.HasPrefix(block.Bytes, []byte(magic)) {
		return nil
	}
	// The fields up to the first public key. Several keys in one file are not in use.
	var key struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public                  []byte
		Rest                    []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(block.Bytes[len(magic):], &key) != nil {
		return nil
	}
	pub, err := ssh.ParsePublicKey(key.Public)
	if err != nil {
		return nil
	}
	return pub
}

// readPrivateKey refuses a key file that others may read, as ssh does (sshkey_perm_ok).
func readPrivateKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, display.Reason(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, display.Reason(err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, display.Reason(err)
	}
	// A public key may be readable by all. On Windows the mode says nothing about access.
	private := strings.Contains(string(b), "PRIVATE KEY")
	if private && runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("its mode %#o lets others read it: chmod 600 %s", st.Mode().Perm(), display.ShellQuote(path))
	}
	return b, nil
}

// readPublicKey reads a .pub file or a certificate.
func readPublicKey(path string) (ssh.PublicKey, error) {
	pub, _, err := readPublicKeyComment(path)
	return pub, err
}

// readPublicKeyComment also returns the comment at the end of the line.
func readPublicKeyComment(path string) (pub ssh.PublicKey, comment string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", display.Reason(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, "", display.Reason(err)
	}
	pub, comment, _, _, err = ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, "", errors.New("no public key in it")
	}
	return pub, comment, nil
}
