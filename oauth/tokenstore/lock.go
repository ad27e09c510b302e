package tokenstore

import (
	"context"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lockRetry is the pause between two attempts of Lock.Wait.
const lockRetry = 20 * time.Millisecond

// openLock is the one place where a lock of the kernel's is made. The file at path stays empty, and
// stays when the lock is free.
func openLock(path string) *flock.Flock {
	return flock.New(path, flock.SetPermissions(0o600))
}

// Lock is a lock of one name among all processes that use the store. The kernel frees it when its
// process ends, however that happens.
//
// A store without a directory has no other process to agree with: its locks are always free. A
// directory that cannot be locked is warned about once, and its locks are free too, because a
// program that cannot sign in helps nobody. Lock's methods may not be called concurrently.
type Lock struct {
	store *Store
	// file is nil for a lock that is always free.
	file *flock.Flock
}

// Lock returns the lock of name. It is not taken yet.
func (s *Store) Lock(name string) *Lock {
	if s.dir == "" || s.onlyReads {
		return &Lock{store: s}
	}
	return &Lock{store: s, file: openLock(filepath.Join(s.dir, fileName(name)+lockSuffix))}
}

// Try takes the lock if it is free, and reports whether this process has it now. The caller frees
// it with Unlock.
func (l *Lock) Try() bool {
	if l.file == nil {
		return true
	}
	taken, err := l.file.TryLock()
	if err != nil {
		l.store.warnOnce(notLocked, err)
	}
	return taken || err != nil
}

// Wait takes the lock, and waits for it until ctx ends. The error is the cause of ctx's end. The
// caller frees the lock with Unlock.
func (l *Lock) Wait(ctx context.Context) error {
	if l.file == nil {
		return nil
	}
	if _, err := l.file.TryLockContext(ctx, lockRetry); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.store.warnOnce(notLocked, err)
	}
	return nil
}

// Unlock frees the lock. Freeing a lock that is not taken does nothing.
func (l *Lock) Unlock() {
	if l.file != nil {
		l.file.Unlock()
	}
}
