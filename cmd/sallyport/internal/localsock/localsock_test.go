package localsock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// serveVariable names the socket on which this program serves one connection instead of testing. It
// gets the socket as file 3 if inherits says so.
const serveVariable, inheritsVariable = "LOCALSOCK_TEST_SERVE", "LOCALSOCK_TEST_INHERITS"

func TestMain(m *testing.M) {
	if path := os.Getenv(serveVariable); path != "" {
		if err := serveOnce(path, os.Getenv(inheritsVariable) != ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveOnce tells one connection how this process runs.
func serveOnce(path string, inherits bool) error {
	var l *Listener
	var err error
	if inherits {
		l, err = FromFile(os.NewFile(3, ""), path)
	} else {
		l, err = Listen(path)
	}
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("ready")
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, howDetached()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn) // until the other end has read it
	return err
}

// startServing starts this program again, and returns what it prints.
func startServing(t *testing.T, path string, inherited *os.File) *bufio.Scanner {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serveVariable+"="+path)
	cmd.Stdout = w
	if inherited != nil {
		cmd.Env = append(cmd.Env, inheritsVariable+"=yes")
		cmd.ExtraFiles = []*os.File{inherited}
	}
	err = StartDetached(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.Close()
	})
	return bufio.NewScanner(r)
}

// listenHere makes a socket in a directory of its own.
func listenHere(t *testing.T) (*Listener, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made", fmt.Sprintf("%d-%s.sock", os.Getpid(), strings.ToLower(filepath.Base(t.Name()))))
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

// exchange sends a text and returns the answer, each up to its end.
func exchange(t *testing.T, path, text string) (string, error) {
	t.Helper()
	conn, err := Dial(t.Context(), path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	return string(b), err
}

// echo answers each connection with what it sent, once that has ended.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the connection
			defer conn.Close()
			b, _ := io.ReadAll(conn)
			conn.Write(b)
		}()
	}
}

func TestBothDirectionsEndOnTheirOwn(t *testing.T) {
	l, path := listenHere(t)
	go echo(l) // ends with the listener
	text := strings.Repeat("0123456789abcdef", 1<<16)
	if got, err := exchange(t, path, text); got != text || err != nil {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(text))
	}
}

func TestFiftyAtOnce(t *testing.T) {
	l, path := listenHere(t)
	go echo(l) // ends with the listener
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			want := fmt.Sprint(i)
			if got, err := exchange(t, path, want); got != want || err != nil {
				t.Errorf("%d: %q, %v", i, got, err)
			}
		})
	}
	all.Wait()
}

// connect returns both ends of a connection.
func connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, path := listenHere(t)
	accepted := make(chan net.Conn)
	go func() { // ends with the listener
		conn, _ := l.Accept()
		accepted <- conn
	}()
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server = <-accepted; server == nil {
		t.Fatal("nothing accepted")
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

func TestDeadlines(t *testing.T) {
	conn, theirs := connect(t)
	for _, c := range []net.Conn{conn, theirs} {
		c.SetReadDeadline(time.Now().Add(-time.Second))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("got %v, want a time-out", err)
		}
		c.SetReadDeadline(time.Time{})
	}
	io.WriteString(theirs, "x")
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("without a deadline: %d bytes, %v", n, err)
	}
}

// A read ends when the connection is closed at either end.
func TestCloseEndsARead(t *testing.T) {
	for _, closeOurs := range []bool{true, false} {
		t.Run(fmt.Sprint(closeOurs), func(t *testing.T) {
			conn, theirs := connect(t)
			var reading sync.WaitGroup
			reading.Go(func() {
				want := io.EOF
				if closeOurs {
					want = net.ErrClosed
				}
				if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
					t.Errorf("%d bytes, %v, want %v", n, err, want)
				}
			})
			if closeOurs {
				conn.Close()
			} else {
				theirs.Close()
			}
			reading.Wait()
		})
	}
}

func TestATakenNameIsLeftAlone(t *testing.T) {
	first, path := listenHere(t)
	go echo(first) // ends with the listener
	if second, err := Listen(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, %v, want fs.ErrExist", second, err)
	}
	if got, err := exchange(t, path, "x"); got != "x" || err != nil {
		t.Errorf("the first one: %q, %v", got, err)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestCloseRemovesTheName(t *testing.T) {
	l, path := listenHere(t)
	if got, err := List(filepath.Dir(path)); !slices.Equal(got, []string{path}) || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, path)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if got, err := List(filepath.Dir(path)); len(got) > 0 || err != nil {
		t.Errorf("after Close: %q, %v", got, err)
	}
	if conn, err := Dial(t.Context(), path); !Gone(err) {
		t.Errorf("got %v, %v, want one that is gone", conn, err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

// What a process that was killed leaves behind is listed, and told from one that is silent.
func TestALeftSocketIsGone(t *testing.T) {
	l, path := listenHere(t)
	l.Leave()
	l.Close() // does nothing more
	if got, err := List(filepath.Dir(path)); !slices.Equal(got, []string{path}) || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, path)
	}
	if conn, err := Dial(t.Context(), path); !Gone(err) {
		t.Errorf("got %v, %v, want one that is gone", conn, err)
	}
	if l, err := Listen(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, %v, want fs.ErrExist", l, err)
	}
}

func TestADirectoryThatIsMissingHasNoSockets(t *testing.T) {
	if got, err := List(filepath.Join(t.TempDir(), "missing")); len(got) > 0 || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// A name that can be seen never says that nobody listens.
func TestANameAppearsWhenItListens(t *testing.T) {
	const count = 300
	dir := filepath.Join(t.TempDir(), "made")
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	seen := map[string]bool{}
	looking.Go(func() {
		for ctx.Err() == nil || len(seen) < count {
			paths, err := List(dir)
			if err != nil {
				t.Error(err)
				return
			}
			for _, path := range paths {
				if seen[path] {
					continue
				}
				seen[path] = true
				conn, err := Dial(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		}
	})
	var all []*Listener
	for i := range count {
		l, err := Listen(filepath.Join(dir, fmt.Sprintf("%d-appears-%d.sock", os.Getpid(), i)))
		if err != nil {
			t.Error(err)
			break
		}
		all = append(all, l)
		go echo(l) // ends with the listener
	}
	cancel()
	if len(all) == count {
		looking.Wait()
	}
	for _, l := range all {
		l.Close()
	}
}

// A process that runs detached makes the socket itself.
func TestDetachedListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", fmt.Sprintf("%d-detached.sock", os.Getpid()))
	out := startServing(t, path, nil)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("got %q, %v, want ready", out.Text(), out.Err())
	}
	if got, err := exchange(t, path, ""); got != detached || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, detached)
	}
	if out.Scan() {
		t.Errorf("it says %q", out.Text())
	}
	if paths, _ := List(filepath.Dir(path)); len(paths) > 0 {
		t.Errorf("it left %q", paths)
	}
}
