//go:build unix

package localsock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// listen makes a Unix socket. It does so under a name that nobody looks for, because between bind
// and listen, which are two system calls, connections would be refused as if the process had ended.
func listen(path string) (net.Listener, error) {
	if len(path) >= len(syscall.RawSockaddrUnix{}.Path) { // it ends with a zero byte
		return nil, fmt.Errorf("local socket %s: %w", path, syscall.ENAMETOOLONG)
	}
	sweep(filepath.Dir(path))
	hidden := filepath.Join(filepath.Dir(path), "."+rand.Text()[:hiddenLength])
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer os.Remove(hidden)
	socket.SetUnlinkOnClose(false)
	if err = os.Chmod(hidden, 0o600); err == nil {
		err = publish(hidden, path)
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	return socket, nil
}

const (
	// hiddenLength is that of a hidden name, without its dot.
	hiddenLength = 8
	// hiddenFor is how long a hidden name stays at least. It is needed between two system calls.
	hiddenFor = 24 * time.Hour
)

// sweep removes the hidden sockets of processes that were killed before they could.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if name := entry.Name(); len(name) != 1+hiddenLength || name[0] != '.' || entry.Type() != fs.ModeSocket {
			continue
		}
		if fi, err := entry.Info(); err == nil && time.Since(fi.ModTime()) > hiddenFor {
			os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// publish gives a file another name, unless that is taken.
func publish(hidden, path string) error {
	err := os.Link(hidden, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// Some file systems, and Android, have no links. Renaming would replace what is there.
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "listen", Path: path, Err: fs.ErrExist}
	}
	return os.Rename(hidden, path)
}

// retryDial is how long dial waits before it tries a full queue again.
const retryDial = 5 * time.Millisecond

// dial connects to a Unix socket. On Linux, connect(2) of a socket that does not block fails with
// EAGAIN if the queue is full.
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(retryDial):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Gone reports whether an error of Dial says that no process listens on the socket.
func Gone(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// CheckPeer returns a *PeerError if the process at the other end of a connection is another user's:
// the one that connected, or that listened first.
func CheckPeer(conn net.Conn) error {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("local socket: no Unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return err
	}
	var uid int
	var known bool
	var peerErr error
	if err := raw.Control(func(fd uintptr) { uid, known, peerErr = peerOf(int(fd)) }); err != nil {
		return err
	}
	if peerErr != nil {
		return fmt.Errorf("local socket: whose the other end is: %w", peerErr)
	}
	if known && uid != os.Geteuid() {
		return &PeerError{UID: uid}
	}
	return nil
}

// File returns a copy of the socket for a child process, as one of exec.Cmd's ExtraFiles. Windows
// cannot do that. The caller must close it.
func (l *Listener) File() (*os.File, error) {
	return l.socket.(*net.UnixListener).File()
}

// FromFile makes a listener of a socket that another process has handed over, and closes the file.
// The path is that of Listen in the other process. The caller must Close the listener, or Leave it.
func FromFile(f *os.File, path string) (*Listener, error) {
	defer f.Close() // net.FileListener has a copy
	socket, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	if _, ok := socket.(*net.UnixListener); !ok {
		socket.Close()
		return nil, errors.New("local socket: no Unix socket was handed over")
	}
	return &Listener{socket: socket, path: path}, nil
}
