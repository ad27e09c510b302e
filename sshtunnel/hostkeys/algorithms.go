package hostkeys

import (
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// defaultAlgorithms are the algorithms that are accepted where the user names none, in order.
// ed25519 goes first, because some servers, such as old releases of dropbear, have trouble with the
// others.
var defaultAlgorithms = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// Algorithms returns the algorithms to ask the server for, for ssh.ClientConfig.HostKeyAlgorithms.
// It is empty where x/crypto implements none of HostKeyAlgorithms.
//
// The order is OpenSSH's (order_hostkeyalgs): as the user listed them. If the user gave no order,
// and no key of the first type is known, then what known_hosts can verify goes first. Else a server
// that has several keys would show one that is not known.
func (v *Verifier) Algorithms() []string {
	if len(v.allowed) == 0 || v.orderIsGiven() || v.knowsType(keyTypeOf(v.allowed[0])) {
		return v.allowed
	}
	authority := slices.ContainsFunc(v.known, func(e knownEntry) bool {
		return e.marker == markerCA && e.matches(v.name())
	})
	var verifiable, others []string
	for _, algo := range v.allowed {
		if IsCertificateAlgorithm(algo) && authority || v.knowsType(keyTypeOf(algo)) {
			verifiable = append(verifiable, algo)
		} else {
			others = append(others, algo)
		}
	}
	return append(verifiable, others...)
}

// orderIsGiven tells whether the user has written the order of HostKeyAlgorithms.
func (v *Verifier) orderIsGiven() bool {
	return v.host.HostKeyAlgorithms != nil && !v.host.HostKeyAlgorithmsRelative
}

// knowsType tells whether a plain key of a type is known for the host, and not revoked.
func (v *Verifier) knowsType(keyType string) bool {
	for i := range v.known {
		if e := &v.known[i]; e.marker == "" && e.key.Type() == keyType && e.matches(v.name()) {
			return lookup(v.known, v.name(), e.key).status != keyRevoked
		}
	}
	return false
}

// permits tells whether HostKeyAlgorithms allows a key.
func (v *Verifier) permits(key ssh.PublicKey) bool {
	_, isCert := key.(*ssh.Certificate)
	return slices.ContainsFunc(v.allowed, func(algo string) bool {
		return IsCertificateAlgorithm(algo) == isCert && keyTypeOf(algo) == PlainKey(key).Type()
	})
}

// IsCertificateAlgorithm tells whether a key type or a signature algorithm is one of certificates.
func IsCertificateAlgorithm(algo string) bool { return strings.Contains(algo, "-cert-v0") }

// keyTypeOf returns the type of the plain key behind a signature algorithm, also behind one of
// certificates (RFC 8332).
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

// supported returns the algorithms of list that x/crypto implements, in the same order.
func supported(list []string) []string {
	implemented := slices.Concat(ssh.SupportedAlgorithms().HostKeys, ssh.InsecureAlgorithms().HostKeys)
	return slices.DeleteFunc(slices.Clone(list), func(algo string) bool { return !slices.Contains(implemented, algo) })
}
