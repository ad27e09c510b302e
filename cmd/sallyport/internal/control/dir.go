package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// DirError says that a directory of control sockets may be somebody else's. It is not used.
type DirError struct {
	// Dir is the directory.
	Dir string
	// Owner is the number of the user who owns it. It is -1 if it is ours.
	Owner int
	// Mode is what others may do there, if it is ours.
	Mode fs.FileMode
}

// Error says whose the directory is, or how open.
func (e *DirError) Error() string {
	if e.Owner >= 0 {
		return fmt.Sprintf("%s belongs to user %d, so the control sockets there are not used", e.Dir, e.Owner)
	}
	return fmt.Sprintf("%s is open to others (mode %04o), so the control sockets there are not used", e.Dir, e.Mode.Perm())
}

// PeerError says that the process at the other end of a control socket is another user's. Nothing
// was sent to it, and nothing of it was read.
type PeerError struct {
	// UID is the number of that user.
	UID int
}

// Error names the user.
func (e *PeerError) Error() string {
	return fmt.Sprintf("control: the other end belongs to user %d", e.UID)
}

// checkDir returns a *DirError if others than we may have made or changed what lies in dir. A
// symbolic link must be ours, too. The error is fs.ErrNotExist if there is no such directory.
func checkDir(dir string) error {
	for _, stat := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
		fi, err := stat(dir)
		if err != nil {
			return err
		}
		if uid, known := owner(fi); known && uid != os.Geteuid() {
			return &DirError{Dir: dir, Owner: uid}
		}
		if mode := fi.Mode(); mode.IsDir() && isOpen(mode) {
			return &DirError{Dir: dir, Owner: -1, Mode: mode}
		}
	}
	return nil
}

// Sockets returns the paths of the control sockets of this user in dirs. A proxy may have left one
// behind. Directories that are not ours are left out, and each is a *DirError in refused.
func Sockets(dirs []string) (paths []string, refused []error) {
	for _, dir := range dirs {
		if err := checkDir(dir); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				refused = append(refused, err)
			}
			continue
		}
		entries, _ := os.ReadDir(dir) // what was read counts
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			fi, err := os.Lstat(path)
			if err != nil || fi.Mode().Type() != fs.ModeSocket || filepath.Ext(path) != ".sock" {
				continue
			}
			if uid, known := owner(fi); !known || uid == os.Geteuid() {
				paths = append(paths, path)
			}
		}
	}
	return paths, refused
}

// checkPeer returns a *PeerError if the process at the other end of a Unix socket is another
// user's.
func checkPeer(conn net.Conn) error {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("control: no Unix socket")
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
		return fmt.Errorf("control: whose the other end is: %w", peerErr)
	}
	if known && uid != os.Geteuid() {
		return &PeerError{UID: uid}
	}
	return nil
}

// ownListener accepts connections of processes of this user alone. It closes all others before it
// reads a byte.
type ownListener struct{ net.Listener }

// Accept implements net.Listener.
func (l ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || checkPeer(conn) == nil {
			return conn, err
		}
		conn.Close()
	}
}
