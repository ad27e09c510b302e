//go:build unix

package localsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// detached is what howDetached says of a process that StartDetached has started.
const detached = "leads its session"

func howDetached() string {
	if session, err := unix.Getsid(0); err != nil || session != os.Getpid() {
		return fmt.Sprintf("session %d, process %d, %v", session, os.Getpid(), err)
	}
	return detached
}

func TestModes(t *testing.T) {
	_, path := listenHere(t)
	for name, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		if fi, err := os.Stat(name); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, fi.Mode(), err, want)
		}
	}
}

func TestAPathThatIsTooLong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	l, err := Listen(filepath.Join(dir, strings.Repeat("x", 120)+".sock"))
	if !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("got %v, %v, want ENAMETOOLONG", l, err)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// A process that is killed while it makes a socket leaves a hidden one behind. It is removed when
// it is a day old, and nothing else is.
func TestHiddenSocketsAreRemoved(t *testing.T) {
	dir, err := os.MkdirTemp("", "sock") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	old := time.Now().Add(-hiddenFor - time.Hour)
	leave := func(name string, at time.Time) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	leave(".ABCDEFGH", old)
	leave(".ABCDEFGI", time.Now())
	leave("ABCDEFGHI", old)
	if err := os.WriteFile(filepath.Join(dir, ".ABCDEFGJ"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, ".ABCDEFGJ"), old, old); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(filepath.Join(dir, "new.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{".ABCDEFGI", ".ABCDEFGJ", "ABCDEFGHI", "new.sock"}; !slices.Equal(names, want) {
		t.Errorf("left are %q, want %q", names, want)
	}
}

// The process that made the socket may end before the other accepts. Whoever connects meanwhile
// waits.
func TestHandedOver(t *testing.T) {
	l, path := listenHere(t)
	conn, err := Dial(t.Context(), path) // before anybody could accept it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	out := startServing(t, path, f)
	f.Close()
	l.Leave()
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if got := string(b[:n]); got != detached || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, detached)
	}
	conn.Close()
	if !out.Scan() || out.Text() != "ready" || out.Scan() {
		t.Errorf("it says %q, %v", out.Text(), out.Err())
	}
	if paths, _ := List(filepath.Dir(path)); len(paths) > 0 {
		t.Errorf("it left %q", paths)
	}
}

func TestFromAFileThatIsNoSocket(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := FromFile(f, "x.sock"); err == nil {
		t.Errorf("got %v, want an error", l)
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is open: %v", err)
	}
}

// fill connects to a socket until its queue is full.
func fill(t *testing.T, path string) {
	t.Helper()
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		unix.SetNonblock(fd, true)
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if errors.Is(err, unix.EAGAIN) {
			return
		} else if err != nil {
			t.Skip("this system refuses where a queue is full: ", err)
		}
	}
}

// A process that is stopped accepts nothing. When it goes on, those who waited are served.
func TestDialWaitsForRoomInTheQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	l, err := FromFile(os.NewFile(uintptr(fd), ""), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fill(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 4*retryDial)
	defer cancel()
	if conn, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) || Gone(err) {
		t.Errorf("got %v, %v, want the end of the context", conn, err)
	}
	time.AfterFunc(2*retryDial, func() { echo(l) })
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
