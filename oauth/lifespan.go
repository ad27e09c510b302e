package oauth

import (
	"context"
	"sync"
)

// lifespan is the time from New to Close. Flights, listeners and prompts run in it, so that none of
// them depends on the request that happened to cause it.
type lifespan struct {
	// ctx ends with Close.
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex // orders start and end
	wg sync.WaitGroup
}

func newLifespan() *lifespan {
	l := new(lifespan)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// start runs f in a goroutine that end waits for. It reports false, and does not run f, if the
// lifespan is over.
func (l *lifespan) start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.wg.Go(f)
	return true
}

// startWithin is start for a caller that itself was started: end still waits for the caller, and f
// may be what cleans up after it, so f always runs.
func (l *lifespan) startWithin(f func()) { l.wg.Go(f) }

// end cancels ctx and waits for every goroutine.
func (l *lifespan) end() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.wg.Wait()
}
