package hostkeys

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/windows"
)

// lockDir takes the lock of a directory. If another process has it, the error is errLocked. Windows
// cannot lock a directory, so a mutex of the login session stands for it.
func lockDir(dir string) (unlock func(), err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.ToLower(dir)))
	name, err := windows.UTF16PtrFromString(`Local\sallyport-known-hosts-` + hex.EncodeToString(sum[:16]))
	if err != nil {
		return nil, err
	}
	mutex, err := windows.CreateMutex(nil, false, name)
	if mutex == 0 { // for a mutex that exists already there is an error as well
		return nil, err
	}
	runtime.LockOSThread() // a mutex belongs to a thread
	event, err := windows.WaitForSingleObject(mutex, 0)
	if event != windows.WAIT_OBJECT_0 && event != windows.WAIT_ABANDONED {
		runtime.UnlockOSThread()
		windows.CloseHandle(mutex)
		if err == nil {
			err = errLocked
		}
		return nil, err
	}
	return func() {
		windows.ReleaseMutex(mutex)
		runtime.UnlockOSThread()
		windows.CloseHandle(mutex)
	}, nil
}
