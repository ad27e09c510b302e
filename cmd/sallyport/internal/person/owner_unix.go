//go:build unix

package person

import (
	"io/fs"
	"os"
	"syscall"
)

// isOfThisUser reports whether a file belongs to the user of this process.
func isOfThisUser(fi fs.FileInfo) bool {
	stat, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
