//go:build unix

package oauth

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// private reports why path is not ours alone: another owner, or rights of others.
func private(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is owned by user %d, not by us", path, st.Uid)
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link", path)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to others (mode %04o, want %04o)", path, fi.Mode().Perm(), fi.Mode().Perm()&0o700)
	}
	return nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func isAddrInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
