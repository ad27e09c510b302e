package control

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
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
			paths, refused := Sockets([]string{dir})
			if len(paths) > 0 || len(refused) != 1 {
				t.Fatalf("sockets %q, refused %v", paths, refused)
			}
			if e, ok := errors.AsType[*DirError](refused[0]); !ok || *e != test.want {
				t.Errorf("got %v, want %v", refused[0], &test.want)
			}
			server, err := Serve([]string{dir}, nil)
			if e, ok := errors.AsType[*DirError](err); !ok || *e != test.want {
				t.Errorf("a proxy: got %v, want %v", err, &test.want)
			}
			if server != nil {
				server.Close()
			}
		})
	}
}

// A proxy takes the next directory.
func TestServeInTheNextDirectory(t *testing.T) {
	foreign, own := filepath.Join(t.TempDir(), "sallyport"), filepath.Join(t.TempDir(), "run")
	os.Mkdir(foreign, 0o700)
	give(t, foreign)
	server, err := Serve([]string{foreign, own}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if paths, _ := Sockets([]string{foreign, own}); len(paths) != 1 || filepath.Dir(paths[0]) != own {
		t.Errorf("sockets %q, want one in %s", paths, own)
	}
}

// Files that are no sockets of ours are not asked.
func TestSocketsOfOthersAreLeftOut(t *testing.T) {
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
	paths, refused := Sockets([]string{dir})
	if len(paths) != 1 || filepath.Base(paths[0]) != "ours.sock" || len(refused) > 0 {
		t.Errorf("sockets %q, refused %v", paths, refused)
	}
}

// A socket of ours on which another user's process listens gets no request.
func TestAskSendsNothingToAnotherUser(t *testing.T) {
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
	_, err := Ask(t.Context(), path)
	if e, ok := errors.AsType[*PeerError](err); !ok || e.UID != other {
		t.Errorf("got %v, want a *PeerError of user %d", err, other)
	}
	if n := <-got; n > 0 {
		t.Errorf("the other user got %d bytes", n)
	}
	l.Close()
}

// A proxy neither reads nor answers what another user sends, even if its directory is open.
func TestServeIgnoresAnotherUser(t *testing.T) {
	_, _, path := serve(t)
	for dir := filepath.Dir(path); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o777)
	}
	os.Chmod(path, 0o666)
	asOther(t, func() {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.Write([]byte("GET /v1/status HTTP/1.1\r\nHost: control\r\n\r\n"))
		if n, _ := conn.Read(make([]byte, 100)); n > 0 {
			t.Errorf("another user got %d bytes", n)
		}
	})
	if _, err := Ask(t.Context(), path); err != nil {
		t.Errorf("we ourselves: %v", err)
	}
}

// Sockets that answer only when all are asked show that none waits for another.
func TestAskAllAsksAtTheSameTime(t *testing.T) {
	const count = 40
	dir := t.TempDir()
	var all sync.WaitGroup
	all.Add(count)
	var paths []string
	for i := range count {
		path := filepath.Join(dir, string(rune('A'+i))+".sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			all.Done()
			all.Wait()
			w.Write([]byte(`{"pid":7}`))
		})}
		go server.Serve(l) // ends with Close
		defer server.Close()
		paths = append(paths, path)
	}
	for i, a := range AskAll(t.Context(), paths) {
		if a.Err != nil || a.Status.PID != 7 || a.Path != paths[i] {
			t.Errorf("%s: %+v, %v", a.Path, a.Status, a.Err)
		}
	}
}
