//go:build unix

package localsock

import (
	"io/fs"
	"syscall"
)

// owner returns the number of the user who owns a file, if the system has such numbers.
func owner(fi fs.FileInfo) (uid int, known bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// isOpen reports whether a directory gives others any right.
func isOpen(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 }

// isSocket reports whether a file may be one that Listen has made.
func isSocket(fi fs.FileInfo) bool { return fi.Mode().Type() == fs.ModeSocket }
