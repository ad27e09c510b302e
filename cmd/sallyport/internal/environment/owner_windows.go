package environment

import "io/fs"

// isOurs is never asked on Windows, which has no session bus.
func isOurs(fs.FileInfo) bool { return false }
