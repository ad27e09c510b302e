//go:build !windows

package hostkeys

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// Which lines speak about a name, and with what key, is judged by ssh-keygen -l -F on random files.
// It does not put the name in lower case, as ssh does before it looks for a hash.
func TestKnownHostsAgreesWithSSHKeygen(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "ssh-keygen")
	r := randomSource(t)
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	dir := t.TempDir()
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", dir+"/rsa")
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "ecdsa", "-b", "521", "-f", dir+"/ecdsa")
	keys := []string{keyLine(sshtest.NewKey().PublicKey()), keyLine(sshtest.NewKey().PublicKey()), keyLine(openssh.ReadPublicKey(t, dir+"/rsa.pub")), keyLine(openssh.ReadPublicKey(t, dir+"/ecdsa.pub"))}
	names := []string{"web", "web1", "db.example.org", "example.org", "[web]:2222", "[db.example.org]:22", "10.0.0.1", "[::1]:2222", "::1", "fe80::1%eth0"}
	pattern := func() string {
		return pick("", "", "", "!") + pick("web", "web*", "w?b", "*", "*.example.org", "WEB", "db.*", "[web]:2222", "[web]:*", "[*]:2222",
			"10.0.0.?", "[::1]:2222", "::1", "*e*p*", "**", "?", "", "!", "fe80::1%eth0", "*%*", "[*", "*\x80*")
	}
	hashed := func(name string) string {
		salt := make([]byte, 20)
		for i := range salt {
			salt[i] = byte(r.IntN(256))
		}
		s := hashedName(salt, name)
		switch r.IntN(8) {
		case 0: // spoilt in one place
			i := r.IntN(len(s))
			return s[:i] + pick("A", "=", "|", "*", "") + s[i+1:]
		case 1:
			return s + pick("=", ",web", "|", "x")
		}
		return s
	}
	badKey := func() string {
		k := keys[r.IntN(len(keys))]
		typ, blob, _ := strings.Cut(k, " ")
		switch r.IntN(8) {
		case 0:
			return typ
		case 1:
			return pick("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-new", "1024 35") + " " + blob
		case 2:
			return typ + " " + blob[:r.IntN(len(blob))]
		case 3:
			i := r.IntN(len(blob))
			return typ + " " + blob[:i] + pick("!", "=", "A", " ", "\r") + blob[i+1:]
		case 4:
			return strings.ToUpper(typ) + " " + blob
		case 5:
			return typ + "\t" + blob + pick("", "\tcomment", " # comment")
		case 6:
			return "#" + k
		}
		return blob
	}
	line := func() string {
		hosts := pattern()
		for range r.IntN(3) {
			hosts += "," + pattern()
		}
		if r.IntN(4) == 0 {
			hosts = hashed(pick("web", "[web]:2222", "db.example.org", "10.0.0.1"))
		}
		key := keys[r.IntN(len(keys))]
		if r.IntN(4) == 0 {
			key = badKey()
		}
		switch r.IntN(10) {
		case 0:
			return "# " + hosts + " " + key
		case 5:
			return pick("@strange ", "@", "@ ", "@revoked", "@cert-authority") + hosts + " " + key
		case 6:
			return "\t " + hosts + " \t " + key + pick(" comment", "\t", " ")
		case 7:
			return pick("@cert-authority ", "@revoked ", "@revoked\t", "@revoked  ", "@cert-authority \t", " @revoked ", "@cert-authority @revoked ") + hosts + " " + key
		case 8:
			return pick("", " ", "\t", "\r", hosts)
		}
		return hosts + " " + key
	}
	file := filepath.Join(dir, "known_hosts")
	found := 0
	for range draws(t, 50) {
		var lines []string
		for range 1 + r.IntN(12) {
			lines = append(lines, line())
		}
		text := strings.Join(lines, pick("\n", "\n", "\r\n")) + pick("", "\n", "\r\n")
		writeFile(t, file, text)
		name := pick(names...)
		var want []string                                                                               // line, fingerprint and marker
		out, _ := exec.CommandContext(t.Context(), "ssh-keygen", "-l", "-F", name, "-f", file).Output() // status 1: none found
		at, marker := "", ""
		for l := range strings.Lines(string(out)) {
			l = strings.TrimSpace(l)
			if n, ok := strings.CutPrefix(l, "# Host "); ok {
				_, n, _ = strings.Cut(n, "found: line ")
				at, marker, _ = strings.Cut(n, " ")
				continue
			}
			for _, f := range strings.Fields(l) {
				if strings.HasPrefix(f, "SHA256:") {
					want = append(want, fmt.Sprint(at, f, marker))
				}
			}
		}
		entries, err := readKnownHosts(file, SourceUserFile, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			if e.matches(strings.ToLower(name)) {
				got = append(got, fmt.Sprint(e.line, ssh.FingerprintSHA256(e.key), map[string]string{markerCA: "CA", markerRevoked: "REVOKED"}[e.marker]))
			}
		}
		found += len(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, ssh-keygen %q, in\n%q\n%s", name, got, want, text, out)
		}
	}
	t.Logf("%d lines found", found)
	if found == 0 {
		t.Error("nothing was ever found")
	}
}

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
		if !matchNames("*"+name, text+name) && !strings.ContainsAny(name, "*?") {
			t.Fatalf("*%q does not match %q", name, text+name)
		}
	})
}
