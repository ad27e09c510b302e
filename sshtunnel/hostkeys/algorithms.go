package hostkeys

import (
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostKeyAlgorithms are the algorithms accepted where the user names none, in order.
// ed25519 goes first: some servers (old dropbear) falter at the others.
var hostKeyAlgorithms = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// Algorithms returns what to ask the server for, in OpenSSH's order: as the user listed them; else,
// where no key of the first type is known, what known_hosts can verify goes first
// (order_hostkeyalgs). A server with several keys would otherwise show one that is not known.
func (c *Verifier) Algorithms() []string {
	if len(c.algos) == 0 || c.orderIsGiven() {
		return c.algos
	}
	if c.knowsType(keyTypeOf(c.algos[0])) {
		return c.algos
	}
	authority := slices.ContainsFunc(c.entries, func(e knownEntry) bool { return e.marker == markerCA && e.matches(c.name()) })
	first, rest := partition(c.algos, func(algo string) bool {
		return IsCertificateAlgorithm(algo) && authority || c.knowsType(keyTypeOf(algo))
	})
	return append(first, rest...)
}

func (c *Verifier) orderIsGiven() bool {
	return c.host.HostKeyAlgorithms != nil && !c.host.HostKeyAlgorithmsRelative
}

// knowsType tells whether a plain key of a type is known, and not revoked.
func (c *Verifier) knowsType(typ string) bool {
	for i := range c.entries {
		if e := &c.entries[i]; e.marker == "" && e.key.Type() == typ && e.matches(c.name()) {
			return c.lookup(c.entries, c.name(), e.key).status != keyRevoked
		}
	}
	return false
}

// permitted tells whether HostKeyAlgorithms allow a key.
func (c *Verifier) permitted(key ssh.PublicKey) bool {
	_, isCert := key.(*ssh.Certificate)
	return slices.ContainsFunc(c.algos, func(algo string) bool {
		return IsCertificateAlgorithm(algo) == isCert && keyTypeOf(algo) == PlainKey(key).Type()
	})
}

// IsCertificateAlgorithm tells whether a key type or signature algorithm is one of certificates.
func IsCertificateAlgorithm(algo string) bool { return strings.Contains(algo, "-cert-v0") }

// keyTypeOf returns the type of the plain key behind a signature algorithm, a certificate's included (RFC 8332).
func keyTypeOf(algo string) string {
	if base, ok := strings.CutSuffix(algo, "-cert-v01@openssh.com"); ok {
		algo = base
		if strings.HasPrefix(algo, "sk-") {
			algo += "@openssh.com"
		}
	}
	if algo == ssh.KeyAlgoRSASHA256 || algo == ssh.KeyAlgoRSASHA512 {
		return ssh.KeyAlgoRSA
	}
	return algo
}

func partition(list []string, first func(string) bool) (yes, no []string) {
	for _, s := range list {
		if first(s) {
			yes = append(yes, s)
		} else {
			no = append(no, s)
		}
	}
	return yes, no
}

// supported keeps of list what x/crypto implements, in the user's order.
func supported(list []string) []string {
	all := slices.Concat(ssh.SupportedAlgorithms().HostKeys, ssh.InsecureAlgorithms().HostKeys)
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !slices.Contains(all, s) })
}
