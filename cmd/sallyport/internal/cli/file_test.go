package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	for _, size := range []int{0, 1024, 1025} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(path, 1024)
		if tooLong := size > 1024; tooLong != (err != nil) || !tooLong && len(got) != size {
			t.Errorf("%d bytes: got %d bytes, %v", size, len(got), err)
		}
		if err != nil && !strings.Contains(err.Error(), path+": longer than 1 KiB") {
			t.Errorf("the error is %v", err)
		}
	}
}
