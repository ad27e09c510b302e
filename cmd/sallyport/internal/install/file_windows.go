package install

import (
	"io/fs"
	"os"
)

// isReadOnly returns false: Windows has no error of its own for that.
func isReadOnly(error) bool { return false }

// keepOwner does nothing: on Windows a new file inherits its access from the directory.
func keepOwner(*os.File, fs.FileInfo) error { return nil }
