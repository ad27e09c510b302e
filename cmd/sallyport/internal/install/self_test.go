package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSelf shows which path of this program comes into an entry, and what is said about it.
func TestSelf(t *testing.T) {
	dir := t.TempDir()
	running := filepath.Join(dir, "Cellar", "1.0", "sallyport")
	write(t, running, "program", 0o700)
	write(t, filepath.Join(dir, "other", "sallyport"), "another program", 0o700)
	if err := os.Symlink(running, filepath.Join(dir, "sallyport")); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ running, path, want, warning string }{
		"the name in PATH, which an update keeps": {running, dir, filepath.Join(dir, "sallyport"), os.TempDir()},
		"another program in PATH":                 {running, filepath.Join(dir, "other"), running, os.TempDir()},
		"not in PATH":                             {"/opt/sallyport", "", "/opt/sallyport", ""},
		"the cache of npx":                        {"/home/ada/.npm/_npx/1/node_modules/x/sallyport", "", "/home/ada/.npm/_npx/1/node_modules/x/sallyport", "npx"},
		"of go run":                               {"/home/ada/.cache/go-build123/b001/exe/sallyport", "", "", ""},
		"not known":                               {"", "", "", ""},
	} {
		place := placeOf("linux", dir, map[string]string{"PATH": row.path})
		place.Env.Executable = row.running
		got, warning := Self(place)
		if got != row.want || (warning != "") != (row.warning != "") || !strings.Contains(warning, row.warning) {
			t.Errorf("%s: %q, %q; want %q, %q", name, got, warning, row.want, row.warning)
		}
	}
}

// TestWanted shows which variables a host must let through.
func TestWanted(t *testing.T) {
	for _, row := range []struct {
		goos      string
		usesSSH   bool
		variables map[string]string
		want      string
	}{
		{"darwin", false, nil, ""},
		{"darwin", true, nil, "SSH_AUTH_SOCK"},
		{"windows", true, nil, ""},
		{"linux", true, nil, "SSH_AUTH_SOCK XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS DISPLAY WAYLAND_DISPLAY"},
		{"darwin", false, map[string]string{"HTTPS_PROXY": "http://proxy", "BROWSER": "b"}, "BROWSER HTTPS_PROXY"},
	} {
		got := Wanted(placeOf(row.goos, "/home/ada", row.variables), row.usesSSH, []string{"TOKEN"})
		if want := append(strings.Fields(row.want), "TOKEN"); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", row.goos, got, want)
		}
	}
}
