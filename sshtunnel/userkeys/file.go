package userkeys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	// private is what the file tells about the private key. It is nil if there is none.
	private *privateFile
	// broken says why the private key cannot be used. It may be nil.
	broken error
	// plain signs, once the private key is there.
	plain ssh.Signer
	// lazy signs with plain, once the passphrase is there.
	lazy ssh.Signer
	// added is set if the key was added to the agent, or it was decided not to.
	added bool
}

// signer returns nil if the file has no private key that can be used. It always returns the same
// signer for a file, so that the passphrase is asked for once.
func (f *keyFile) signer(c *collector) ssh.Signer {
	switch {
	case f.lazy != nil:
	case f.private == nil || f.broken != nil:
		return nil
	case isSecurityKey(f.pub):
		f.lazy = c.skSignerOf(f)
	default:
		f.lazy = &fileSigner{collector: c, file: f}
	}
	return f.lazy
}

// useless says why a file without a signer is of no use.
func (f *keyFile) useless() string {
	if f.broken != nil {
		return f.explain(f.broken)
	}
	return "a public key whose private key no agent holds"
}

// explain returns the text of an error about the file. FILE in it stands for the file.
func (f *keyFile) explain(err error) string {
	return strings.ReplaceAll(err.Error(), "FILE", display.ShellQuote(f.path))
}

// isSecurityKey reports whether a key lies in a FIDO device (PROTOCOL.u2f of OpenSSH).
func isSecurityKey(pub ssh.PublicKey) bool {
	return pub != nil && strings.HasPrefix(hostkeys.PlainKey(pub).Type(), "sk-")
}

// loadKeyFile reads a file of IdentityFile: a private key, or a public one that selects a key of
// the agent. A private key that cannot be used selects a key of the agent, too, if its public half
// is known. The error says why nothing is.
func loadKeyFile(path string) (*keyFile, error) {
	f := &keyFile{path: path}
	text, open, err := readFile(path)
	beside, comment, besideErr := readPublicKeyComment(path + ".pub")
	if besideErr == nil {
		f.comment, f.pub = comment, beside
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && besideErr == nil {
			return f, nil // only the public key is here
		}
		f.broken = err
		return f.orError()
	}
	// IdentityFile may name a .pub file or a certificate.
	if pub, _, _, _, perr := ssh.ParseAuthorizedKey(plainText(text)); perr == nil {
		f.pub = pub
		return f, nil
	}
	private, err := parsePrivate(text)
	if err == nil && private.pub != nil {
		f.pub = private.pub
	}
	switch {
	case err != nil:
		f.broken = publicFault(text, err)
	case private.broken != nil:
		f.broken = private.broken
	case open:
		f.broken = errTooOpen
	case private.private != nil:
		f.broken = f.set(private.private)
	}
	f.private = private
	return f.orError()
}

// orError returns the file if its public key is known or will be, else why it is of no use.
func (f *keyFile) orError() (*keyFile, error) {
	if f.broken != nil && f.pub == nil {
		if errors.Is(f.broken, fs.ErrNotExist) {
			return nil, f.broken
		}
		return nil, errors.New(f.explain(f.broken))
	}
	return f, nil
}

// errTooOpen is ssh's reason to ignore a private key that others may read.
var errTooOpen = errors.New("its mode lets others read it, and a private key must be its owner's alone: chmod 600 FILE")

// publicFault returns a better reason than err where the file holds a public key of a type that we
// do not know.
func publicFault(text []byte, err error) error {
	word, _, _ := strings.Cut(strings.TrimLeft(string(plainText(text[:min(len(text), 200)])), " \t\r\n"), " ")
	switch {
	case hostkeys.Composite(word):
		return errComposite
	//lint:ignore SA1019 such a key is named, and not used.
	case word == ssh.InsecureKeyAlgoDSA:
		return errDSA
	}
	return err
}

// set takes over the private key, unless it is not the one of the .pub file.
func (f *keyFile) set(private any) error {
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return errKind
	}
	if f.pub != nil && !hostkeys.SameKey(hostkeys.PlainKey(f.pub), hostkeys.PlainKey(signer.PublicKey())) {
		return errors.New("it is not the private key of FILE.pub")
	}
	f.private, f.plain, f.pub = &privateFile{private: private}, signer, signer.PublicKey()
	return nil
}

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
		opened, err := f.private.unseal([]byte(answer))
		switch {
		case errors.Is(err, errWrongPassphrase):
			continue
		case err != nil:
			return errors.New(f.explain(err))
		case opened.handle != nil:
			f.private = opened
			return nil
		}
		return f.set(opened.private)
	}
	return errWrongPassphrase
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
	sig, err := s.sign(rand, data, algo)
	if err != nil {
		s.collector.Note(fmt.Sprintf("%s: %v", s.file.path, err))
		s.collector.SignFailed(err)
	}
	return sig, err
}

func (s *fileSigner) sign(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	if s.file.private.unseal != nil {
		if err := s.file.unlock(s.collector); err != nil {
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

// readFile reads a key file. open says that others may read it, too.
func readFile(path string) (text []byte, open bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, display.Reason(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, false, display.Reason(err)
	}
	if st.IsDir() {
		return nil, false, errors.New("a directory")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, false, display.Reason(err)
	}
	return b, tooOpen(st), nil
}

// readPublicKey reads a .pub file or a certificate.
func readPublicKey(path string) (ssh.PublicKey, error) {
	pub, _, err := readPublicKeyComment(path)
	return pub, err
}

// readPublicKeyComment also returns the comment at the end of the line.
func readPublicKeyComment(path string) (pub ssh.PublicKey, comment string, err error) {
	b, _, err := readFile(path)
	if err != nil {
		return nil, "", err
	}
	pub, comment, _, _, err = ssh.ParseAuthorizedKey(plainText(b))
	if err != nil {
		return nil, "", publicFault(b, errors.New("no public key in it"))
	}
	return pub, comment, nil
}
