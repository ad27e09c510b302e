package userkeys

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
)

// collector finds the keys that may be offered to one server.
type collector struct {
	Config
	// inAgent holds the keys of the agent, certificates first.
	inAgent []*agent.Key
	// files holds the files of IdentityFile that could be read.
	files []*keyFile
	// keys are those to offer, in order.
	keys []Key
}

// Collect returns the keys that may be offered, in OpenSSH's order (pubkey_prepare): certificates,
// keys of the agent that the configuration lists, other keys of the agent unless IdentitiesOnly,
// files. It leaves out what PubkeyAcceptedAlgorithms forbids. It waits for the agent's list, and it
// asks for a passphrase only if a key in an older format has no .pub file beside it. What it leaves
// out and why goes to Note.
func Collect(cfg Config) []Key {
	c := &collector{Config: cfg}
	c.inAgent, c.files = c.agentKeys(), c.identityFiles()
	c.offerCertificates()
	c.offerListed()
	if !c.Host.IdentitiesOnly {
		c.offerUnlisted()
	}
	c.offerFiles()
	return c.keys
}

// agentKeys returns the keys of the agent, certificates first, which is OpenSSH 10's order for keys
// that no file names. If the agent fails, a person may repair it, so NeedsPerson is called.
func (c *collector) agentKeys() []*agent.Key {
	if c.Agent == nil {
		return nil
	}
	keys, err := c.Agent.list()
	switch {
	case err != nil:
		c.Note(fmt.Sprintf("agent: %v", err))
		c.NeedsPerson()
	case len(keys) == 0:
		c.Note("the agent holds no keys")
	}
	slices.SortStableFunc(keys, func(a, b *agent.Key) int {
		return boolOrder(hostkeys.IsCertificateAlgorithm(a.Format), hostkeys.IsCertificateAlgorithm(b.Format))
	})
	return keys
}

// identityFiles reads those of IdentityFile that are there. It is silent about a default file that
// does not exist.
func (c *collector) identityFiles() (files []*keyFile) {
	for _, path := range c.Host.IdentityFiles {
		f, err := c.loadKeyFile(path)
		switch {
		case err == nil:
			files = append(files, f)
		case errors.Is(err, fs.ErrNotExist) && !c.Host.IdentityFilesSet: // a default that is missing
		default:
			c.Note(fmt.Sprintf("%s: %v", path, err))
		}
	}
	return files
}

// agentSigner returns a signer if the agent holds the key, else nil.
func (c *collector) agentSigner(pub ssh.PublicKey) ssh.Signer {
	failed := func(err error) {
		c.NeedsPerson() // the agent may have wanted a confirmation
		c.SignFailed(err)
	}
	for _, k := range c.inAgent {
		if hostkeys.SameKey(k, pub) {
			return &agentSigner{agent: c.Agent, pub: pub, failed: failed}
		}
	}
	return nil
}

// signer returns a signer for a key, by the agent or by a file. It returns nil if neither has the
// private key.
func (c *collector) signer(pub ssh.PublicKey) (s ssh.Signer, inAgent bool) {
	if s := c.agentSigner(pub); s != nil {
		return s, true
	}
	for _, f := range c.files {
		if s := f.signer(c); s != nil && hostkeys.SameKey(f.pub, pub) {
			return s, false
		}
	}
	return nil, false
}

// offerCertificates offers those of CertificateFile. If none is set, it offers those that lie
// beside the identity files.
func (c *collector) offerCertificates() {
	paths, explicit := c.Host.CertificateFiles, len(c.Host.CertificateFiles) > 0
	if !explicit {
		for _, f := range c.files {
			paths = append(paths, strings.TrimSuffix(f.path, ".pub")+"-cert.pub")
		}
	}
	for _, path := range paths {
		pub, err := readPublicKey(path)
		cert, ok := pub.(*ssh.Certificate)
		switch {
		case err != nil && explicit:
			c.Note(fmt.Sprintf("%s: %v", path, err))
		case err != nil:
		case !ok || cert.CertType != ssh.UserCert:
			c.Note(path + ": not a user certificate")
		default:
			c.offerCertificate(path, cert)
		}
	}
}

// offerCertificate offers a certificate with a signer for its key.
func (c *collector) offerCertificate(path string, cert *ssh.Certificate) {
	s, inAgent := c.agentSigner(cert), true // the agent may hold the certificate itself
	if s == nil {
		var plain ssh.Signer
		if plain, inAgent = c.signer(cert.Key); plain != nil {
			s, _ = ssh.NewCertSigner(cert, plain)
		}
	}
	if s == nil {
		c.Note(path + ": no private key for it")
		return
	}
	c.offer(Key{path, s, inAgent})
}

// fileOf returns the file that names a key of the agent; nil if none does.
func (c *collector) fileOf(k *agent.Key) *keyFile {
	for _, f := range c.files {
		if f.pub != nil && hostkeys.SameKey(k, f.pub) {
			return f
		}
	}
	return nil
}

// offerListed offers the keys of the agent that a file names.
func (c *collector) offerListed() {
	for _, k := range c.inAgent {
		if f := c.fileOf(k); f != nil {
			c.offer(Key{f.path, c.agentSigner(f.pub), true})
			f.offered = true
		}
	}
}

// offerUnlisted offers the keys of the agent that no file names.
func (c *collector) offerUnlisted() {
	for _, k := range c.inAgent {
		if pub, err := ssh.ParsePublicKey(k.Blob); err == nil && c.fileOf(k) == nil {
			c.offer(Key{"agent: " + display.Cut(display.Printable(k.Comment)), c.agentSigner(pub), true})
		}
	}
}

// offerFiles offers the files that the agent has no part in.
func (c *collector) offerFiles() {
	for _, f := range c.files {
		if f.offered {
			continue
		}
		if s := f.signer(c); s != nil {
			c.offer(Key{f.path, s, false})
		} else {
			c.Note(f.path + ": " + f.useless())
		}
	}
}

// offer appends a key, unless PubkeyAcceptedAlgorithms forbids it or the same key is there already.
func (c *collector) offer(k Key) {
	pub := k.Signer.PublicKey()
	if slices.ContainsFunc(c.keys, func(other Key) bool { return hostkeys.SameKey(other.Signer.PublicKey(), pub) }) {
		return
	}
	// A signer that is limited to the accepted algorithms makes x/crypto choose among them only.
	if accepted := c.Host.PubkeyAcceptedAlgorithms; accepted != nil {
		algos := acceptedAlgorithms(accepted, pub)
		limited, ok := k.Signer.(ssh.AlgorithmSigner)
		if len(algos) == 0 || !ok {
			c.Note(k.Label + ": its type is not in PubkeyAcceptedAlgorithms")
			return
		}
		m, err := ssh.NewSignerWithAlgorithms(limited, algos)
		if err != nil {
			c.Note(fmt.Sprintf("%s: %v", k.Label, err))
			return
		}
		k.Signer = m
	}
	c.keys = append(c.keys, k)
}

// acceptedAlgorithms returns the algorithms of a key that accepted lists, in that order. A
// certificate has names of algorithms of its own.
func acceptedAlgorithms(accepted []string, pub ssh.PublicKey) (algos []string) {
	_, isCert := pub.(*ssh.Certificate)
	for _, name := range accepted {
		for _, algo := range signatureAlgorithms(pub) {
			if name == algo && !isCert || name == certAlgoOf(algo) && isCert {
				algos = append(algos, algo)
			}
		}
	}
	return algos
}

// signatureAlgorithms returns the algorithms of a key, or of the key in a certificate, the best
// first. ssh-rsa is not among them, because it means SHA-1 (RFC 8332).
func signatureAlgorithms(pub ssh.PublicKey) []string {
	if cert, ok := pub.(*ssh.Certificate); ok {
		pub = cert.Key
	}
	if pub.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{pub.Type()}
}

// certAlgoOf returns the name that an algorithm has for certificates (PROTOCOL.certkeys of
// OpenSSH).
func certAlgoOf(algo string) string {
	if base, ok := strings.CutSuffix(algo, "@openssh.com"); ok { // sk keys
		return base + "-cert-v01@openssh.com"
	}
	return algo + "-cert-v01@openssh.com"
}

// boolOrder puts true before false.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
