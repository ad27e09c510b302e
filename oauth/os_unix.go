//go:build unix

package oauth

import (
	"errors"
	"syscall"
)

// isAddrInUse reports whether err says that an address is already bound.
func isAddrInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
