//go:build unix

package refusals

import (
	"errors"
	"os"
	"syscall"
)

// checkOwner returns why others may have written a file or directory.
func checkOwner(fi os.FileInfo) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return errors.New("it is owned by another user")
	}
	if fi.Mode().Perm()&0o022 != 0 {
		return errors.New("others may write it")
	}
	return nil
}
