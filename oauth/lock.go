package oauth

import (
	"context"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const lockRetry = 20 * time.Millisecond

// lock takes the lock of name among all processes, waiting as long as ctx. A lock that
// cannot be had for another reason is warned about and done without.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if s.dir == "" {
		return func() {}, nil
	}
	l := flock.New(filepath.Join(s.dir, fileName(name)+lockSuffix), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, lockRetry); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.warnOnce(notLocked, err)
	}
	return func() { l.Unlock() }, nil
}

// turn is a lock among all processes that is tried again and again. Where there is none to
// be had (no directory, or one that cannot be locked) it is free.
type turn struct {
	store *Store
	lock  *flock.Flock // nil: always free
}

func (s *Store) turn(name string) turn {
	if s.dir == "" {
		return turn{}
	}
	return turn{s, flock.New(filepath.Join(s.dir, fileName(name)+lockSuffix), flock.SetPermissions(0o600))}
}

// take reports whether the lock is ours now, until leave or the end of the process.
func (k turn) take() bool {
	if k.lock == nil {
		return true
	}
	ours, err := k.lock.TryLock()
	if err != nil {
		k.store.warnOnce(notLocked, err)
	}
	return ours || err != nil
}

func (k turn) leave() {
	if k.lock != nil {
		k.lock.Unlock()
	}
}
