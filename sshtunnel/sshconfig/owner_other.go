//go:build !unix

package sshconfig

import "io/fs"

// ownedSafely always agrees, because the access lists of such systems are not read.
func ownedSafely(fs.FileInfo) bool { return true }
