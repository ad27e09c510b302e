//go:build !windows

package sshtunnel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
)

// keyLine is a key as known_hosts holds it.
func keyLine(k ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) }

// Which lines speak about a name is judged by ssh-keygen -F on random files. It does not look at
// keys; lines with bad ones are judged by ssh itself in TestHostKeyAgreesWithSSH. Nor does it
// put the name in lower case, as ssh does before it looks for a hash.
func TestKnownHostsAgreesWithSSHKeygen(t *testing.T) {
	needTool(t, "ssh-keygen")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	key := keyLine(sshtest.NewKey().PublicKey())
	names := []string{"web", "web1", "db.example.org", "example.org", "[web]:2222", "[db.example.org]:22", "10.0.0.1", "[::1]:2222"}
	pattern := func() string {
		return pick("", "", "", "!") + pick("web", "web*", "w?b", "*", "*.example.org", "WEB", "db.*", "[web]:2222", "[web]:*", "[*]:2222", "10.0.0.?", "[::1]:2222", "*e*p*", "**", "?")
	}
	hashed := func(name string) string {
		salt := make([]byte, 20)
		return "|1|" + b64(salt) + "|" + b64(hashName(salt, name))
	}
	line := func() string {
		hosts := pattern()
		for range r.IntN(3) {
			hosts += "," + pattern()
		}
		if r.IntN(4) == 0 {
			hosts = hashed(pick("web", "[web]:2222", "db.example.org"))
		}
		switch r.IntN(9) {
		case 0:
			return "# " + hosts + " " + key
		case 5:
			return "@strange " + hosts + " " + key
		case 6:
			return "\t " + hosts + " \t " + key + " comment"
		case 7:
			return pick("@cert-authority ", "@revoked ", "@revoked\t") + hosts + " " + key
		case 8:
			return ""
		}
		return hosts + " " + key
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	draws := 150
	for range draws {
		var lines []string
		for range 1 + r.IntN(8) {
			lines = append(lines, line())
		}
		text := strings.Join(lines, "\n") + pick("", "\n", "\r\n")
		writeFile(t, file, text)
		name := pick(names...)
		var want []string
		out, _ := exec.CommandContext(t.Context(), "ssh-keygen", "-F", name, "-f", file).Output() // status 1: none found
		for l := range strings.Lines(string(out)) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(l), "# Host "); ok {
				_, n, _ = strings.Cut(n, "found: line ")
				n, _, _ = strings.Cut(n, " ")
				want = append(want, n)
			}
		}
		entries, err := readKnownHosts(file, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			if e.matches(strings.ToLower(name)) {
				got = append(got, fmt.Sprint(e.line))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got lines %v, ssh-keygen %v, in\n%s", name, got, want, text)
		}
	}
}

func TestAppendKnownHost(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "new", "known_hosts")
	key := sshtest.NewKey().PublicKey()
	if err := appendKnownHost(file, "[web]:2222", key, false); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, st.Mode(), err, want)
		}
	}
	writeFile(t, file, "# no newline at the end")
	if err := appendKnownHost(file, "[web]:2222", key, true); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); strings.Contains(string(b), "web") {
		t.Errorf("the name is not hashed: %s", b)
	}
	if out := run(t, "ssh-keygen", "-F", "[web]:2222", "-f", file); !strings.Contains(out, "found: line 2") {
		t.Errorf("ssh-keygen does not find it: %s", out)
	}
}

func FuzzKnownHosts(f *testing.F) {
	f.Add("web,!x* ssh-ed25519 AAAA\n|1|a|b ssh-rsa AAAA\n@revoked * x y", "web")
	f.Fuzz(func(t *testing.T, text, name string) {
		entries, err := readKnownHosts("f", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			e.matches(name)
			if e.key == nil || e.line < 1 {
				t.Fatalf("%+v", e)
			}
		}
		if !wildcard("*"+name, text+name) && !strings.ContainsAny(name, "*?") {
			t.Fatalf("*%q does not match %q", name, text+name)
		}
	})
}
