package share

import (
	"context"
	"time"
)

// tick is how a stopwatch counts. After a pause of the process or the machine, one tick comes for
// all that were missed.
const tick = 250 * time.Millisecond

// stopwatch counts the time while this process runs, and so leaves out the time in which the
// machine slept or the process was stopped.
type stopwatch struct {
	limit  int
	resets chan struct{}
	done   chan struct{}
	ended  chan struct{}
}

// newStopwatch returns one that runs. The caller must stop it.
func newStopwatch(limit time.Duration) *stopwatch {
	s := &stopwatch{
		limit: max(1, int(limit/tick)), resets: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}, 1),
	}
	go s.run() // ends with stop
	return s
}

func (s *stopwatch) run() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for count := 0; ; {
		select {
		case <-ticker.C:
			if count++; count == s.limit {
				s.ended <- struct{}{} // has room: restart takes it out
			}
		case <-s.resets:
			count = 0
			select {
			case <-s.ended:
			default:
			}
		case <-s.done:
			return
		}
	}
}

// expired returns a channel that gets one value after the limit.
func (s *stopwatch) expired() <-chan struct{} { return s.ended }

// restart counts from the beginning.
func (s *stopwatch) restart() { s.resets <- struct{}{} }

// stop ends it.
func (s *stopwatch) stop() { close(s.done) }

// awhile returns a context that ends after a time of running. The cause is then
// context.DeadlineExceeded.
func awhile(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	watch := newStopwatch(limit)
	go func() { // ends with ctx
		defer watch.stop()
		select {
		case <-watch.expired():
			cancel(context.DeadlineExceeded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
