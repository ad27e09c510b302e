package netwatch

import (
	"context"
	"time"
)

// RunningTick is how WithRunningTimeout counts. After a pause of the process or the machine, one
// tick comes for all that were missed.
const RunningTick = 250 * time.Millisecond

// WithRunningTimeout returns a context that ends when this process has run for d, which is at least
// RunningTick. Its cause is then context.DeadlineExceeded. Time in which the machine or the process
// stood still hardly counts: the other side may have stood still as well. The caller must call the
// function that it returns.
func WithRunningTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with ctx
		ticker := time.NewTicker(RunningTick)
		defer ticker.Stop()
		for range max(1, int(d/RunningTick)) {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		cancel(context.DeadlineExceeded)
	}()
	return ctx, func() { cancel(nil) }
}
