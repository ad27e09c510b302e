package localsock

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const other = 60_123 // the number of another user

// asOther runs f on a thread that acts for another user.
func asOther(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can act for another user")
	}
	done := make(chan struct{})
	go func() { // ends with f, and its thread with it: a locked thread is never used again
		defer close(done)
		runtime.LockOSThread()
		const keep = ^uintptr(0)
		// The system call itself, unlike syscall.Setresuid, changes this thread alone.
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, keep, other, keep); errno != 0 {
			t.Error(errno)
			return
		}
		f()
	}()
	<-done
}

// give changes the owner of a file.
func give(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	if err := os.Lchown(path, other, other); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoriesThatAreNotUsed(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir string)
		want DirError // without Dir
	}{
		{"another user's", func(t *testing.T, dir string) {
			os.Mkdir(dir, 0o700)
			give(t, dir)
		}, DirError{Owner: other}},
		{"open to all", func(t *testing.T, dir string) {
			os.Mkdir(dir, 0o700)
			os.Chmod(dir, 0o777)
		}, DirError{Owner: -1, Mode: os.ModeDir | 0o777}},
		{"open to a group", func(t *testing.T, dir string) {
			os.Mkdir(dir, 0o700)
			os.Chmod(dir, 0o750)
		}, DirError{Owner: -1, Mode: os.ModeDir | 0o750}},
		{"another user's link to a directory of ours", func(t *testing.T, dir string) {
			os.Symlink(t.TempDir(), dir)
			give(t, dir)
		}, DirError{Owner: other}},
		{"our link to another user's directory", func(t *testing.T, dir string) {
			to := t.TempDir()
			os.Chmod(to, 0o700)
			give(t, to)
			os.Symlink(to, dir)
		}, DirError{Owner: other}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "sallyport")
			test.make(t, dir)
			test.want.Dir = dir
			l, err := net.Listen("unix", filepath.Join(dir, "1-X.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			paths, err := List(dir)
			if e, ok := errors.AsType[*DirError](err); len(paths) > 0 || !ok || *e != test.want {
				t.Errorf("List: got %q, %v, want %v", paths, err, &test.want)
			}
			own, err := Listen(filepath.Join(dir, "2-X.sock"))
			if e, ok := errors.AsType[*DirError](err); !ok || *e != test.want {
				t.Errorf("Listen: got %v, want %v", err, &test.want)
			}
			if own != nil {
				own.Close()
			}
		})
	}
}

// Files that are no sockets of ours are not listed.
func TestListLeavesOthersOut(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	elsewhere := filepath.Join(t.TempDir(), "X.sock")
	for _, path := range []string{filepath.Join(dir, "theirs.sock"), filepath.Join(dir, "ours.sock"), elsewhere} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	give(t, filepath.Join(dir, "theirs.sock"))
	os.Symlink(elsewhere, filepath.Join(dir, "link.sock"))
	os.WriteFile(filepath.Join(dir, "file.sock"), nil, 0o600)
	paths, err := List(dir)
	if len(paths) != 1 || filepath.Base(paths[0]) != "ours.sock" || err != nil {
		t.Errorf("sockets %q, %v", paths, err)
	}
}

// A process of another user that listens on a socket of ours gets nothing.
func TestDialSendsNothingToAnotherUser(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o777)
	os.Chmod(filepath.Dir(dir), 0o777)
	path := filepath.Join(dir, "1-X.sock")
	var l net.Listener
	asOther(t, func() {
		var err error
		if l, err = net.Listen("unix", path); err != nil {
			t.Error(err)
		}
	})
	if l == nil {
		t.FailNow()
	}
	defer l.Close()
	got := make(chan int, 1)
	go func() { // ends with the connection
		conn, err := l.Accept()
		if err != nil {
			return
		}
		n, _ := conn.Read(make([]byte, 100))
		conn.Close()
		got <- n
	}()
	conn, err := Dial(t.Context(), path)
	if e, ok := errors.AsType[*PeerError](err); !ok || *e != (PeerError{UID: other}) || conn != nil || Gone(err) {
		t.Errorf("got %v, want a *PeerError of user %d", err, other)
	}
	if n := <-got; n > 0 {
		t.Errorf("the other user got %d bytes", n)
	}
}

// Another user gets no answer, even if the directory is open. What another user sends is not read.
func TestAcceptIgnoresAnotherUser(t *testing.T) {
	l, path := listenHere(t)
	for dir := filepath.Dir(path); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o777)
	}
	os.Chmod(path, 0o666)
	accepted := make(chan string, 1)
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(conn)
			conn.Write(b)
			conn.Close()
			accepted <- string(b)
		}
	}()
	asOther(t, func() {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.Write([]byte("theirs"))
		conn.(*net.UnixConn).CloseWrite()
		if n, _ := conn.Read(make([]byte, 100)); n > 0 {
			t.Errorf("another user got %d bytes", n)
		}
	})
	if got, err := exchange(t, path, "ours"); got != "ours" || err != nil {
		t.Errorf("we ourselves: %q, %v", got, err)
	}
	if got := <-accepted; got != "ours" {
		t.Errorf("accepted %q, want ours alone", got)
	}
}
