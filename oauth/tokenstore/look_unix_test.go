//go:build unix

package tokenstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// snapshot lists the files below a directory with their contents.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var b []byte
			b, err = os.ReadFile(path)
			files[path] = string(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Look reads what Open has stored, and changes nothing.
func TestLook(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir, keyDir := filepath.Join(home, "state"), filepath.Join(home, "config")
	if _, err := Look(dir, keyDir, Keyring{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a store: %v", err)
	}
	if got := snapshot(t, home); len(got) != 0 {
		t.Fatalf("Look made %v", got)
	}
	store, err := Open(dir, keyDir, Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	store.Save("a", []byte("value"))
	damaged := filepath.Join(dir, fileName("b"))
	if err := os.WriteFile(damaged, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, home)
	look, err := Look(dir, keyDir, Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := look.Load("a"); err != nil || string(b) != "value" {
		t.Errorf("loaded %q, %v", b, err)
	}
	if b, err := look.Load("b"); err == nil {
		t.Errorf("a damaged file is %q", b)
	}
	if inFile, inRing := look.KeyPlaces(); !inFile || inRing {
		t.Errorf("key in the file %v, in the keyring %v", inFile, inRing)
	}
	look.Save("a", []byte("other"))
	look.Save("c", []byte("new"))
	if lock := look.Lock("a"); !lock.Try() {
		t.Error("a lock is not free")
	}
	if err := look.ForgetAll(); err != nil {
		t.Error(err)
	}
	after := snapshot(t, home)
	if len(after) != len(before) {
		t.Errorf("files before %d, after %d", len(before), len(after))
	}
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s has changed", path)
		}
	}
	if b, err := store.Load("a"); err != nil || string(b) != "value" {
		t.Errorf("the store has %q, %v", b, err)
	}
}

// What Open would not use, Look names.
func TestLookRefuses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir, keyDir string) error{
		"directory": func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"key":       func(_, keyDir string) error { return os.Chmod(filepath.Join(keyDir, keyName), 0o644) },
		"no key":    func(_, keyDir string) error { return os.WriteFile(filepath.Join(keyDir, keyName), []byte("x"), 0o600) },
	} {
		home := t.TempDir()
		dir, keyDir := filepath.Join(home, "state"), filepath.Join(home, "config")
		store, err := Open(dir, keyDir, Keyring{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		store.Save("a", []byte("value"))
		if err := spoil(dir, keyDir); err != nil {
			t.Fatal(err)
		}
		if _, err := Look(dir, keyDir, Keyring{}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	home := t.TempDir()
	_, err := Look(filepath.Join(home, "state"), filepath.Join(home, "config"), Keyring{Use: KeyInKeyring}, nil)
	if _, ok := errors.AsType[*KeyringError](err); !ok {
		t.Errorf("without a keyring: %v", err)
	}
}
