package localsock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// bufferSize is how many bytes a pipe holds in each direction. Without a buffer, each write would
// wait for its reader.
const bufferSize = 64 << 10

// currentUser returns the security identifier of the user that this process runs as.
func currentUser() (*windows.SID, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("local socket: who we are: %w", err)
	}
	return user.User.Sid, nil
}

// pipeName returns the name of the pipe that belongs to a path.
func pipeName(path string, user *windows.SID) string {
	hash := sha256.Sum256([]byte(user.String()))
	return `\\.\pipe\sallyport-` + hex.EncodeToString(hash[:8]) + "-" + strings.TrimSuffix(filepath.Base(path), extension)
}

// listen makes a pipe, then the file that stands for it. Both fail if the name is taken.
func listen(path string) (net.Listener, error) {
	user, err := currentUser()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil { // the pipe's own error would be that access is denied
		return nil, &fs.PathError{Op: "listen", Path: path, Err: fs.ErrExist}
	}
	name := pipeName(path, user)
	// The owner is named, because what an administrator makes belongs to all of them otherwise.
	pipe, err := winio.ListenPipe(name, &winio.PipeConfig{
		SecurityDescriptor: fmt.Sprintf("O:%[1]sD:P(A;;GA;;;%[1]s)", user),
		MessageMode:        true, InputBufferSize: bufferSize, OutputBufferSize: bufferSize,
	})
	if err != nil {
		return nil, err
	}
	takeFirstInstance(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		pipe.Close()
		return nil, err
	}
	f.Close()
	return pipeListener{pipe}, nil
}

// pipeListener accepts connections as dial makes them.
type pipeListener struct{ net.Listener }

func (l pipeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return pipeConn{conn}, nil
}

// pipeConn is a pipe that tells of its end as a socket does: with net.ErrClosed.
type pipeConn struct{ net.Conn }

func (c pipeConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, asSocket(err)
}

func (c pipeConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, asSocket(err)
}

// CloseWrite sends the empty message. It waits until the other end has read everything before it.
func (c pipeConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return asSocket(half.CloseWrite())
}

func asSocket(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// takeFirstInstance connects to the instance of a pipe that only keeps its name and accepts
// nothing. On Windows nobody can connect to that one. Wine lets the first client do it, which would
// then wait for ever (seen with Wine 10.0).
func takeFirstInstance(name string) {
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return
	}
	const readWrite = windows.GENERIC_READ | windows.GENERIC_WRITE
	if pipe, err := windows.CreateFile(name16, readWrite, 0, nil, windows.OPEN_EXISTING, 0, 0); err == nil {
		windows.CloseHandle(pipe)
	}
}

// dial connects to a pipe. The server learns nothing of us but our name: it cannot act as us.
func dial(ctx context.Context, path string) (net.Conn, error) {
	user, err := currentUser()
	if err != nil {
		return nil, err
	}
	conn, err := winio.DialPipeContext(ctx, pipeName(path, user))
	if err != nil {
		return nil, err
	}
	return pipeConn{conn}, nil
}

// Gone reports whether an error of Dial says that no process listens on the socket.
func Gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// CheckPeer returns a *PeerError if a pipe is another user's.
func CheckPeer(conn net.Conn) error {
	ours, _ := conn.(pipeConn)
	pipe, ok := ours.Conn.(interface{ Fd() uintptr })
	if !ok {
		return errors.New("local socket: no named pipe")
	}
	user, err := currentUser()
	if err != nil {
		return err
	}
	descriptor, err := windows.GetSecurityInfo(windows.Handle(pipe.Fd()), windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("local socket: whose the pipe is: %w", err)
	}
	owner, _, err := descriptor.Owner()
	if err != nil {
		return fmt.Errorf("local socket: whose the pipe is: %w", err)
	}
	if owner == nil || !owner.Equals(user) {
		return &PeerError{UID: -1, SID: owner.String()}
	}
	return nil
}

// File fails on Windows, where a pipe that listens cannot be handed to a child process.
func (l *Listener) File() (*os.File, error) {
	return nil, fmt.Errorf("local socket: handing one over: %w", errors.ErrUnsupported)
}

// FromFile fails on Windows, as File does. It closes the file.
func FromFile(f *os.File, _ string) (*Listener, error) {
	f.Close()
	return nil, fmt.Errorf("local socket: taking one over: %w", errors.ErrUnsupported)
}
