//go:build !windows

package userkeys

import (
	"io/fs"
	"os"
	"syscall"
)

// tooOpen tells whether others may read a private key of ours. As with ssh, the key of another user
// is that user's affair (sshkey_perm_ok).
func tooOpen(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Getuid() && st.Mode().Perm()&0o077 != 0
}
