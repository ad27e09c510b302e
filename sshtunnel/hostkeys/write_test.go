//go:build !windows

package hostkeys

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

func TestAppendKnownHostLikeSSH(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "new", "known_hosts")
	key := sshtest.NewKey().PublicKey()
	if err := appendKnownHost(t.Context(), file, key, false, "[web]:2222"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, st.Mode(), err, want)
		}
	}
	writeFile(t, file, "# no newline at the end")
	if err := appendKnownHost(t.Context(), file, key, true, "[web]:2222"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(file); strings.Contains(string(b), "web") {
		t.Errorf("the name is not hashed: %s", b)
	}
	if out := openssh.Run(t, "ssh-keygen", "-F", "[web]:2222", "-f", file); !strings.Contains(out, "found: line 2") {
		t.Errorf("ssh-keygen does not find it: %s", out)
	}
}

// Several writers of the same file lose no line: they take turns by the lock.
func TestWritersAtTheSameTimeLoseNoLine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "known_hosts")
	const writers, each = 4, 8
	key := sshtest.NewKey().PublicKey()
	done := make(chan error, writers)
	for w := range writers {
		go func() { // ends with its lines
			var err error
			for i := range each {
				name := fmt.Sprintf("w%d-%d", w, i)
				if err == nil {
					err = appendKnownHost(context.Background(), file, key, false, name)
				}
				if err == nil { // the same again adds nothing
					err = appendKnownHost(context.Background(), file, key, false, name)
				}
				if err == nil && i%2 == 0 { // rewritten under another key's name
					err = replaceKnownHost(context.Background(), file, replacement{name: "new-" + name, keys: []ssh.PublicKey{key}})
				}
			}
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	out, err := exec.Command("sort", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(out), "\n"), writers*(each+each/2); got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, out)
	}
}
