package relay

import (
	"context"
	"sync"
	"time"
)

// latch is a channel that several may close, of which the first one counts. Its methods may be
// called concurrently.
type latch struct {
	// c is closed by close.
	c    chan struct{}
	once sync.Once
	// at is when the latch was closed. It may be read after that.
	at time.Time
}

func newLatch() *latch { return &latch{c: make(chan struct{})} }

func (l *latch) close() {
	l.once.Do(func() {
		l.at = time.Now()
		close(l.c)
	})
}

func (l *latch) isClosed() bool { return isClosed(l.c) }

// within reports whether gate is closed within d. It returns false, too, when ctx has ended.
func within(ctx context.Context, d time.Duration, gate <-chan struct{}) bool {
	pause(ctx, d, gate)
	return isClosed(gate)
}
