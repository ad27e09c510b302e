package oauth

import (
	"errors"
	"syscall"
)

// isAddrInUse reports whether err says that an address is already bound.
func isAddrInUse(err error) bool {
	// Package syscall has no name for it: WSAEADDRINUSE.
	const wsaeaddrinuse = syscall.Errno(10048)
	return errors.Is(err, wsaeaddrinuse)
}
