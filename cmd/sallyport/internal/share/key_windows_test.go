package share

import (
	"strings"
	"testing"

	"sallyport/sshtunnel/sshconfig"
)

func TestPathsOfDrives(t *testing.T) {
	dir := t.TempDir() // on C:
	for path, want := range map[string]string{
		`keys\a`: dir + `\keys\a`, `C:\keys\a`: `C:\keys\a`, `\\.\pipe\agent`: `\\.\pipe\agent`, "": "",
	} {
		if got := under(dir, path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := under(dir, "/keys/a"); !strings.HasSuffix(got, `:\keys\a`) || len(got) != len(`C:\keys\a`) {
		t.Errorf("/keys/a: got %s, want it on the drive in use", got)
	}
}

// Variables have no case, and the working directories of drives are none of ours.
func TestVariablesOfWindows(t *testing.T) {
	keyOf := func(environ ...string) string {
		w := way{chain: []*sshconfig.Host{{ProxyCommand: "x"}}}
		w.environ, w.counts = environOf(w.chain, environ)
		return w.key()
	}
	if keyOf("Path=x", "PROFILE=y", `=C:=C:\a`) != keyOf("PROFILE=y", "PATH=x", `=C:=C:\b`) {
		t.Error("two programs that write PATH differently do not share")
	}
	if keyOf("PATH=x") == keyOf("PATH=y") {
		t.Error("the value does not count")
	}
}
