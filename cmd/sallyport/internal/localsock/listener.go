package localsock

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// extension ends the name of each socket.
const extension = ".sock"

// Listener accepts connections on a socket. Its methods may be called from several goroutines.
type Listener struct {
	// socket accepts the connections, those of other users too.
	socket net.Listener
	// path is the name of the socket, which Close removes.
	path string
	// stop makes Close and Leave run once.
	stop sync.Once
}

// Listen makes a socket at a path that ends in ".sock". It makes the directory if that is missing.
// The name appears at the moment when connections reach the socket. The error is a *DirError if the
// directory is somebody else's, and fs.ErrExist if the name is taken. The caller must Close the
// listener, or Leave it.
func Listen(path string) (*Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	socket, err := listen(path)
	if err != nil {
		return nil, err
	}
	return &Listener{socket: socket, path: path}, nil
}

// Accept waits for a connection of a process of this user. It closes those of other users without
// reading a byte. The connection has a method CloseWrite.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.socket.Accept()
		if err != nil || CheckPeer(conn) == nil {
			return conn, err
		}
		conn.Close()
	}
}

// Addr returns the address of the socket, which may be another name of it than its path.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Path returns the path that Listen was given.
func (l *Listener) Path() string { return l.path }

// Close ends Accept and removes the name. Connections go on.
func (l *Listener) Close() error {
	var err error
	l.stop.Do(func() {
		os.Remove(l.path) // first, so that nobody finds a name on which nobody listens
		err = l.socket.Close()
	})
	return err
}

// Leave ends Accept in this process, and leaves the name to the process that was given File.
func (l *Listener) Leave() error {
	var err error
	l.stop.Do(func() { err = l.socket.Close() })
	return err
}

// Dial connects to the socket at a path, and makes sure that the process at the other end is this
// user's. It sends and reads nothing. A queue that is full is waited for until ctx ends; on Windows
// there is no queue, so Dial waits for Accept. The error is a *PeerError if the process is another
// user's, and Gone tells one of nobody. The connection has a method CloseWrite, and the caller must
// close it.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := CheckPeer(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
