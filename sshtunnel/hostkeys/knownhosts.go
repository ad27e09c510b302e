package hostkeys

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
)

// These markers may begin a line of known_hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
const (
	markerCA      = "@cert-authority"
	markerRevoked = "@revoked"
)

// maxKnownHosts is the most that is read of one known_hosts file, in bytes. That are some 300,000
// lines, for each of which we take about as much memory again.
const maxKnownHosts = 32 << 20

// errKnownHostsCut says that the end of a known_hosts file was not read.
var errKnownHostsCut = fmt.Errorf("longer than %d MiB: what comes behind that is not read", maxKnownHosts>>20)

// knownEntry is one usable line of known_hosts.
type knownEntry struct {
	// source is SourceUserFile, SourceGlobalFile or SourceCommand.
	source Source
	file   string
	line   int
	// marker is "", markerCA or markerRevoked.
	marker string
	// hosts is the first field: a list of patterns, or one hashed name.
	hosts string
	key   ssh.PublicKey
}

// Composite tells whether the name of a key's type or algorithm is one of those of OpenSSH 10.5 and
// newer that join ML-DSA to an older kind. We do not support them: a key of such a type is passed
// over, and named where it matters.
func Composite(name string) bool { return strings.HasPrefix(name, "ssh-mldsa44-ed25519") }

// matches tells whether the line speaks about name, which is in lower case.
func (e *knownEntry) matches(name string) bool { return matchNames(e.hosts, name) }

// known returns where the line is and what key it holds.
func (e *knownEntry) known() KnownKey {
	return KnownKey{File: e.file, Line: e.line, Type: e.key.Type(), Fingerprint: Fingerprint(e.key)}
}

// keyStatus is what the lines of a name say about a key.
type keyStatus int

// The zero value says that nothing is known.
const (
	keyNew     keyStatus = iota // nothing
	keyKnown                    // a line holds the key, or the authority of the certificate
	keyChanged                  // lines hold other keys only
	keyRevoked
)

// finding is the answer of lookup.
type finding struct {
	status keyStatus
	// entry is the line, for keyKnown.
	entry *knownEntry
	// known holds the other keys for keyChanged, and the line for keyRevoked.
	known []KnownKey
}

// lookup compares key with what is known about name (check_hostkeys_by_key_or_type of OpenSSH).
func lookup(entries []knownEntry, name string, key ssh.PublicKey) finding {
	cert, isCert := key.(*ssh.Certificate)
	var f finding
	for i := range entries {
		e := &entries[i]
		if !e.matches(name) {
			continue
		}
		switch {
		case e.marker == markerRevoked:
			if samePlainKey(e.key, key) || isCert && samePlainKey(e.key, cert.SignatureKey) {
				return finding{status: keyRevoked, known: []KnownKey{e.known()}}
			}
		// The key of an authority is not trusted as a plain key, and the line of a plain key says
		// nothing about a certificate.
		case isCert != (e.marker == markerCA) || f.status == keyKnown:
		case isCert && samePlainKey(e.key, cert.SignatureKey), !isCert && SameKey(e.key, key):
			f = finding{status: keyKnown, entry: e}
		case !isCert:
			f.status, f.known = keyChanged, append(f.known, e.known())
		}
	}
	return f
}

// loadKnownHosts reads all files. A missing file is empty. One that cannot be read is reported and
// counts as empty, as with OpenSSH.
func loadKnownHosts(files []string, source Source, report func(file string, err error)) []knownEntry {
	var all []knownEntry
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				report(name, err)
			}
			continue
		}
		entries, err := readKnownHosts(name, source, f)
		f.Close()
		if err != nil {
			report(name, err)
		}
		if all == nil {
			all = entries
			continue
		}
		all = append(all, entries...)
	}
	return all
}

// readKnownHosts returns the lines that OpenSSH would use. A line that cannot be parsed is skipped
// and spoils no other: keys of SSH 1, unknown types or markers, bad base64.
func readKnownHosts(file string, source Source, r io.Reader) ([]knownEntry, error) {
	var entries []knownEntry
	left := &io.LimitedReader{R: r, N: maxKnownHosts + 1}
	lines := bufio.NewReader(left)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if e, ok := parseKnownHost(line); ok {
			e.source, e.file, e.line = source, file, n
			e.hosts, e.marker = strings.Clone(e.hosts), strings.Clone(e.marker) // the rest of the line can go
			entries = append(entries, e)
		}
		if err == io.EOF && left.N == 0 {
			err = errKnownHostsCut
		}
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
	}
}

// parseKnownHost parses "[marker] hosts type base64 [comment]".
func parseKnownHost(line string) (e knownEntry, ok bool) {
	e, keyType, blob, ok := splitKnownHost(line)
	if !ok {
		return e, false
	}
	var err error
	e.key, err = parseKeyFields(keyType, blob)
	// OpenSSH 10 has no DSA any more, so a line with such a key does not make another key a changed
	// one.
	return e, err == nil && e.key.Type() != "ssh-dss"
}

// splitKnownHost takes a line apart. The entry that it returns has no key yet.
func splitKnownHost(line string) (e knownEntry, keyType, blob string, ok bool) {
	line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
	if line == "" || line[0] == '#' {
		return e, "", "", false
	}
	if line[0] == '@' {
		// check_markers looks for a blank first, so "@revoked<TAB>host key" is a bad line.
		i := strings.IndexByte(line, ' ')
		if i < 0 {
			return e, "", "", false
		}
		e.marker, line = line[:i], strings.TrimLeft(line[i:], " \t")
		if e.marker != markerCA && e.marker != markerRevoked {
			return e, "", "", false
		}
	}
	e.hosts, line = nextField(line)
	keyType, line = nextField(line)
	blob, _ = nextField(line)
	return e, keyType, blob, e.hosts != ""
}

// compositeLine returns the first line of files that holds a key of a Composite type for name; ""
// if there is none.
func compositeLine(files []string, name string) string {
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(f, maxKnownHosts)) // what can be read is enough for a hint
		f.Close()
		n := 0
		for line := range bytes.Lines(text) {
			n++
			e, keyType, _, ok := splitKnownHost(string(line))
			if ok && Composite(keyType) && e.marker != markerRevoked && e.matches(name) {
				return KnownKey{File: file, Line: n}.String()
			}
		}
	}
	return ""
}

// errNoKey is the error of parseKeyFields.
var errNoKey = errors.New("not a public key")

// parseKeyFields parses a public key like sshkey_read of OpenSSH: the type before the blob must be
// the one inside it.
func parseKeyFields(keyType, blob string) (ssh.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil, errNoKey
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil || key.Type() != keyType {
		return nil, errNoKey
	}
	return key, nil
}

// nextField cuts the first field off s. Fields are separated by blanks.
func nextField(s string) (field, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// SameKey tells whether two keys, or two certificates, are the same.
func SameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
