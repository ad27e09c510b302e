package hostkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// defaultCASignatureAlgorithms is OpenSSH's default of CASignatureAlgorithms. It has no SHA-1.
var defaultCASignatureAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// checkCert checks a certificate whose authority is known (sshkey_cert_check_host of OpenSSH): its
// kind, its signature, its time, and that it names the host.
func (v *Verifier) checkCert(cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("not a host certificate")
	}
	allowed := v.host.CASignatureAlgorithms
	if allowed == nil {
		allowed = defaultCASignatureAlgorithms
	}
	if !slices.Contains(allowed, cert.Signature.Format) {
		return fmt.Errorf("signed with %q, which CASignatureAlgorithms does not allow", display.Cut(cert.Signature.Format))
	}
	principal := v.host.HostKeyAlias
	if principal == "" {
		principal = v.host.HostName
	}
	// CheckCert refuses any critical option. That is right, because none is defined for hosts.
	if err := new(ssh.CertChecker).CheckCert(strings.ToLower(principal), cert); err != nil {
		return errors.New(display.Cut(strings.TrimPrefix(err.Error(), "ssh: ")))
	}
	return nil
}

// PlainKey returns the key in a certificate, and any other key itself.
func PlainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// samePlainKey tells whether two keys, or the keys in certificates, are the same.
func samePlainKey(a, b ssh.PublicKey) bool { return SameKey(PlainKey(a), PlainKey(b)) }

// Fingerprint returns the SHA256:... fingerprint of a key as ssh prints it; for a certificate, that
// of the key in it.
func Fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(PlainKey(key)) }

// displayType returns what ssh calls a type of key, such as ED25519, ECDSA or RSA.
func displayType(keyType string) string {
	switch {
	case keyType == ssh.KeyAlgoED25519:
		return "ED25519"
	case strings.HasPrefix(keyType, "ecdsa-"):
		return "ECDSA"
	case keyType == ssh.KeyAlgoRSA:
		return "RSA"
	}
	return keyType
}
