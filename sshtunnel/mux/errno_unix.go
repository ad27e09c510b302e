//go:build unix

package mux

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxErrno is above all numbers of all systems.
const maxErrno = 1 << 12

// errnoName returns the name of a number, such as ECONNREFUSED; "" if it has none.
func errnoName(e syscall.Errno) string { return unix.ErrnoName(e) }

// errnoOf returns the number that a name has on this system.
func errnoOf(name string) (syscall.Errno, bool) {
	e, ok := errnoNumbers()[name]
	return e, ok
}

var errnoNumbers = sync.OnceValue(func() map[string]syscall.Errno {
	numbers := map[string]syscall.Errno{}
	for e := syscall.Errno(1); e < maxErrno; e++ {
		if name := unix.ErrnoName(e); name != "" {
			numbers[name] = e
		}
	}
	return numbers
})
