package hostkeys

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

const (
	// lockWait is how long we wait for another process of ours that writes known_hosts. It needs
	// the lock for one write only. ssh itself takes no lock, so after that time we write without it
	// as well.
	lockWait = 5 * time.Second
	// lockPause is the time between two tries.
	lockPause = 20 * time.Millisecond
)

// errLocked is the error of lockDir where another process has the lock.
var errLocked = errors.New("another process holds the lock")

// withLock runs f while no other process of ours writes in the directory of file. On systems
// without such a lock, as some network file systems are, f runs without it. The error is that of f,
// or the cause of the context's end.
func withLock(ctx context.Context, file string, f func() error) error {
	timeout := time.NewTimer(lockWait)
	defer timeout.Stop()
	for {
		unlock, err := lockDir(filepath.Dir(file))
		if err == nil {
			defer unlock()
			return f()
		}
		if !errors.Is(err, errLocked) {
			return f()
		}
		select {
		case <-time.After(lockPause):
		case <-timeout.C:
			return f()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
