//go:build !windows

package hostkeys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir takes the lock of a directory. If another process has it, the error is errLocked. The
// lock is on the directory, because that stays the same when a file in it is replaced, and because
// it needs no lock file.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
