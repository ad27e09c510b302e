package doctor

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isInUse reports whether an address could not be bound because another socket has it.
func isInUse(err error) bool {
	return errors.Is(err, windows.WSAEADDRINUSE) || errors.Is(err, windows.WSAEACCES)
}
