//go:build linux

package share

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshtest/openssh"
)

// onlyShare returns the one share of the site.
func (s *site) onlyShare() int {
	s.t.Helper()
	openssh.Eventually(s.t, "one share", func() bool { return len(s.sharePIDs()) == 1 })
	return s.sharePIDs()[0]
}

// awaitShares waits until so many shares run.
func (s *site) awaitShares(n int) {
	s.t.Helper()
	openssh.Eventually(s.t, fmt.Sprintf("%d shares", n), func() bool { return len(s.sharePIDs()) == n })
}

// dirShared is the directory of the site's sockets.
func (s *site) dirShared() string { return s.role.Dirs[0] }

// Nobody finds a share by its parent, its terminal or its command line, and it holds no directory.
func TestProcessOfAShare(t *testing.T) {
	s := newSite(t)
	s.startUp(1)[0].echo(t)
	pid := s.onlyShare()
	_, stat, _ := strings.Cut(readText(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	fields := strings.Fields(stat) // state ppid pgrp session tty
	parent, session, terminal := fields[1], fields[3], fields[4]
	if comm := readText("/proc/" + parent + "/cmdline"); strings.Contains(comm, "share.test") {
		t.Errorf("the parent is %s", comm)
	}
	if session != strconv.Itoa(pid) || terminal != "0" {
		t.Errorf("session %s, terminal %s, of process %d", session, terminal, pid)
	}
	if dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); dir != "/" {
		t.Errorf("it runs in %s", dir)
	}
	for fd := range 3 {
		if file, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); fd > 0 && file != os.DevNull {
			t.Errorf("descriptor %d is %s", fd, file)
		}
	}
	if umask := readText(fmt.Sprintf("/proc/%d/status", pid)); !strings.Contains(umask, "Umask:\t0077") {
		t.Errorf("its umask is another: %s", umask)
	}
	if environ := readText(fmt.Sprintf("/proc/%d/environ", pid)); strings.Contains(environ, clientVariable) {
		t.Error("it has variables of its starter")
	}
	paths, _ := Sockets(s.role.Dirs)
	if fi, err := os.Stat(paths[0]); len(paths) != 1 || err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("sockets %v: %v", paths, fi.Mode())
	}
	syscall.Kill(pid, syscall.SIGHUP) // the terminal of its starter has closed
	s.clients[0].echo(t)
	s.checkLogins(1)
}

// A share ends by itself, and by a signal, and leaves no socket.
func TestEndOfAShare(t *testing.T) {
	t.Run("unused", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.role.Settings.Idle = time.Second
		s.startUp(1)[0].end()
		s.awaitShares(0)
	})
	t.Run("too old", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		s.role.Settings.Max = time.Second
		s.startUp(1)
		s.awaitShares(0)
	})
	t.Run("stopped by a command", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		client := s.startUp(1)[0]
		paths, _ := Sockets(s.role.Dirs)
		if shown := Stop(t.Context(), paths); len(shown) != 1 || shown[0].Err != nil {
			t.Errorf("%+v", shown)
		}
		client.echo(t) // by the next one
		s.checkLogins(2)
	})
	for name, signal := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			clients := s.startUp(5)
			clients[1].echo(t)
			first := s.onlyShare()
			syscall.Kill(first, signal)
			openssh.Eventually(t, "its end", func() bool { return syscall.Kill(first, 0) != nil })
			for _, c := range clients {
				c.echo(t)
			}
			if s.onlyShare() == first {
				t.Error("it is the same one")
			}
			s.checkLogins(2)
			openssh.Eventually(t, "one socket", func() bool { // whoever looks removes a stale one
				paths, _ := Sockets(s.role.Dirs)
				AskAll(t.Context(), paths)
				return len(paths) == 1
			})
		})
	}
}

// A share that is stopped is left alone. When it comes back, a newer one has its place.
func TestStoppedShareComesBack(t *testing.T) {
	s := newSite(t)
	clients := s.startUp(3)
	first := s.onlyShare()
	syscall.Kill(first, syscall.SIGSTOP)
	defer syscall.Kill(first, syscall.SIGCONT)
	for _, c := range append(clients, s.startUp(2)...) {
		c.echo(t)
	}
	s.checkLogins(2)
	if paths, _ := Sockets(s.role.Dirs); len(paths) != 2 {
		t.Errorf("the socket of a silent share was removed: %v", paths)
	}
	syscall.Kill(first, syscall.SIGCONT)
	s.awaitShares(1)
	if s.onlyShare() == first {
		t.Error("the newer one has ended")
	}
	for _, c := range clients {
		c.echo(t)
	}
	s.checkLogins(2)
}

// A share whose socket is gone ends, and whoever looks for one starts the next.
func TestSocketIsGone(t *testing.T) {
	s := newSite(t)
	client := s.startUp(1)[0]
	first := s.onlyShare()
	if err := os.RemoveAll(filepath.Dir(s.dirShared())); err != nil {
		t.Fatal(err)
	}
	s.startUp(1)[0].echo(t)
	client.echo(t)
	openssh.Eventually(t, "the end of the first", func() bool { return syscall.Kill(first, 0) != nil })
	client.echo(t)
	s.checkLogins(2)
}

// A newer version of the program takes over, and what goes through the old share goes on. An older
// version uses what is there.
func TestUpgrade(t *testing.T) {
	s := newSite(t)
	old := s.startUp(1)[0]
	first := s.onlyShare()
	fmt.Fprintln(old.stdin, "read line; echo $line") // a stream that is open meanwhile
	s.role.Version = "0.9.0"
	s.startUp(1)[0].echo(t)
	s.checkLogins(1)
	s.role.Version = "v1.1.0-rc.1"
	s.startUp(1)[0].echo(t)
	s.checkLogins(2)
	s.awaitShares(2)
	if line := s.start().line(t); line != "up" { // the same version
		t.Error(line)
	}
	s.checkLogins(2)
	old.end()
	openssh.Eventually(t, "the end of the first", func() bool { return syscall.Kill(first, 0) != nil })
}

// An edit of ssh_config leads to another share.
func TestEditOfTheConfiguration(t *testing.T) {
	s := newSite(t)
	client := s.startUp(1)[0]
	client.echo(t)
	s.configure(" ServerAliveInterval 7\n")
	s.startUp(1)[0].echo(t)
	s.checkLogins(2)
	client.echo(t)
	s.configure("# a comment\n ServerAliveInterval 7\n")
	s.startUp(1)[0].echo(t)
	s.checkLogins(2)
}

// Where no socket can be made, each process connects by itself.
func TestNoPlaceForASocket(t *testing.T) {
	for name, dir := range map[string]string{
		"no directory": "/proc/nowhere", "too long": "/tmp/" + strings.Repeat("x", 100), "a file": "/etc/passwd",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.role.Dirs = []string{filepath.Join(dir, folder)}
			s.startUp(2)[0].echo(t)
			s.checkLogins(2)
			if !strings.Contains(readText(s.shares), "connecting without a shared connection") {
				t.Error("nobody was told")
			}
		})
	}
}

// A directory of another user, or one that is open to others, is not used.
func TestForeignDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	for name, spoil := range map[string]func(dir string) error{
		"another user's":   func(dir string) error { return os.Chown(dir, 60_124, 60_124) },
		"its parent is":    func(dir string) error { return os.Chown(filepath.Dir(dir), 60_124, 60_124) },
		"open to others":   func(dir string) error { return os.Chmod(dir, 0o770) },
		"a link elsewhere": func(dir string) error { return swapForLink(dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run", folder)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			if got, err := makeDir([]string{dir}, strings.Repeat("0", keyLength)); err == nil {
				t.Errorf("%s is used", got)
			} else if name != "a link elsewhere" && !strings.Contains(err.Error(), "not used") {
				t.Error(err)
			}
		})
	}
}

// swapForLink puts a symbolic link of another user in the place of a directory.
func swapForLink(dir string) error {
	if err := os.Remove(dir); err != nil {
		return err
	}
	if err := os.Symlink(os.TempDir(), dir); err != nil {
		return err
	}
	return os.Lchown(dir, 60_124, 60_124)
}

// A socket on which nobody listens is removed, and one that is silent is not.
func TestStaleAndSilent(t *testing.T) {
	dir, key := shortDir(t), strings.Repeat("0", keyLength)
	stale, err := localsock.Listen(socketPath(dir, key, "000000003"))
	if err != nil {
		t.Fatal(err)
	}
	stale.Leave()
	silent, err := localsock.Listen(socketPath(dir, key, "000000002"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	speaks, err := localsock.Listen(socketPath(dir, key, "000000001"))
	if err != nil {
		t.Fatal(err)
	}
	defer speaks.Close()
	go func() { // ends with the listener
		for {
			conn, err := speaks.Accept()
			if err != nil {
				return
			}
			mux.NewConn(conn).WriteLine(mux.Greeting{Mux: mux.Version, Version: "v1.0.0"})
			conn.Close()
		}
	}()
	f := finder{dir: dir, key: key, version: "devel", silent: &sync.Map{}, log: slog.New(slog.DiscardHandler)}
	path, outdated, err := f.look(t.Context())
	if path != socketPath(dir, key, "000000001") || outdated != nil || err != nil {
		t.Errorf("found %q, %v, %v", path, outdated, err)
	}
	paths, err := socketsOf(dir, key)
	if len(paths) != 2 || err != nil {
		t.Errorf("left: %v, %v", paths, err)
	}
	f.version = "v1.0.1"
	if path, outdated, _ := f.look(t.Context()); path != "" || len(outdated) != 1 {
		t.Errorf("a newer version found %q, %v", path, outdated)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.look(ctx); err == nil {
		t.Error("it looks on after the end of the context")
	}
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "share")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A number is larger than those before it, also when the clock goes back or the lock was lost.
func TestNumbers(t *testing.T) {
	dir := shortDir(t)
	first, err := takeLock(t.Context(), dir, "k")
	if err != nil {
		t.Fatal(err)
	}
	one, err := first.number(dir, "k")
	if err != nil {
		t.Fatal(err)
	}
	two, err := first.number(dir, "k")
	if err != nil || two <= one {
		t.Errorf("%s, %s, %v", one, two, err)
	}
	holder, err := os.Stat(first.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := takeAway(first.path, holder); err != nil {
		t.Fatal(err)
	}
	second, err := takeLock(t.Context(), dir, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	three, err := second.number(dir, "k")
	if err != nil || three <= two {
		t.Errorf("%s, %s, %v", two, three, err)
	}
	if number, err := first.number(dir, "k"); err != errTaken {
		t.Errorf("who has lost the lock got %s, %v", number, err)
	}
	first.release()
	if far := "zzzzzzzz0"; nextNumber(far) <= far {
		t.Error("a number is smaller than one of the future")
	}
}

// A starter that gives up while the process starts leaves the socket to it.
func TestStarterGivesUp(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	script := "#!/bin/sh\nhead -c 1 >/dev/null\necho $$ >" + dir + "/pid\nexec sleep 600\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "run", "x.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l := launch{program: program, order: order{Version: orderVersion, Socket: path}}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	go func() { started <- l.start(ctx) }()
	var pid int
	openssh.Eventually(t, "the process", func() bool {
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	defer syscall.Kill(pid, syscall.SIGKILL)
	cancel()
	if err := <-started; err == nil {
		t.Error("start waits no more, and says that the process has the socket")
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the socket is gone:", err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Error("the process is gone:", err)
	}
}
