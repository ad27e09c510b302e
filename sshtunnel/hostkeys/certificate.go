package hostkeys

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
)

// defaultCASignatureAlgorithms is OpenSSH's default of CASignatureAlgorithms. It has no SHA-1.
var defaultCASignatureAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// checkCert checks a certificate whose authority is known (sshkey_cert_check_host of OpenSSH 10.3
// and newer): its kind, its time, that it names the host, and its signature. A principal of a host
// may be a pattern. A certificate without principals, which older releases took for one of every
// host, serves for none.
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
	if len(cert.ValidPrincipals) == 0 {
		return errors.New("it names no host as a principal, so it is for none: sign it again with ssh-keygen -h -n HOST")
	}
	name := v.host.HostKeyAlias
	if name == "" {
		name = v.host.HostName
	}
	name = strings.ToLower(name)
	i := slices.IndexFunc(cert.ValidPrincipals, func(p string) bool { return sshconfig.MatchPattern(name, p) })
	if i < 0 {
		return fmt.Errorf("%q is none of its principals %q", name, display.Cut(strings.Join(cert.ValidPrincipals, ",")))
	}
	// CheckCert refuses any critical option. That is right, because none is defined for hosts.
	if err := new(ssh.CertChecker).CheckCert(cert.ValidPrincipals[i], cert); err != nil {
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

// minRSALength is the length below which no RSA key serves, whatever RequiredRSASize says, in bits
// (SSH_RSA_MINIMUM_MODULUS_SIZE of OpenSSH).
const minRSALength = 1024

// CheckRSALength returns an error if key is an RSA key, or a certificate for one, that is shorter
// than required, in bits (ssh_config(5), RequiredRSASize).
func CheckRSALength(key ssh.PublicKey, required int) error {
	holder, ok := PlainKey(key).(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	public, ok := holder.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return nil
	}
	if required = max(required, minRSALength); public.N.BitLen() < required {
		return fmt.Errorf("an RSA key of %d bits, and RequiredRSASize is %d", public.N.BitLen(), required)
	}
	return nil
}
