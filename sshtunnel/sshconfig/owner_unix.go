//go:build unix

package sshconfig

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedSafely tells whether a file belongs to root or to us, and nobody else may write it.
func ownedSafely(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Getuid()) && info.Mode().Perm()&0o022 == 0
}
