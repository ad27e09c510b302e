package localsock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DirError says that a directory of sockets may be somebody else's. It is not used.
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
		return fmt.Sprintf("%s belongs to user %d, so the sockets there are not used", e.Dir, e.Owner)
	}
	return fmt.Sprintf("%s is open to others (mode %04o), so the sockets there are not used", e.Dir, e.Mode.Perm())
}

// PeerError says that the process at the other end of a socket is another user's. Nothing was sent
// to it, and nothing of it was read.
type PeerError struct {
	// UID is the number of that user. It is -1 on Windows.
	UID int
	// SID is that user's security identifier on Windows. It is empty on other systems.
	SID string
}

// Error names the user.
func (e *PeerError) Error() string {
	if e.SID != "" {
		return "local socket: the other end belongs to user " + e.SID
	}
	return fmt.Sprintf("local socket: the other end belongs to user %d", e.UID)
}

// CheckDir returns a *DirError if others than this user may have made or changed what lies in dir.
// A symbolic link must be ours, too. The error is fs.ErrNotExist if there is no such directory.
func CheckDir(dir string) error {
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

// CheckSocket returns an error if the file at a path is no socket, or not this user's: a
// *SocketOwnerError. A symbolic link must be ours, too. It does not connect.
func CheckSocket(path string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	for _, fi := range []fs.FileInfo{link, fi} {
		if uid, known := owner(fi); known && uid != os.Geteuid() {
			return &SocketOwnerError{Path: path, Owner: uid}
		}
	}
	if !isSocket(fi) {
		return &fs.PathError{Op: "check", Path: path, Err: errors.New("it is no socket")}
	}
	return nil
}

// SocketOwnerError says that a socket, or the link to it, is another user's.
type SocketOwnerError struct {
	// Path is the socket.
	Path string
	// Owner is the number of that user.
	Owner int
}

// Error names the user.
func (e *SocketOwnerError) Error() string {
	return fmt.Sprintf("%s belongs to user %d", e.Path, e.Owner)
}

// List returns the paths of this user's sockets in a directory, sorted by name. A process that was
// killed leaves its socket behind. A directory that is missing has none. The error is a *DirError
// if the directory is not used.
func List(dir string) ([]string, error) {
	if err := CheckDir(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	var paths []string
	entries, err := os.ReadDir(dir)
	for _, entry := range entries { // what was read counts, even after an error
		path := filepath.Join(dir, entry.Name())
		fi, err := os.Lstat(path)
		if err != nil || !isSocket(fi) || filepath.Ext(path) != extension {
			continue
		}
		if uid, known := owner(fi); !known || uid == os.Geteuid() {
			paths = append(paths, path)
		}
	}
	return paths, err
}

// ListAmongOthers returns the paths of this user's sockets in a directory that others may write to,
// such as /tmp. Their names begin with prefix. Nobody else may connect to the private ones. Whoever
// dials one must still look at the user of the process behind it, as Dial does. To the open ones
// others may connect as well. A socket to which nobody may connect is made private.
func ListAmongOthers(dir, prefix string) (private, open []string) {
	matches, _ := filepath.Glob(filepath.Join(dir, prefix+"*"+extension)) // no error but that of the pattern
	for _, path := range matches {
		fi, err := os.Lstat(path)
		if err != nil || !isSocket(fi) {
			continue
		}
		if uid, known := owner(fi); !known || uid != os.Geteuid() {
			continue
		}
		if fi.Mode().Perm()&0o677 == 0 && os.Chmod(path, 0o600) != nil {
			continue
		}
		if isOpen(fi.Mode()) {
			open = append(open, path)
		} else {
			private = append(private, path)
		}
	}
	return private, open
}
