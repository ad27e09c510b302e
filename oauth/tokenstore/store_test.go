package tokenstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func openStore(t *testing.T, dir string) (*Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s, err := Open(filepath.Join(dir, "state"), filepath.Join(dir, "config"), Keyring{}, slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, &log
}

func load(t *testing.T, s *Store, name string) string {
	t.Helper()
	b, err := s.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "state", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestStoreKeeps(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	if got := load(t, s, "k"); got != "" {
		t.Errorf("an empty store holds %q", got)
	}
	s.Save("k", []byte("token-in-clear"))
	s.Save("k/session", []byte("era"))
	s.Save("other", []byte("o"))
	s, _ = openStore(t, dir)
	if got := load(t, s, "k") + load(t, s, "k/session") + load(t, s, "other"); got != "token-in-clearerao" {
		t.Errorf("got %q", got)
	}
	for _, f := range append(files(t, dir, "*"), filepath.Join(dir, "config", keyName), filepath.Join(dir, "state")) {
		fi, err := os.Stat(f)
		if err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", f, fi.Mode(), err)
		}
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("clear")) {
			t.Errorf("%s is not encrypted", f)
		}
	}
	s.Forget("k")
	if got := load(t, s, "k") + load(t, s, "k/session") + load(t, s, "other"); got != "o" {
		t.Errorf("after Forget: %q", got)
	}
	s.ForgetAll()
	if got := files(t, dir, "*"+sealedSuffix); len(got) != 0 {
		t.Errorf("after ForgetAll: %q", got)
	}
}

func TestStoreSetsAside(t *testing.T) {
	for name, spoil := range map[string]func(dir, file string) error{
		"truncated": func(_, f string) error { return os.Truncate(f, 20) },
		"empty":     func(_, f string) error { return os.Truncate(f, 0) },
		"one bit": func(_, f string) error {
			b, _ := os.ReadFile(f)
			b[len(b)-1] ^= 1
			return os.WriteFile(f, b, 0o600)
		},
		"of another name": func(dir, f string) error {
			return os.Rename(filepath.Join(dir, "state", fileName("other")), f)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := openStore(t, dir)
			s.Save("k", []byte("v"))
			s.Save("other", []byte("o"))
			if err := spoil(dir, filepath.Join(dir, "state", fileName("k"))); err != nil {
				t.Fatal(err)
			}
			s, log := openStore(t, dir)
			b, err := s.Load("k")
			if b != nil || err == nil || !strings.Contains(err.Error(), "set aside") {
				t.Errorf("got %q, error %v", b, err)
			}
			if len(files(t, dir, "*"+badSuffix)) != 1 {
				t.Errorf("not set aside: %s", log)
			}
			s.Save("k", []byte("new"))
			s, _ = openStore(t, dir)
			if got := load(t, s, "k"); got != "new" {
				t.Errorf("after a new Save: %q", got)
			}
		})
	}
}

func TestStoreOpenToOthersIsNotUsed(t *testing.T) {
	for _, tt := range []struct {
		path string
		mode os.FileMode
		want bool
	}{
		{"state", 0o755, true}, // the files are private and bound to their names
		{"state", 0o775, false},
		{"state", 0o702, false},
		{"config", 0o755, true},
		{"config", 0o777, false},
		{"config/" + keyName, 0o640, false},
	} {
		dir := t.TempDir()
		s, _ := openStore(t, dir)
		s.Save("k", []byte("v"))
		if err := os.Chmod(filepath.Join(dir, tt.path), tt.mode); err != nil {
			t.Fatal(err)
		}
		s, log := openStore(t, dir)
		if got := load(t, s, "k") == "v"; got != tt.want || !tt.want && !strings.Contains(log.String(), "open to others") {
			t.Errorf("%s, mode %04o: used %v, log %s", tt.path, tt.mode, got, log)
		}
		before := files(t, dir, "*")
		s.Save("k2", []byte("memory"))
		if got := load(t, s, "k2"); got != "memory" || !tt.want && len(files(t, dir, "*")) != len(before) {
			t.Errorf("%s, mode %04o: got %q, files %q", tt.path, tt.mode, got, files(t, dir, "*"))
		}
	}
}

func TestStoreFileOpenToOthersIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	s.Save("k", []byte("v"))
	if err := os.Chmod(filepath.Join(dir, "state", fileName("k")), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load("k"); b != nil || err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("got %q, error %v", b, err)
	}
}

func TestLostKeySetsAllAside(t *testing.T) {
	for name, lose := range map[string]func(key string) error{
		"removed": os.Remove,
		"short":   func(key string) error { return os.Truncate(key, 5) },
	} {
		dir := t.TempDir()
		s, _ := openStore(t, dir)
		s.Save("k", []byte("v"))
		s.Save("other", []byte("o"))
		if err := lose(filepath.Join(dir, "config", keyName)); err != nil {
			t.Fatal(err)
		}
		s, log := openStore(t, dir)
		if bad := files(t, dir, "*"+badSuffix); len(bad) != 2 || !strings.Contains(log.String(), "set aside") {
			t.Errorf("%s: set aside are %q, log %s", name, bad, log)
		}
		if got := load(t, s, "k"); got != "" {
			t.Errorf("%s: got %q", name, got)
		}
		s.Save("k", []byte("new"))
		s, _ = openStore(t, dir)
		if got := load(t, s, "k"); got != "new" {
			t.Errorf("%s: after a new Save: %q", name, got)
		}
	}
}

func TestStoreFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	s.Save("k", []byte("v"))
	file := filepath.Join(dir, "state", fileName("k"))
	if err := os.Rename(file, file+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file+".real", file); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load("k"); b != nil || err == nil {
		t.Errorf("got %q, error %v", b, err)
	}
}

// A key made anew outdates all files; a key of another place outdates none.
func TestStoreOfAnotherKey(t *testing.T) {
	dir := t.TempDir()
	ours, _ := openStore(t, dir)
	ours.Save("k", []byte("v"))
	config, other := filepath.Join(dir, "config"), filepath.Join(dir, "other")
	if err := os.Rename(config, other); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.TempDir(), config, Keyring{}, nil); err != nil { // makes another key
		t.Fatal(err)
	}
	s, log := openStore(t, dir)
	b, err := s.Load("k")
	if b != nil || err == nil || !strings.Contains(err.Error(), fileName("k")) || !strings.Contains(err.Error(), filepath.Join(config, keyName)) {
		t.Errorf("got %q, error %v, want one that names both files", b, err)
	}
	if err := s.Save("k", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	if got := load(t, s, "k"); got != "mine" || !strings.Contains(log.String(), "memory only") {
		t.Errorf("got %q, log %s", got, log)
	}
	if got := files(t, dir, "*"+badSuffix); len(got) != 0 {
		t.Errorf("set aside: %q", got)
	}
	if got := load(t, ours, "k"); got != "v" {
		t.Errorf("the other's value is %q now", got)
	}
	s.Forget("k")
	s.Save("k", []byte("mine"))
	s, _ = openStore(t, dir)
	if got := load(t, s, "k"); got != "mine" {
		t.Errorf("after Forget: got %q", got)
	}
}

func TestForgetAllLeavesWhatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	s.Save("k", []byte("v"))
	ours := fileName("k")
	write := func(names ...string) {
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, "state", n), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(ours+badSuffix, ours+tempInfix+"123")
	foreign := []string{"secrets.sealed", "notes.bad", "x" + ours, ours + ".orig", ours[1:], strings.ToUpper(ours[:1]) + "G" + ours[2:], ".tmp-1"}
	write(foreign...)
	if err := s.ForgetAll(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir, "*"); len(got) != len(foreign) {
		t.Errorf("left are %q, want %q", got, foreign)
	}
}

func TestStoreLock(t *testing.T) {
	dir := t.TempDir()
	a, _ := openStore(t, dir)
	b, _ := openStore(t, dir)
	ours, theirs := a.Lock("k"), b.Lock("k")
	if err := ours.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := theirs.Wait(ctx); !errors.Is(err, gone) || theirs.Try() {
		t.Errorf("a taken lock was got: %v", err)
	}
	ours.Unlock()
	if err := theirs.Wait(t.Context()); err != nil || ours.Try() {
		t.Errorf("a free lock was not got, or twice: %v", err)
	}
	theirs.Unlock()
	if !ours.Try() {
		t.Error("a lock that was freed is not free")
	}
	ours.Unlock()
}

// A writer that is killed at any instruction leaves the old value or the new one.
func TestStoreSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	last := 0
	for range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "TOKENSTORE_TEST_WRITER="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		for said < last+20 { // then it is in the midst of the next
			if _, err := fmt.Fscan(out, &said); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		rest, _ := io.ReadAll(out)
		cmd.Wait()
		for f := range strings.FieldsSeq(string(rest)) {
			fmt.Sscan(f, &said)
		}
		got := 0
		fmt.Sscan(load(t, s, "k"), &got)
		if got < said {
			t.Fatalf("store holds %d, %d was saved before the kill", got, said)
		}
		last = got
	}
	if bad := files(t, dir, "*"+badSuffix); len(bad) != 0 {
		t.Errorf("set aside: %q", bad)
	}
}

// storeWriter saves 1, 2, 3 ... under k and says each number once it is durable.
func storeWriter(dir string) {
	s, err := Open(filepath.Join(dir, "state"), filepath.Join(dir, "config"), Keyring{}, nil)
	if err != nil {
		os.Exit(1)
	}
	b, _ := s.Load("k")
	n := 0
	fmt.Sscan(string(b), &n)
	for {
		n++
		s.Save("k", []byte(fmt.Sprint(n)+strings.Repeat(" ", 8000)))
		if _, err := fmt.Println(n); err != nil {
			os.Exit(0)
		}
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("TOKENSTORE_TEST_WRITER"); dir != "" {
		storeWriter(dir) // never returns: it is killed
	}
	os.Exit(m.Run())
}
