//go:build !windows

package hostkeys

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// knownHostsDrawer draws known_hosts files, with good and bad lines.
type knownHostsDrawer struct {
	*rand.Rand
	keys []string
}

func (d *knownHostsDrawer) pick(s ...string) string { return s[d.IntN(len(s))] }

func (d *knownHostsDrawer) pattern() string {
	return d.pick("", "", "", "!") + d.pick("web", "web*", "w?b", "*", "*.example.org", "WEB", "db.*", "[web]:2222", "[web]:*", "[*]:2222",
		"10.0.0.?", "[::1]:2222", "::1", "*e*p*", "**", "?", "", "!", "fe80::1%eth0", "*%*", "[*", "*\x80*")
}

// hashed draws a hashed name, which may be spoilt.
func (d *knownHostsDrawer) hashed(name string) string {
	salt := make([]byte, 20)
	for i := range salt {
		salt[i] = byte(d.IntN(256))
	}
	s := hashedName(salt, name)
	switch d.IntN(8) {
	case 0: // in one place
		i := d.IntN(len(s))
		return s[:i] + d.pick("A", "=", "|", "*", "") + s[i+1:]
	case 1:
		return s + d.pick("=", ",web", "|", "x")
	}
	return s
}

// badKey draws a key with a fault, which may be harmless.
func (d *knownHostsDrawer) badKey() string {
	k := d.pick(d.keys...)
	keyType, blob, _ := strings.Cut(k, " ")
	switch d.IntN(8) {
	case 0:
		return keyType
	case 1:
		return d.pick("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-new", "1024 35") + " " + blob
	case 2:
		return keyType + " " + blob[:d.IntN(len(blob))]
	case 3:
		i := d.IntN(len(blob))
		return keyType + " " + blob[:i] + d.pick("!", "=", "A", " ", "\r") + blob[i+1:]
	case 4:
		return strings.ToUpper(keyType) + " " + blob
	case 5:
		return keyType + "\t" + blob + d.pick("", "\tcomment", " # comment")
	case 6:
		return "#" + k
	}
	return blob
}

func (d *knownHostsDrawer) line() string {
	hosts := d.pattern()
	for range d.IntN(3) {
		hosts += "," + d.pattern()
	}
	if d.IntN(4) == 0 {
		hosts = d.hashed(d.pick("web", "[web]:2222", "db.example.org", "10.0.0.1"))
	}
	key := d.pick(d.keys...)
	if d.IntN(4) == 0 {
		key = d.badKey()
	}
	switch d.IntN(10) {
	case 0:
		return "# " + hosts + " " + key
	case 5:
		return d.pick("@strange ", "@", "@ ", "@revoked", "@cert-authority") + hosts + " " + key
	case 6:
		return "\t " + hosts + " \t " + key + d.pick(" comment", "\t", " ")
	case 7:
		marker := d.pick("@cert-authority ", "@revoked ", "@revoked\t", "@revoked  ", "@cert-authority \t", " @revoked ", "@cert-authority @revoked ")
		return marker + hosts + " " + key
	case 8:
		return d.pick("", " ", "\t", "\r", hosts)
	}
	return hosts + " " + key
}

func (d *knownHostsDrawer) file() string {
	var lines []string
	for range 1 + d.IntN(12) {
		lines = append(lines, d.line())
	}
	return strings.Join(lines, d.pick("\n", "\n", "\r\n")) + d.pick("", "\n", "\r\n")
}

// keygenFinds returns what ssh-keygen finds about a name, as line number, fingerprint and marker.
func keygenFinds(t *testing.T, name, file string) (found []string) {
	out, _ := exec.CommandContext(t.Context(), "ssh-keygen", "-l", "-F", name, "-f", file).Output() // status 1: none found
	line, marker := "", ""
	for l := range strings.Lines(string(out)) {
		l = strings.TrimSpace(l)
		if rest, ok := strings.CutPrefix(l, "# Host "); ok {
			_, rest, _ = strings.Cut(rest, "found: line ")
			line, marker, _ = strings.Cut(rest, " ")
			continue
		}
		for _, field := range strings.Fields(l) {
			if strings.HasPrefix(field, "SHA256:") {
				found = append(found, fmt.Sprint(line, field, marker))
			}
		}
	}
	return found
}

// Which lines speak about a name, and with what key, is judged by ssh-keygen -l -F on random files.
// Unlike ssh, it does not put the name in lower case before it looks for a hash; so all names are
// in lower case.
func TestKnownHostsAgreesWithSSHKeygen(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "ssh-keygen")
	dir := t.TempDir()
	d := &knownHostsDrawer{Rand: randomSource(t)}
	for _, key := range []ssh.Signer{
		sshtest.NewKey(), sshtest.NewKey(),
		generate(t, dir, "rsa", "-t", "rsa", "-b", "2048"), generate(t, dir, "ecdsa", "-t", "ecdsa", "-b", "521"),
	} {
		d.keys = append(d.keys, keyLine(key.PublicKey()))
	}
	markers := map[string]string{markerCA: "CA", markerRevoked: "REVOKED"}
	file := filepath.Join(dir, "known_hosts")
	found := 0
	for range draws(t, 50) {
		text := d.file()
		writeFile(t, file, text)
		name := d.pick("web", "web1", "db.example.org", "example.org", "[web]:2222", "[db.example.org]:22", "10.0.0.1", "[::1]:2222",
			"::1", "fe80::1%eth0")
		want := keygenFinds(t, name, file)
		entries, err := readKnownHosts(file, SourceUserFile, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			if e.matches(name) {
				got = append(got, fmt.Sprint(e.line, ssh.FingerprintSHA256(e.key), markers[e.marker]))
			}
		}
		found += len(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, ssh-keygen %q, in\n%q", name, got, want, text)
		}
	}
	t.Logf("%d lines found", found)
	if found == 0 {
		t.Error("nothing was ever found")
	}
}

// No text makes the reader panic, and what it returns is a line with a key.
func FuzzKnownHosts(f *testing.F) {
	f.Add("web,!x* ssh-ed25519 AAAA\n|1|a|b ssh-rsa AAAA\n@revoked * x y", "web")
	f.Fuzz(func(t *testing.T, text, name string) {
		entries, err := readKnownHosts("f", SourceUserFile, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			e.matches(name)
			if e.key == nil || e.line < 1 {
				t.Fatalf("%+v", e)
			}
		}
		// Names are looked up in lower case. A list ends at a pattern that is too long.
		plain := strings.ToLower(name)
		if len(plain) > 1000 || strings.ContainsAny(plain, "*?!,") {
			return
		}
		if !matchNames("*"+plain, text+plain) {
			t.Fatalf("*%q does not match %q", plain, text+plain)
		}
	})
}
