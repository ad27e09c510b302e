//go:build !windows

package subprocess

import (
	"os"
	"syscall"
)

// OwnSocket reports whether there is a socket at path that belongs to the user of this process. A
// symbolic link is none: another user may have put it there.
func OwnSocket(path string) bool {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != os.ModeSocket {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
