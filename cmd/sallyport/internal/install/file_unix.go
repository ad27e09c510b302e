//go:build unix

package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// isReadOnly reports whether an error is that of a file system that cannot be written.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// keepOwner gives a file the owner and the group of another one.
func keepOwner(file *os.File, like fs.FileInfo) error {
	stat, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	uid, gid := int(stat.Uid), int(stat.Gid)
	if uid == os.Geteuid() && gid == os.Getegid() {
		return nil
	}
	err := file.Chown(uid, gid)
	if err != nil && uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d and would become yours", like.Name(), uid)
	}
	return nil // another group of ours does no harm
}
