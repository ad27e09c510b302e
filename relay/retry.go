package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	retryDefault = time.Second      // the back-off after the first failure
	retryMax     = 30 * time.Second // the longest back-off of our own
)

// errGivenUp ends a retry whose limit is reached.
var errGivenUp = errors.New("given up after too many attempts")

// retry tries something again and again. Between two attempts it waits: first for a back-off, which
// news can cut short, and then until nothing is in the way of the upstream.
type retry struct {
	// delay returns the back-off after so many failures in a row, of which there is at least one.
	// Nil means backoff.
	delay func(failures int) time.Duration
	// news cuts a back-off short when it brings something. The attempt may change it. Nil means
	// that nothing does.
	news <-chan struct{}
	// obstacles tells what is in the way. Nil means that nobody asks, because the attempts
	// themselves remove obstacles.
	obstacles *obstacles
	// limit is how many failures in a row may be followed by another attempt. 0 means any number.
	limit int
}

// verdict is what one attempt of a retry came to.
type verdict int

const (
	// stop means that there is nothing more to try, for better or worse.
	stop verdict = iota
	// failed means another attempt, after a longer back-off than before this one.
	failed
	// progressed means another attempt, after the shortest back-off: this one has brought something
	// before it failed.
	progressed
	// obstructed means another attempt as soon as what is in the way changes. Where nothing is in
	// the way it means stop.
	obstructed
)

// run calls attempt until that returns stop, and then returns nil. The attempt learns whether news
// has cut the wait before it short. The error is the cause of ctx, or errGivenUp.
func (r *retry) run(ctx context.Context, attempt func(cutShort bool) verdict) error {
	delay := r.delay
	if delay == nil {
		delay = backoff
	}
	failures, cutShort := 0, false
	for {
		switch attempt(cutShort) {
		case stop:
			return nil
		case obstructed:
			changed := r.obstacles.change()
			if changed == nil {
				return nil
			}
			if err := wait(ctx, changed); err != nil {
				return err
			}
			continue
		case failed:
			failures++
		case progressed:
			failures = 1
		}
		if r.limit > 0 && failures > r.limit {
			return errGivenUp
		}
		var err error
		if cutShort, err = pause(ctx, delay(failures), r.news); err != nil {
			return err
		}
		if r.obstacles != nil {
			if err := r.obstacles.waitClear(ctx); err != nil {
				return err
			}
		}
	}
}

// backoff is the wait after so many failures: retryDefault, doubled with each failure up to
// retryMax, of which up to a half is left out at random. Otherwise clients that lost a server
// together would all come back at the same moment.
func backoff(failures int) time.Duration {
	d := min(retryMax, retryDefault<<min(max(failures-1, 0), 10))
	return d/2 + rand.N(d/2)
}

// pause waits for d, or until news brings something, which it reports. The error is the cause of
// ctx.
func pause(ctx context.Context, d time.Duration, news <-chan struct{}) (cutShort bool, err error) {
	select {
	case <-time.After(d):
		return false, nil
	case <-news:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// wait waits until gate is closed. A nil gate is open. The error is the cause of ctx.
func wait(ctx context.Context, gate <-chan struct{}) error {
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
