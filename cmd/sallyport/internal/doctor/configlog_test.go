package doctor

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/sshtunnel/sshconfig"
)

// A keyword that OpenSSH does not know either is told by a row, and no log line tears the rows
// apart.
func TestSkippedConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, more := filepath.Join(dir, "config"), filepath.Join(dir, "more")
	for name, text := range map[string]string{
		file: "Include " + more + "\nHost *\n  Ciphers aes128-ctr,no-such-cipher\n",
		more: "Host a\n  Portt 22\nHost b\n  Nonsense yes\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	var skipped skippedConfig
	l := slog.New(configLog{Handler: slog.NewTextHandler(&log, nil), skipped: &skipped})
	for range 2 {
		r := &sshconfig.Resolver{UserFile: file, UserFileRequired: true, Home: dir, Log: l}
		if _, err := r.Chain(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	lines, unknown := skipped.told()
	if want := more + ":2: portt is skipped: unknown keyword"; unknown != want {
		t.Errorf("got %q, want %q", unknown, want)
	}
	if len(lines) != 2 || !slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, file+":3: ciphers is skipped: ") && strings.Contains(line, "no-such-cipher")
	}) {
		t.Errorf("lines %q", lines)
	}
	l.Warn("anything else")
	if got := log.String(); !strings.Contains(got, "anything else") || strings.Contains(got, "portt") {
		t.Errorf("log: %s", got)
	}
}
