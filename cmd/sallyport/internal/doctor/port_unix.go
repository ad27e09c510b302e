//go:build unix

package doctor

import (
	"errors"
	"syscall"
)

// isInUse reports whether an address could not be bound because another socket has it.
func isInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }
