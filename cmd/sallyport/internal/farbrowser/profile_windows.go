package farbrowser

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// isOpen reports whether a browser has a profile open. Both families then hold a file that nobody
// else can open.
func isOpen(dir string, firefox bool) bool {
	name := "lockfile"
	if firefox {
		name = "parent.lock"
	}
	path, err := windows.UTF16PtrFromString(filepath.Join(dir, name))
	if err != nil {
		return false
	}
	file, err := windows.CreateFile(path, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err == nil {
		windows.CloseHandle(file)
	}
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION)
}

// askToClose reports false: Windows has no signal that closes a browser's windows. The next login
// uses another profile then.
func askToClose(string, bool) bool { return false }
