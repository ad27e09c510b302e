package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write makes a file of the test.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// read returns the text of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// appended is an edit that appends a text.
func appended(text string) func([]byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) { return append(old[:len(old):len(old)], text...), nil }
}

// A file behind links is replaced, the links stay, and so does its mode.
func TestEditFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "dotfiles", "config.json")
	write(t, target, "a", 0o640)
	path := filepath.Join(dir, "config.json")
	if err := errors.Join(os.Symlink(filepath.Join("dotfiles", "link.json"), path), os.Symlink("config.json", filepath.Join(dir, "dotfiles", "link.json"))); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path, "", User)
	if err != nil {
		t.Fatal(err)
	}
	edited, err := f.edit(t.Context(), false, appended("b"))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, target); got != "ab" {
		t.Errorf("the file holds %q, want %q", got, "ab")
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is gone: %v, %v", fi, err)
	}
	for _, name := range []string{target, edited.Backup} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o640 {
			t.Errorf("the mode of %s is %v, want 0640: %v", name, fi.Mode(), err)
		}
	}
	if got := read(t, edited.Backup); got != "a" || filepath.Dir(edited.Backup) != filepath.Dir(target) {
		t.Errorf("the backup %s holds %q, want %q", edited.Backup, got, "a")
	}
}

// A link that leads nowhere yet gets its file. A circle is an error.
func TestEditLinks(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "a.json"), filepath.Join(dir, "deep", "b.json")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path, "", Project)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.edit(t.Context(), false, appended("b")); err != nil || read(t, target) != "b" {
		t.Errorf("the target was not made: %v", err)
	}
	circle := filepath.Join(dir, "circle")
	if err := os.Symlink(circle, circle); err != nil {
		t.Fatal(err)
	}
	if _, err := openFile(circle, "", User); err == nil {
		t.Error("a circle of links is no error")
	}
}

// What another program writes between reading and replacing is not lost.
func TestEditNoticesChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, "a", 0o600)
	f, err := openFile(path, "", User)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	edited, err := f.edit(t.Context(), false, func(old []byte) ([]byte, error) {
		if n++; n <= 2 {
			write(t, path, fmt.Sprintf("host %d", n), 0o600)
		}
		return appended(" and ours")(old)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, path), "host 2 and ours"; got != want {
		t.Errorf("the file holds %q, want %q", got, want)
	}
	if got := read(t, edited.Backup); got != "host 2" {
		t.Errorf("the backup holds %q", got)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v; want the file and one backup", left, err)
	}
	_, err = f.edit(t.Context(), false, func(old []byte) ([]byte, error) {
		n++
		write(t, path, fmt.Sprintf("host %d", n), 0o600)
		return []byte("ours"), nil
	})
	if _, ok := errors.AsType[*BusyError](err); !ok {
		t.Errorf("a file that changes all the time gives %v, want a *BusyError", err)
	}
}

// Old backups do not pile up, and what only looks like one stays.
func TestBackups(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	write(t, path, "0", 0o600)
	write(t, filepath.Join(dir, "config.json.bak"), "mine", 0o600)
	f, err := openFile(path, "", User)
	if err != nil {
		t.Fatal(err)
	}
	var last Edited
	for n := range 6 {
		if last, err = f.edit(t.Context(), false, appended(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "config.json.sallyport-*.bak"))
	if err != nil || len(names) != keptBackups || names[len(names)-1] != last.Backup {
		t.Errorf("backups are %v, want %d with the newest one, %s", names, keptBackups, last.Backup)
	}
	if got := read(t, filepath.Join(dir, "config.json.bak")); got != "mine" {
		t.Errorf("another program's backup holds %q", got)
	}
}

// The host's lock is waited for, a lock that was left behind is taken, and ours is given back.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	f, err := openFile(path, ".lock", User)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.lock, 0o700); err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	go func() { // ends after the edit has seen the lock
		time.Sleep(3 * lockPoll)
		close(released)
		os.Remove(f.lock)
	}()
	if _, err := f.edit(t.Context(), false, func(old []byte) ([]byte, error) {
		select {
		case <-released:
		default:
			t.Error("the file is edited while the host holds its lock")
		}
		if _, err := os.Stat(f.lock); err != nil {
			t.Errorf("the file is edited without the lock: %v", err)
		}
		return []byte("a"), nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.lock); err == nil {
		t.Error("the lock is held on")
	}
	if err := os.Mkdir(f.lock, 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * staleLock)
	if err := os.Chtimes(f.lock, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := f.edit(t.Context(), false, appended("b")); err != nil || read(t, path) != "ab" {
		t.Errorf("a lock that was left behind is not taken: %v", err)
	}
}

// The difference of a minified file shows what differs, and no secret is shown.
func TestDiff(t *testing.T) {
	long := strings.Repeat(`{"a":"b"},`, 100)
	old := `{"list":[` + long + `1],"mcpServers":{},"z":1}`
	change, err := jsonFormat{}.put([]byte(old), []string{"mcpServers"}, "internal", sample)
	if err != nil {
		t.Fatal(err)
	}
	got := Diff("/x", []byte(old), change.New)
	if !strings.Contains(got, `"internal":{"command":"/opt/sallyport"`) || len(got) > 600 {
		t.Errorf("the difference is\n%s", got)
	}
	for line, want := range map[string]string{
		`+ "API_TOKEN": "abc",`:                            `+ "API_TOKEN": "***",`,
		` "client_secret":"abc"}`:                          ` "client_secret":"***"}`,
		`  GITHUB_TOKEN: abc # c`:                          `  GITHUB_TOKEN: "***" # c`,
		`OAUTH2_CLIENT_SECRET = 'abc'`:                     `OAUTH2_CLIENT_SECRET = "***"`,
		`"args": ["--header", "X: abc", "https://h/?k=v"]`: `"args": ["--header", "***", "https://h/?k=***"]`,
		`"--client-secret", "abc", "b"`:                    `"--client-secret", "***", "b"`,
		`"Authorization": "Bearer abc"`:                    `"Authorization": "***"`,
		`["-y", "x", "Authorization: Bearer abc"]`:         `["-y", "x", "Authorization: "***" ***"]`,
		`"https://user:abc@h/"`:                            `"https://user:***@h/"`,
		`"https://h:8443/mcp", "a@b"`:                      `"https://h:8443/mcp", "a@b"`,
		`"SSH_AUTH_SOCK": "$SSH_AUTH_SOCK"`:                `"SSH_AUTH_SOCK": "$SSH_AUTH_SOCK"`,
		`env_vars = ["SSH_AUTH_SOCK", "XAUTHORITY"]`:       `env_vars = ["SSH_AUTH_SOCK", "XAUTHORITY"]`,
		`"--client-secret-file", "/home/ada/secret"`:       `"--client-secret-file", "/home/ada/secret"`,
		`"oauth": {`:        `"oauth": {`,
		`"hasToken": true,`: `"hasToken": true,`,
	} {
		if got := mask(line); got != want {
			t.Errorf("%s is shown as %s, want %s", line, got, want)
		}
	}
}
