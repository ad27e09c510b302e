package hostkeys

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Markers of known_hosts lines (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
const (
	markerCA      = "@cert-authority"
	markerRevoked = "@revoked"
)

// maxKnownHosts is the most that is read of one known_hosts file, in bytes.
const maxKnownHosts = 64 << 20

// Where a line of known_hosts comes from.
type knownSource int

const (
	fromUser    knownSource = iota // UserKnownHostsFile
	fromGlobal                     // GlobalKnownHostsFile
	fromCommand                    // KnownHostsCommand
)

// knownEntry is one usable line of a known_hosts file.
type knownEntry struct {
	source knownSource
	file   string
	line   int
	marker string // "", markerCA or markerRevoked
	hosts  string // the first field: patterns, or one hashed name
	key    ssh.PublicKey
}

func (e *knownEntry) known() KnownKey {
	return KnownKey{File: e.file, Line: e.line, Type: e.key.Type(), Fingerprint: ssh.FingerprintSHA256(e.key)}
}

// readKnownHosts returns the lines of r that OpenSSH would use. As there, a line that cannot be
// parsed (SSH1 keys, unknown types or markers, bad base64) is skipped and spoils no other.
func readKnownHosts(file string, r io.Reader) ([]knownEntry, error) {
	var entries []knownEntry
	br := bufio.NewReader(io.LimitReader(r, maxKnownHosts))
	for n := 1; ; n++ {
		line, err := br.ReadString('\n')
		if e, ok := parseKnownHost(line); ok {
			e.file, e.line = file, n
			entries = append(entries, e)
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
	line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
	if line == "" || line[0] == '#' {
		return e, false
	}
	if line[0] == '@' {
		// check_markers looks for a blank first: "@revoked<TAB>host key" is a bad line.
		i := strings.IndexByte(line, ' ')
		if i < 0 {
			return e, false
		}
		e.marker, line = line[:i], strings.TrimLeft(line[i:], " \t")
		if e.marker != markerCA && e.marker != markerRevoked {
			return e, false
		}
	}
	e.hosts, line = nextField(line)
	typ, line := nextField(line)
	blob, _ := nextField(line)
	if e.hosts == "" {
		return e, false
	}
	var err error
	e.key, err = parseKeyFields(typ, blob)
	// OpenSSH 10 knows no DSA any more: such a line does not make another key a changed one.
	return e, err == nil && e.key.Type() != "ssh-dss"
}

// parseKeyFields parses a public key as sshkey_read does: the name before the blob must be the one inside it.
func parseKeyFields(typ, blob string) (ssh.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil, errNoKey
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil || key.Type() != typ {
		return nil, errNoKey
	}
	return key, nil
}

// nextField cuts the first blank-separated field off s.
func nextField(s string) (field, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// matches reports whether the entry speaks about name, which is in lower case.
func (e *knownEntry) matches(name string) bool {
	if strings.HasPrefix(e.hosts, "|") {
		return matchHashed(e.hosts, name)
	}
	// match_pattern_list: one negated match outweighs all others.
	found := false
	for p := range strings.SplitSeq(strings.ToLower(e.hosts), ",") {
		p, negated := strings.CutPrefix(p, "!")
		if !wildcard(p, name) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// wildcard is OpenSSH's match_pattern: * is any run of characters, ? one.
func wildcard(pattern, s string) bool {
	// After a mismatch only the last star need be tried again, one character further.
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchHashed compares name with a field "|1|salt|hash" as HashKnownHosts makes it.
func matchHashed(field, name string) bool {
	parts := strings.Split(field, "|")
	if len(parts) != 4 || parts[0] != "" || parts[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	// OpenSSH compares the text, not what it stands for.
	return err == nil && len(salt) == sha1.Size && field == hashedName(salt, name)
}

// hashedName is how HashKnownHosts writes name.
func hashedName(salt []byte, name string) string {
	return "|1|" + b64(salt) + "|" + b64(hashName(salt, name))
}

func hashName(salt []byte, name string) []byte {
	h := hmac.New(sha1.New, salt)
	io.WriteString(h, name)
	return h.Sum(nil)
}

// hostPort is OpenSSH's put_host_port: the name of a host in known_hosts, in lower case.
func hostPort(host string, port int) string {
	host = strings.ToLower(host)
	if port == 0 || port == 22 {
		return host
	}
	return "[" + host + "]:" + strconv.Itoa(port)
}

// loadKnownHosts reads all files; a missing one is empty, one that cannot be read is reported and
// counts as empty, as with OpenSSH.
func loadKnownHosts(files []string, source knownSource, warn func(file string, err error)) []knownEntry {
	var all []knownEntry
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				warn(name, err)
			}
			continue
		}
		entries, err := readKnownHosts(name, f)
		f.Close()
		if err != nil {
			warn(name, err)
		}
		for i := range entries {
			entries[i].source = source
		}
		all = append(all, entries...)
	}
	return all
}

// SameKey tells whether two keys, or certificates, are the same.
func SameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
