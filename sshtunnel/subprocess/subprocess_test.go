//go:build !windows

package subprocess

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, cmd *exec.Cmd, stderr io.Writer) *Conn {
	t.Helper()
	c, err := Start(cmd, stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCommandIsAConnection(t *testing.T) {
	t.Parallel()
	var lines []string
	c := start(t, Shell(Command, "", "sh -c 'cat; echo oops >&2; exit 3'"), &LineWriter{Line: func(s string) { lines = append(lines, s) }})
	io.WriteString(c, "in")
	c.CloseWrite()
	if out, err := io.ReadAll(c); string(out) != "in" || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
	<-c.Ended()
	if c.ExitCode() != 3 || !slices.Equal(lines, []string{"oops"}) {
		t.Errorf("status %d, stderr %q", c.ExitCode(), lines)
	}
}

// Close ends a command that ignores the hangup, and its children.
func TestCloseEndsTheProcessGroup(t *testing.T) {
	t.Parallel()
	c := start(t, Shell(Command, "", "sh -c 'trap \"\" HUP; sleep 1000 & echo $!; wait'"), io.Discard)
	pid := make([]byte, 20)
	if _, err := c.Read(pid); err != nil {
		t.Fatal(err)
	}
	group := c.cmd.Process.Pid
	c.Close()
	for limit := time.Now().Add(10 * time.Second); syscall.Kill(-group, 0) == nil; {
		if time.Now().After(limit) {
			t.Fatal("a process of the group lives")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := c.Read(pid); err == nil {
		t.Error("Read after Close")
	}
	if err := c.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestStartWithoutAProgram(t *testing.T) {
	t.Parallel()
	if c, err := Start(Command("/no/such/program"), io.Discard); err == nil {
		c.Close()
		t.Error("started")
	}
}

func TestOwnSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"socket", "foreign"} {
		ln, err := net.Listen("unix", path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	if err := os.WriteFile(path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("socket", path("link")); err != nil {
		t.Fatal(err)
	}
	foreign := os.Geteuid() != 0 // only root can give it away
	if !foreign {
		if err := os.Lchown(path("foreign"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"socket": true, "foreign": foreign, "file": false, "link": false, "absent": false} {
		if got := OwnSocket(path(name)); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestLineWriter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"pieces", "a|b\nc|\n", []string{"ab", "c"}},
		{"an empty line", "\n", []string{""}},
		{"no end yet", "a", nil},
		{"what could steer a terminal", "a\x1b[2J\r\n", []string{"a[2J"}},
		{"too long", strings.Repeat("a", maxLine+1) + "\n", []string{strings.Repeat("a", maxLine)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			w := &LineWriter{Line: func(s string) { got = append(got, s) }}
			for piece := range strings.SplitSeq(tt.text, "|") {
				io.WriteString(w, piece)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
