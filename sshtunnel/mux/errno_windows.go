package mux

import (
	"strconv"
	"strings"
	"syscall"
)

// errnoPrefix begins the name of an error number of Windows, which is the same on all of its
// versions. No other system knows the name.
const errnoPrefix = "WIN"

// errnoName returns a name for a number; "" for those that package syscall has made up, such as
// that of ECONNREFUSED: another version of Go may have others.
func errnoName(e syscall.Errno) string {
	if e == 0 || e >= syscall.APPLICATION_ERROR {
		return ""
	}
	return errnoPrefix + strconv.FormatUint(uint64(e), 10)
}

// errnoOf returns the number of a name.
func errnoOf(name string) (syscall.Errno, bool) {
	digits, ok := strings.CutPrefix(name, errnoPrefix)
	n, err := strconv.ParseUint(digits, 10, 29)
	return syscall.Errno(n), ok && err == nil && n > 0
}
