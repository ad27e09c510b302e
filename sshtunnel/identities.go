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
	label  string // file or comment, for messages
	signer ssh.Signer
}

// loadKeys collects the keys in OpenSSH's order (pubkey_prepare): certificates, keys of the agent
// that the configuration lists, other keys of the agent unless IdentitiesOnly, files.
func (a *authenticator) loadKeys() {
	var inAgent []*agent.Key
	if a.agent != nil {
		var err error
		if inAgent, err = a.agent.List(); err != nil {
			a.note(fmt.Sprintf("agent: %v", err))
			a.result.NeedsPerson = true
		} else if len(inAgent) == 0 {
			a.note("the agent holds no keys")
		}
	}
	// Of the keys that no file names, certificates go first, as OpenSSH 10 has it.
	slices.SortStableFunc(inAgent, func(a, b *agent.Key) int {
		return boolOrder(hostkeys.IsCertificateAlgorithm(a.Format), hostkeys.IsCertificateAlgorithm(b.Format))
	})
	agentSigner := func(pub ssh.PublicKey) ssh.Signer {
		for _, k := range inAgent {
			if hostkeys.SameKey(k, pub) {
				return &agentSigner{agent: a.agent, pub: pub, failed: func() { a.result.NeedsPerson = true }}
			}
		}
		return nil
	}

	var files []*keyFile
	for _, path := range a.host.IdentityFiles {
		f, err := a.loadKeyFile(path)
		switch {
		case err == nil:
			files = append(files, f)
		case errors.Is(err, fs.ErrNotExist) && !a.host.IdentityFilesSet:
		default:
			a.note(fmt.Sprintf("%s: %v", path, err))
		}
	}
	signerFor := func(pub ssh.PublicKey) ssh.Signer {
		if s := agentSigner(pub); s != nil {
			return s
		}
		for _, f := range files {
			if s := f.signer(a); s != nil && hostkeys.SameKey(f.pub, pub) {
				return s
			}
		}
		return nil
	}

	certFiles, explicit := a.host.CertificateFiles, len(a.host.CertificateFiles) > 0
	if !explicit {
		for _, f := range files {
			certFiles = append(certFiles, strings.TrimSuffix(f.path, ".pub")+"-cert.pub")
		}
	}
	for _, path := range certFiles {
		pub, err := readPublicKey(path)
		cert, ok := pub.(*ssh.Certificate)
		switch {
		case err != nil && explicit:
			a.note(fmt.Sprintf("%s: %v", path, err))
		case err != nil:
		case !ok || cert.CertType != ssh.UserCert:
			a.note(path + ": not a user certificate")
		default:
			s := agentSigner(cert) // the agent may hold the certificate itself
			if s == nil {
				if plain := signerFor(cert.Key); plain != nil {
					s, err = ssh.NewCertSigner(cert, plain)
				}
			}
			if s == nil || err != nil {
				a.note(path + ": no private key for it")
				continue
			}
			a.offer(path, s)
		}
	}
	listed := func(k *agent.Key) *keyFile {
		for _, f := range files {
			if f.pub != nil && hostkeys.SameKey(k, f.pub) {
				return f
			}
		}
		return nil
	}
	for _, k := range inAgent {
		if f := listed(k); f != nil {
			a.offer(f.path, agentSigner(f.pub))
			f.offered = true
		}
	}
	if !a.host.IdentitiesOnly {
		for _, k := range inAgent {
			if pub, err := ssh.ParsePublicKey(k.Blob); err == nil && listed(k) == nil {
				a.offer("agent: "+display.Cut(display.Printable(k.Comment)), agentSigner(pub))
			}
		}
	}
	for _, f := range files {
		if f.offered {
			continue
		}
		if s := f.signer(a); s != nil {
			a.offer(f.path, s)
		} else {
			a.note(f.path + ": " + f.useless())
		}
	}
}

// offer appends a key unless PubkeyAcceptedAlgorithms forbids it, or the same one is there.
func (a *authenticator) offer(label string, s ssh.Signer) {
	for _, id := range a.keys {
		if hostkeys.SameKey(id.signer.PublicKey(), s.PublicKey()) {
			return
		}
	}
	if accepted := a.host.PubkeyAcceptedAlgorithms; accepted != nil {
		var algos []string // in the order of accepted
		_, isCert := s.PublicKey().(*ssh.Certificate)
		for _, name := range accepted {
			for _, algo := range signatureAlgorithms(s.PublicKey()) {
				if name == algo && !isCert || name == certAlgoOf(algo) && isCert {
					algos = append(algos, algo)
				}
			}
		}
		limited, ok := s.(ssh.AlgorithmSigner)
		if len(algos) == 0 || !ok {
			a.note(label + ": its type is not in PubkeyAcceptedAlgorithms")
			return
		}
		m, err := ssh.NewSignerWithAlgorithms(limited, algos)
		if err != nil {
			a.note(fmt.Sprintf("%s: %v", label, err))
			return
		}
		s = m
	}
	a.keys = append(a.keys, &identity{label: label, signer: s})
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
