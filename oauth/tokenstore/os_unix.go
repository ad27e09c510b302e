//go:build unix

package tokenstore

import (
	"fmt"
	"os"
	"syscall"
)

// checkOwner returns why a file or directory cannot be trusted: it has another owner, or gives
// others one of the forbidden rights.
func checkOwner(path string, fi os.FileInfo, forbidden os.FileMode) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is owned by user %d, not by us", path, st.Uid)
	}
	if mode := fi.Mode().Perm(); mode&forbidden != 0 {
		return fmt.Errorf("%s is open to others (mode %04o, want %04o)", path, mode, mode&^forbidden)
	}
	return nil
}

// openNoFollow opens path for reading, unless it is a symbolic link. A named pipe does not block
// it.
func openNoFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// syncDir makes a rename in dir last through a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
