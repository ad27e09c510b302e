//go:build !windows

package helper

import (
	"os"
	"syscall"
)

// groupOf returns the group of a directory.
func groupOf(dir string) (gid uint32, known bool) {
	fi, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Gid, true
}
