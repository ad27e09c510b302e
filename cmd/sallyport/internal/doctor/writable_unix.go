//go:build unix

package doctor

import (
	"os"

	"golang.org/x/sys/unix"
)

// writable returns why files cannot be made in a directory. It makes none.
func writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}
