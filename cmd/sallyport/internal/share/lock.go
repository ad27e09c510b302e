package share

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"sallyport/sshtunnel/netwatch"
)

const (
	// lockPoll is the time between two looks at the lock.
	lockPoll = 20 * time.Millisecond
	// numberAt is where the number stands in the file. Windows lets nobody read the locked byte,
	// which is the first.
	numberAt = 8
)

// errTaken says that the lock was taken away while this process was stopped.
var errTaken = errors.New("another process took the lock away")

// startLock is held by the process that starts a share of one key. It ends with its process.
type startLock struct {
	// path is that of the file. Another file may have taken the name.
	path string
	// held is the lock.
	held *flock.Flock
	// file is the locked file, for the number in it.
	file *os.File
}

// takeLock waits for the lock of a key. From a process that does not let go of it for lockPatience
// it is taken away.
func takeLock(ctx context.Context, dir, key string) (*startLock, error) {
	l := &startLock{path: filepath.Join(dir, key+".lock")}
	var holder os.FileInfo // the file that is waited for
	waited, stop := netwatch.WithRunningTimeout(ctx, lockPatience)
	defer func() { stop() }()
	restart := func() {
		stop()
		waited, stop = netwatch.WithRunningTimeout(ctx, lockPatience)
	}
	for busy := 0; ; {
		if ok, err := l.try(); ok || err != nil {
			return l, err
		}
		if now, err := os.Stat(l.path); err == nil && (holder == nil || !os.SameFile(now, holder)) {
			holder = now
			restart()
		}
		select {
		case <-waited.Done():
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			err := takeAway(l.path, holder)
			if errors.Is(err, errGuarded) {
				busy++ // another one takes it away at this moment, or was stopped when it did
			}
			if err != nil && (!errors.Is(err, errGuarded) || busy > 1) {
				return nil, err
			}
			restart()
		case <-time.After(lockPoll):
		}
	}
}

// try takes the lock if it is free.
func (l *startLock) try() (bool, error) {
	l.held = flock.New(l.path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := l.held.TryLock()
	if err == nil && ok {
		if l.file, err = os.OpenFile(l.path, os.O_RDWR, 0); err == nil && l.isOurs() {
			return true, nil
		}
		// Between the opening and the locking, somebody has taken the name away.
		l.release()
		return false, ignoreMissing(err)
	}
	l.held.Close()
	return false, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// isOurs reports whether the locked file still has its name, and file is that one.
func (l *startLock) isOurs() bool {
	locked, err := l.held.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(l.path)
	if err != nil || !os.SameFile(locked, named) {
		return false
	}
	open, err := l.file.Stat()
	return err == nil && os.SameFile(locked, open)
}

// number returns the number of the next socket, which is larger than that of all others. Whoever
// takes the lock away later gets a larger one. The error is errTaken if that has happened already.
func (l *startLock) number(dir, key string) (string, error) {
	number := nextNumber(readNumber(l.file), newest(dir, key))
	// Without the note, on a disk that is full, the clock and the sockets must do.
	l.file.WriteAt([]byte(number), numberAt)
	if !l.isOurs() {
		return "", errTaken
	}
	return number, nil
}

// readNumber returns the number in the file of a lock, or "".
func readNumber(file *os.File) string {
	text := make([]byte, numberLength)
	n, _ := file.ReadAt(text, numberAt)
	return strings.TrimRight(string(text[:n]), "\x00")
}

// release lets the next process have the lock.
func (l *startLock) release() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	l.held.Close()
}

// errGuarded says that another process takes a lock away.
var errGuarded = errors.New("the process that starts the shared connection does not go on")

// takeAway puts a new file in the place of one that is locked, with the same number in it. It does
// nothing if another process has done so. The error is errGuarded if one is about to.
func takeAway(path string, holder os.FileInfo) error {
	guard := flock.New(path+"-", flock.SetPermissions(0o600))
	ok, err := guard.TryLock()
	if err != nil || !ok {
		return errors.Join(errGuarded, err)
	}
	defer guard.Close()
	now, err := os.Stat(path)
	if err != nil || holder == nil || !os.SameFile(now, holder) {
		return ignoreMissing(err)
	}
	old, err := os.Open(path)
	if err != nil {
		return ignoreMissing(err)
	}
	number := readNumber(old)
	old.Close()
	fresh, err := os.CreateTemp(filepath.Dir(path), ".lock")
	if err != nil {
		return err
	}
	_, err = fresh.WriteAt([]byte(number), numberAt)
	if err := errors.Join(err, fresh.Close(), os.Rename(fresh.Name(), path)); err != nil {
		os.Remove(fresh.Name())
		return err
	}
	return nil
}
