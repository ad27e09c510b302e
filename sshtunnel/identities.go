package sshtunnel

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

// identity is one key that may be offered.
type identity struct {
	// label is the file that names the key, or "agent: " and the key's comment.
	label  string
	signer ssh.Signer
	// inAgent says that the agent signs.
	inAgent bool
}

// keyCollector finds the keys that may be offered to one server.
type keyCollector struct {
	auth    *authenticator
	inAgent []*agent.Key
	files   []*keyFile
}

// loadKeys collects the keys in OpenSSH's order (pubkey_prepare): certificates, keys of the agent
// that the configuration lists, other keys of the agent unless IdentitiesOnly, files.
func (a *authenticator) loadKeys() {
	c := &keyCollector{auth: a, inAgent: a.agentKeys(), files: a.identityFiles()}
	c.offerCertificates()
	c.offerListed()
	if !a.host.IdentitiesOnly {
		c.offerUnlisted()
	}
	c.offerFiles()
}

// agentKeys returns the keys of the agent, certificates first, which is OpenSSH 10's order for keys
// that no file names.
func (a *authenticator) agentKeys() []*agent.Key {
	if a.agent == nil {
		return nil
	}
	keys, err := a.agent.List()
	switch {
	case err != nil:
		a.note(fmt.Sprintf("agent: %v", err))
		a.result.NeedsPerson = true
	case len(keys) == 0:
		a.note("the agent holds no keys")
	}
	slices.SortStableFunc(keys, func(a, b *agent.Key) int {
		return boolOrder(hostkeys.IsCertificateAlgorithm(a.Format), hostkeys.IsCertificateAlgorithm(b.Format))
	})
	return keys
}

// identityFiles reads those of IdentityFile that are there.
func (a *authenticator) identityFiles() (files []*keyFile) {
	for _, path := range a.host.IdentityFiles {
		f, err := a.loadKeyFile(path)
		switch {
		case err == nil:
			files = append(files, f)
		case errors.Is(err, fs.ErrNotExist) && !a.host.IdentityFilesSet: // a default that is missing
		default:
			a.note(fmt.Sprintf("%s: %v", path, err))
		}
	}
	return files
}

// agentSigner returns a signer if the agent holds the key, else nil.
func (c *keyCollector) agentSigner(pub ssh.PublicKey) ssh.Signer {
	failed := func(err error) {
		c.auth.result.NeedsPerson = true // the agent may have wanted a confirmation
		c.auth.tryErr = fmt.Errorf("agent: %w", err)
	}
	for _, k := range c.inAgent {
		if hostkeys.SameKey(k, pub) {
			return &agentSigner{agent: c.auth.agent, pub: pub, failed: failed}
		}
	}
	return nil
}

// signer returns a signer for a key, by the agent or by a file. It returns nil if neither has the
// private key.
func (c *keyCollector) signer(pub ssh.PublicKey) (s ssh.Signer, inAgent bool) {
	if s := c.agentSigner(pub); s != nil {
		return s, true
	}
	for _, f := range c.files {
		if s := f.signer(c.auth); s != nil && hostkeys.SameKey(f.pub, pub) {
			return s, false
		}
	}
	return nil, false
}

// offerCertificates offers those of CertificateFile. If none is set, it offers those that lie beside
// the identity files.
func (c *keyCollector) offerCertificates() {
	paths, explicit := c.auth.host.CertificateFiles, len(c.auth.host.CertificateFiles) > 0
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
			c.auth.note(fmt.Sprintf("%s: %v", path, err))
		case err != nil:
		case !ok || cert.CertType != ssh.UserCert:
			c.auth.note(path + ": not a user certificate")
		default:
			c.offerCertificate(path, cert)
		}
	}
}

func (c *keyCollector) offerCertificate(path string, cert *ssh.Certificate) {
	s, inAgent := c.agentSigner(cert), true // the agent may hold the certificate itself
	if s == nil {
		var plain ssh.Signer
		if plain, inAgent = c.signer(cert.Key); plain != nil {
			s, _ = ssh.NewCertSigner(cert, plain)
		}
	}
	if s == nil {
		c.auth.note(path + ": no private key for it")
		return
	}
	c.auth.offer(identity{path, s, inAgent})
}

// fileOf returns the file that names a key of the agent; nil if none does.
func (c *keyCollector) fileOf(k *agent.Key) *keyFile {
	for _, f := range c.files {
		if f.pub != nil && hostkeys.SameKey(k, f.pub) {
			return f
		}
	}
	return nil
}

// offerListed offers the keys of the agent that a file names.
func (c *keyCollector) offerListed() {
	for _, k := range c.inAgent {
		if f := c.fileOf(k); f != nil {
			c.auth.offer(identity{f.path, c.agentSigner(f.pub), true})
			f.offered = true
		}
	}
}

// offerUnlisted offers the keys of the agent that no file names.
func (c *keyCollector) offerUnlisted() {
	for _, k := range c.inAgent {
		if pub, err := ssh.ParsePublicKey(k.Blob); err == nil && c.fileOf(k) == nil {
			c.auth.offer(identity{"agent: " + display.Cut(display.Printable(k.Comment)), c.agentSigner(pub), true})
		}
	}
}

// offerFiles offers the files that the agent has no part in.
func (c *keyCollector) offerFiles() {
	for _, f := range c.files {
		if f.offered {
			continue
		}
		if s := f.signer(c.auth); s != nil {
			c.auth.offer(identity{f.path, s, false})
		} else {
			c.auth.note(f.path + ": " + f.useless())
		}
	}
}

// offer appends a key, unless PubkeyAcceptedAlgorithms forbids it or the same key is there already.
func (a *authenticator) offer(id identity) {
	pub := id.signer.PublicKey()
	if slices.ContainsFunc(a.keys, func(other *identity) bool { return hostkeys.SameKey(other.signer.PublicKey(), pub) }) {
		return
	}
	if accepted := a.host.PubkeyAcceptedAlgorithms; accepted != nil {
		algos := acceptedAlgorithms(accepted, pub)
		limited, ok := id.signer.(ssh.AlgorithmSigner)
		if len(algos) == 0 || !ok {
			a.note(id.label + ": its type is not in PubkeyAcceptedAlgorithms")
			return
		}
		m, err := ssh.NewSignerWithAlgorithms(limited, algos)
		if err != nil {
			a.note(fmt.Sprintf("%s: %v", id.label, err))
			return
		}
		id.signer = m
	}
	a.keys = append(a.keys, &id)
}

// acceptedAlgorithms returns the algorithms of a key that accepted lists, in that order.
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

// signatureAlgorithms are those of a key, or of the key in a certificate, best first.
func signatureAlgorithms(pub ssh.PublicKey) []string {
	if cert, ok := pub.(*ssh.Certificate); ok {
		pub = cert.Key
	}
	if pub.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{pub.Type()}
}

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
