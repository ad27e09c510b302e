package hostkeys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// maxRevokedFile is the most that is read of one file of RevokedHostKeys, in bytes.
const maxRevokedFile = 64 << 20

// checkRevoked looks key up in the files of RevokedHostKeys (ssh_config(5)). A file that cannot be
// read or understood counts as revoking every key: what it says cannot be told.
func (c *Verifier) checkRevoked(key ssh.PublicKey, fail *Error) error {
	files := c.host.RevokedHostKeyFiles
	if len(files) == 0 && c.host.RevokedHostKeys != "" {
		files = []string{c.host.RevokedHostKeys}
	}
	for _, file := range files {
		line, revoked, err := revokedIn(file, key)
		if err != nil {
			fail.Revoked, fail.Err = true, fmt.Errorf("RevokedHostKeys %s: %w", file, err)
			return fail
		}
		if revoked {
			fail.Revoked = true
			fail.Known = []KnownKey{{File: file, Line: line, Type: fail.Type, Fingerprint: fail.Fingerprint}}
			return fail
		}
	}
	return nil
}

// revokedIn tells whether a file revokes key: a key revocation list, or lines of public keys. line
// is 0 for the former.
func revokedIn(file string, key ssh.PublicKey) (line int, revoked bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false, display.Reason(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRevokedFile+1))
	if err != nil {
		return 0, false, display.Reason(err)
	}
	if len(b) > maxRevokedFile {
		return 0, false, fmt.Errorf("longer than %d bytes", maxRevokedFile)
	}
	if bytes.HasPrefix(b, []byte(krlMagic)) {
		list, err := parseKRL(b)
		if err != nil {
			return 0, false, err
		}
		return 0, list.revokes(key), nil
	}
	line, err = revokedLine(b, key)
	return line, line > 0, err
}

// revokedLine returns the number of the line that holds key, the key in a certificate, or its
// authority's; 0 none. A line that is no key is an error (sshkey_in_file).
func revokedLine(text []byte, key ssh.PublicKey) (int, error) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		s := strings.TrimLeft(strings.TrimSuffix(string(line), "\n"), " \t")
		if s == "" || s[0] == '#' {
			continue
		}
		typ, rest := nextField(s)
		blob, _ := nextField(rest)
		listed, err := parseKeyFields(typ, blob)
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		if samePlainKey(listed, key) {
			return n, nil
		}
		if cert, ok := key.(*ssh.Certificate); ok && samePlainKey(listed, cert.SignatureKey) {
			return n, nil
		}
	}
	return 0, nil
}

var errNoKey = errors.New("not a public key")

// PlainKey returns the key itself, or the one in a certificate.
func PlainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

func samePlainKey(a, b ssh.PublicKey) bool { return SameKey(PlainKey(a), PlainKey(b)) }
