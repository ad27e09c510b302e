//go:build linux

package machines

import (
	"os"
	"path/filepath"
	"testing"
)

// OpenDir makes a temporary directory that other accounts can read, which they cannot with that of
// t.TempDir. Its path is short, too: the path of a socket holds 108 bytes. It ends with the test.
func OpenDir(t testing.TB) string {
	t.Helper()
	dir, err := newOpenDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newOpenDir() (string, error) {
	dir, err := os.MkdirTemp("", "sallyport-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// WriteFile writes a file of the test's own and returns its path.
func WriteFile(t testing.TB, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// ReadFile returns the text of a file, which has to be there.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// KeepScreenshot copies a screenshot to the directory that SALLYPORT_SCREENSHOTS names, for a
// person to look at. It does nothing if the variable is not set.
func KeepScreenshot(t testing.TB, path, name string) {
	t.Helper()
	if dir := os.Getenv("SALLYPORT_SCREENSHOTS"); dir != "" {
		WriteFile(t, dir, name+".png", ReadFile(t, path), 0o644)
	}
}
