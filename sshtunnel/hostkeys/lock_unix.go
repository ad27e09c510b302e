//go:build !windows

package hostkeys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir takes the lock of a directory, or errLocked. A directory stays what it is when a file in it
// is replaced, and it needs no lock file beside.
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
