package userkeys

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

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
// first. The last one of an RSA key means SHA-1 (RFC 8332), which OpenSSH's default of
// PubkeyAcceptedAlgorithms leaves out.
func signatureAlgorithms(pub ssh.PublicKey) []string {
	pub = hostkeys.PlainKey(pub)
	if pub.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
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

// limited returns a key that signs with the accepted algorithms only, so that x/crypto chooses
// among them. ok is false if the key is not to be offered.
func (c *collector) limited(k Key) (limited Key, ok bool) {
	pub := k.Signer.PublicKey()
	if c.seen[string(pub.Marshal())] {
		return k, false
	}
	c.seen[string(pub.Marshal())] = true
	if err := hostkeys.CheckRSALength(pub, c.Host.RequiredRSASize); err != nil {
		c.Note(k.Label + ": " + err.Error())
		return k, false
	}
	accepted := c.Host.PubkeyAcceptedAlgorithms
	if accepted == nil {
		accepted = sshconfig.DefaultAlgorithms("PubkeyAcceptedAlgorithms")
	}
	algos := acceptedAlgorithms(accepted, pub)
	signer, isAlgorithmSigner := k.Signer.(ssh.AlgorithmSigner)
	if len(algos) == 0 || !isAlgorithmSigner {
		c.Note(k.Label + ": its type is not in PubkeyAcceptedAlgorithms")
		return k, false
	}
	if c.hidesSHA2() && algos[0] != ssh.KeyAlgoRSA && pub.Type() == ssh.KeyAlgoRSA {
		k.Signer = sha2Signer{signer, algos[0]}
		return k, true
	}
	m, err := ssh.NewSignerWithAlgorithms(signer, algos)
	if err != nil {
		c.Note(fmt.Sprintf("%s: %v", k.Label, err))
		return k, false
	}
	k.Signer = m
	return k, true
}

// hidesSHA2 tells whether the server is of the release that knows SHA-2 for RSA keys but does not
// say so (SSH_BUG_SIGTYPE74 of OpenSSH).
func (c *collector) hidesSHA2() bool {
	_, software, _ := strings.Cut(strings.TrimPrefix(c.ServerVersion, "SSH-"), "-")
	return strings.HasPrefix(software, "OpenSSH_7.4")
}

// sha2Signer makes x/crypto use an algorithm that the server does not announce: x/crypto falls back
// to the type of the key, so the key is said to be of that type. The bytes of the key stay.
type sha2Signer struct {
	signer ssh.AlgorithmSigner
	algo   string
}

// sha2Key is a public key under the name of an algorithm.
type sha2Key struct {
	ssh.PublicKey
	algo string
}

// Type implements ssh.PublicKey.
func (k sha2Key) Type() string { return k.algo }

// PublicKey implements ssh.Signer.
func (s sha2Signer) PublicKey() ssh.PublicKey { return sha2Key{s.signer.PublicKey(), s.algo} }

// Sign implements ssh.Signer.
func (s sha2Signer) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.signer.SignWithAlgorithm(rand, data, s.algo)
}

// Watch returns a signer that calls sent when its public key is sent to the server. For
// a certificate it calls sent at once: what becomes of one cannot be seen.
func Watch(s ssh.Signer, sent func()) ssh.Signer {
	if _, isCert := s.PublicKey().(*ssh.Certificate); isCert {
		sent()
		return s
	}
	if m, ok := s.(ssh.MultiAlgorithmSigner); ok {
		return watchedSigner{m, sent}
	}
	sent()
	return s
}

// watchedSigner is a signer whose public key tells when it is sent.
type watchedSigner struct {
	ssh.MultiAlgorithmSigner
	sent func()
}

// watchedKey is a public key that tells when it is sent.
type watchedKey struct {
	ssh.PublicKey
	sent func()
}

// PublicKey implements ssh.Signer.
func (s watchedSigner) PublicKey() ssh.PublicKey {
	return watchedKey{s.MultiAlgorithmSigner.PublicKey(), s.sent}
}

// Marshal implements ssh.PublicKey. x/crypto calls it to send the key.
func (k watchedKey) Marshal() []byte {
	k.sent()
	return k.PublicKey.Marshal()
}
