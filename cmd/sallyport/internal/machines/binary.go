//go:build linux

package machines

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"
)

// Sallyport returns the path of the real command. It is built as the tests are: with the race
// detector if they have it. All accounts may run it. Packages share one build of it.
func Sallyport(t testing.TB) string {
	t.Helper()
	NeedMachine(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// PlainSallyport is Sallyport without the race detector, for a test that looks at memory.
func PlainSallyport(t testing.TB) string {
	t.Helper()
	NeedMachine(t)
	path, err := plainBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Command is the real command with a home directory of its own. It inherits nothing from this
// process's environment but PATH. A shared connection that it starts ends with the test.
func Command(t testing.TB, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(Sallyport(t), args...)
	EndShares(t, home)
	cmd.Dir = home
	cmd.Env = append(Environment(), "HOME="+home)
	return cmd
}

// Environment is what every process of the real command gets: the PATH, a directory of temporary
// files, and for a build with the race detector the order to wait for late races for 50 ms instead
// of a whole second when it exits. The empty variables keep it from the agent and the keyring of
// whoever runs the tests.
func Environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=50", "SSH_AUTH_SOCK=", "XDG_RUNTIME_DIR="}
	if dir, err := temporary(); err == nil {
		env = append(env, "TMPDIR="+dir)
	}
	return env
}

// temporary is a directory for all accounts, as /tmp is. Its path is short: the homes of tests are
// often too long for the sockets of shared connections, which lie here then.
var temporary = sync.OnceValues(func() (string, error) {
	dir, err := newOpenDir()
	if err != nil {
		return "", err
	}
	AfterAll(func() { os.RemoveAll(dir) })
	return dir, os.Chmod(dir, 0o777|fs.ModeSticky)
})

var (
	binary      = sync.OnceValues(func() (string, error) { return buildOnce(raceDetector()) })
	plainBinary = sync.OnceValues(func() (string, error) { return buildOnce(false) })
)

func buildOnce(race bool) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := newOpenDir()
	if err != nil {
		return "", err
	}
	AfterAll(func() { os.RemoveAll(dir) })
	if err := showSources(root); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sallyport")
	AfterAll(func() { killShares(func(proc string) bool { return isProgram(proc, path) }) })
	return path, build(root, path, race)
}

// EndShares ends the shared connections of a home directory when the test ends. They would go on
// for ten minutes.
func EndShares(t testing.TB, home string) {
	t.Cleanup(func() {
		killShares(func(proc string) bool {
			environ, err := os.ReadFile(filepath.Join(proc, "environ"))
			return err == nil && slices.Contains(strings.Split(string(environ), "\x00"), "HOME="+home)
		})
	})
}

// killShares ends the processes of shared connections whose directories below /proc are meant.
func killShares(meant func(proc string) bool) {
	killWhere(func(proc string) bool {
		line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		return err == nil && string(line) == "sallyport\x00share\x00" && meant(proc)
	})
}

// isProgram reports whether a process runs the file at path, which may be gone by now.
func isProgram(proc, path string) bool {
	running, err := os.Readlink(filepath.Join(proc, "exe"))
	return err == nil && strings.TrimSuffix(running, " (deleted)") == path
}

// showSources looks at all source files of the command and its libraries. The go tool repeats the
// result of a test as long as the files that the test looked at are the same; it cannot know that
// this test builds a program from those.
func showSources(root string) error {
	for _, dir := range []string{"cmd/sallyport", "sshtunnel", "oauth", "relay"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// build builds the command and copies it to path. It keeps its own build in the user's cache, where
// the go tool finds at the next call that nothing has changed, and links nothing.
func build(root, path string, race bool) error {
	args := []string{"-trimpath", "-ldflags", "-s -w"} // as make build
	kind := "plain"
	if race {
		args, kind = append(args, "-race"), "race"
	}
	cache, err := os.UserCacheDir()
	if err != nil { // no home directory
		return goBuild(root, append(args, "-o", path, "./cmd/sallyport")...)
	}
	cache = filepath.Join(cache, "sallyport-test", fmt.Sprintf("%s-%x", kind, sha256.Sum256([]byte(root)))[:24])
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(cache, "lock"))
	if err := lock.Lock(); err != nil { // released at the latest when this process ends
		return err
	}
	defer lock.Unlock()
	kept := filepath.Join(cache, "sallyport")
	if err := goBuild(root, append(args, "-o", kept, "./cmd/sallyport")...); err != nil {
		return err
	}
	return copyFile(kept, path, 0o755)
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// raceDetector tells whether this process was built with -race.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// moduleRoot is the directory of go.mod: go test runs a test in its package's directory, which lies
// below.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}
