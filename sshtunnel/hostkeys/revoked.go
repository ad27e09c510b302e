package hostkeys

import (
	"bytes"
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
// read or understood counts as revoking every key, because nobody can tell what it says.
func (d *decision) checkRevoked(key ssh.PublicKey) error {
	for _, file := range d.host.RevokedHostKeyFiles {
		line, revoked, err := revokedIn(file, key)
		if err != nil {
			d.fail.Revoked, d.fail.Err = true, fmt.Errorf("RevokedHostKeys %s: %w", file, err)
			return d.fail
		}
		if revoked {
			d.fail.Revoked = true
			d.fail.Known = []KnownKey{{File: file, Line: line, Type: d.fail.Type, Fingerprint: d.fail.Fingerprint}}
			return d.fail
		}
	}
	return nil
}

// revokedIn tells whether a file revokes key. The file is a key revocation list, for which line is
// 0, or it holds one public key a line.
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

// revokedLine returns the number of the line that holds key; for a certificate, also of one that
// holds the key in it or the key of its authority. It returns 0 if there is no such line. A line
// before it that is no key is an error (sshkey_in_file of OpenSSH).
func revokedLine(text []byte, key ssh.PublicKey) (int, error) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		s := strings.TrimLeft(strings.TrimSuffix(string(line), "\n"), " \t")
		if s == "" || s[0] == '#' {
			continue
		}
		typ, rest := nextField(s)
		if Composite(typ) { // a good line, but no key that we accept is of that type
			continue
		}
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
