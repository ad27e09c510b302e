package oauth

import (
	"errors"
	"os"
	"syscall"
)

// private reports why path cannot be read. On Windows the state and configuration
// directories inherit an access list of their own from the user's profile; modes say nothing.
func private(path string) error {
	_, err := os.Lstat(path)
	return err
}

// syncDir does nothing: Windows has no handle to a directory that can be flushed.
func syncDir(string) error { return nil }

func isAddrInUse(err error) bool {
	const wsaeaddrinuse = syscall.Errno(10048)
	return errors.Is(err, wsaeaddrinuse)
}
