package tokenstore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	logger := slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil))
	s, err := Open(filepath.Join(dir, "state"), filepath.Join(dir, "config"), Keyring{}, logger)
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

func TestSavedValueStaysUntilItIsForgotten(t *testing.T) {
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

func TestDamagedFileIsSetAside(t *testing.T) {
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

func TestDirectoryOrKeyOpenToOthersIsNotUsed(t *testing.T) {
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

func TestFileOpenToOthersIsNotRead(t *testing.T) {
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

func TestLostKeySetsAllFilesAside(t *testing.T) {
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

func TestLinkIsNotFollowed(t *testing.T) {
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

// A key that was made anew makes all files worthless, a key of another place none.
func TestFileOfAnotherKeyIsNeitherUsedNorReplaced(t *testing.T) {
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
	if b != nil || err == nil {
		t.Fatalf("got %q, error %v", b, err)
	}
	for _, file := range []string{fileName("k"), filepath.Join(config, keyName)} {
		if !strings.Contains(err.Error(), file) {
			t.Errorf("the error %v does not name %s", err, file)
		}
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

func TestForgetAllLeavesFilesOfOthers(t *testing.T) {
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
	foreign := []string{"secrets.sealed", "notes.bad", "x" + ours, ours + ".orig", ours[1:],
		strings.ToUpper(ours[:1]) + "G" + ours[2:], ".tmp-1"}
	write(foreign...)
	if err := s.ForgetAll(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir, "*"); len(got) != len(foreign) {
		t.Errorf("left are %q, want %q", got, foreign)
	}
}

func TestKilledWriterLeavesTheOldValueOrTheNew(t *testing.T) {
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

func TestValuesAreThoseOfNamesWithoutASlash(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	s.Save("a", []byte("1"))
	s.Save("b", []byte("2"))
	s.Save("b/session", []byte("3"))
	damaged := filepath.Join(dir, "state", fileName("damaged"))
	if err := os.WriteFile(damaged, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	values, err := s.Values()
	if got := string(bytes.Join(values, []byte(" "))); got != "1 2" && got != "2 1" {
		t.Errorf("got %q", got)
	}
	if err == nil || !strings.Contains(err.Error(), damaged) {
		t.Errorf("got error %v, want one that names %s", err, damaged)
	}
	if values, err := Memory(nil).Values(); values != nil || err != nil {
		t.Errorf("in memory: %q, %v", values, err)
	}
}

func TestValueThatCannotBeWrittenStaysInMemory(t *testing.T) {
	dir := t.TempDir()
	s, log := openStore(t, dir)
	s.Save("k", []byte("old"))
	if err := s.Unsaved("k"); err != nil {
		t.Error(err)
	}
	state := filepath.Join(dir, "state")
	if err := os.Rename(state, state+".gone"); err != nil {
		t.Fatal(err)
	}
	s.Save("k", []byte("new"))
	s.Save("k", []byte("newer"))
	if got := load(t, s, "k"); got != "newer" || !errors.Is(s.Unsaved("k"), fs.ErrNotExist) {
		t.Errorf("got %q, Unsaved %v", got, s.Unsaved("k"))
	}
	if got := strings.Count(log.String(), notStored); got != 1 {
		t.Errorf("warned %d times: %s", got, log)
	}
	if err := os.Rename(state+".gone", state); err != nil {
		t.Fatal(err)
	}
	s.Save("k", []byte("newest"))
	if s, _ = openStore(t, dir); load(t, s, "k") != "newest" || s.Unsaved("k") != nil {
		t.Errorf("got %q, Unsaved %v", load(t, s, "k"), s.Unsaved("k"))
	}
}

func TestUnsavedSaysWhyTheDirectoryIsNotUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file, t.TempDir(), Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Save("k", []byte("v"))
	if load(t, s, "k") != "v" || s.Unsaved("k") == nil || s.Unsaved("other") != nil {
		t.Errorf("Unsaved %v", s.Unsaved("k"))
	}
	if _, err := s.Values(); err == nil {
		t.Error("Values says nothing of it")
	}
	memory := Memory(nil)
	memory.Save("k", []byte("v"))
	if err := memory.Unsaved("k"); err != nil {
		t.Errorf("memory was asked for: %v", err)
	}
}

func TestOpenNeedsBothDirectories(t *testing.T) {
	for _, dirs := range [][2]string{{"", "x"}, {"x", ""}} {
		if _, err := Open(dirs[0], dirs[1], Keyring{}, nil); err == nil {
			t.Errorf("%q: no error", dirs)
		}
	}
}

// The sizes, the order and the names are those of the package comment.
func TestFileIsAsDocumented(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	s.Save("key/name", []byte("value"))
	hash := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))[:24] }
	file := hash("key") + "-" + hash("name") + ".sealed"
	sealed, err := os.ReadFile(filepath.Join(dir, "state", file))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(dir, "config", "store.key"))
	if err != nil || len(secret) != 32 {
		t.Fatalf("a key of %d bytes, %v", len(secret), err)
	}
	id := sha256.Sum256(append([]byte("sallyport key ID "), secret...))
	rest, ok := bytes.CutPrefix(sealed, append([]byte("sallyport2\n"), id[:8]...))
	if !ok {
		t.Fatalf("begins with %q", sealed[:20])
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := aead.Open(nil, rest[:12], rest[12:], []byte(file)); string(got) != "value" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
