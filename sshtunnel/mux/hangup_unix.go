//go:build unix

package mux

import (
	"errors"

	"golang.org/x/sys/unix"
)

// tellsHangup says that hungUp works here.
const tellsHangup = true

// hungUp reports whether nothing can be sent over a socket any more. To send nothing fails then,
// and does nothing else. poll(2) would tell as well, but Darwin reports a hang-up already if the
// other side has only ended one direction.
func hungUp(fd uintptr) bool {
	err := unix.Send(int(fd), nil, unix.MSG_DONTWAIT|noSignal)
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNRESET)
}
