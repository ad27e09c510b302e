package localsock

import "io/fs"

// owner knows nothing. On Windows the state directory inherits an access list from the user's
// profile.
func owner(fs.FileInfo) (uid int, known bool) { return 0, false }

// isOpen finds no fault, because modes say nothing on Windows.
func isOpen(fs.FileMode) bool { return false }

// isSocket reports whether a file may be one that Listen has made. A regular file stands for the
// pipe.
func isSocket(fi fs.FileInfo) bool { return fi.Mode().IsRegular() }
