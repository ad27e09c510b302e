package relay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// Messages that are read in part do not wait for each other: one of them goes on, and then the
// next.
func TestBudgetLetsOneGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, each, messages = 10 * freeHold, 8 * freeHold, 20
		b := newBudget(size)
		done := make(chan int, messages)
		most := 0
		for range messages {
			go func() {
				s := &share{budget: b, ctx: t.Context()}
				for n := freeHold; n <= each; n += freeHold / 2 {
					if err := s.hold(n); err != nil {
						t.Error(err)
					}
					b.mu.Lock()
					most = max(most, size-b.left)
					b.mu.Unlock()
				}
				s.hold(0)
				done <- 1
			}()
		}
		for range messages {
			<-done
		}
		if b.left != size || len(b.beyond) != 0 {
			t.Errorf("%d of %d are left, %d go beyond", b.left, size, len(b.beyond))
		}
		if most > size+each {
			t.Errorf("%d bytes were held, want at most %d", most, size+each)
		}
	})
}

// A wait for the budget ends with its context.
func TestBudgetEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(0)
		first := &share{budget: b, ctx: t.Context()}
		if err := first.hold(2 * freeHold); err != nil {
			t.Fatal(err)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		second := &share{budget: b, ctx: ctx}
		if err := second.hold(freeHold); err != nil {
			t.Errorf("a small message waits: %v", err)
		}
		ended := make(chan error)
		go func() { ended <- second.hold(2 * freeHold) }()
		synctest.Wait()
		cancel(gone)
		if err := <-ended; err != gone {
			t.Errorf("got %v", err)
		}
		second.hold(0)
		first.hold(0)
		if b.left != 0 || len(b.beyond) != 0 {
			t.Errorf("%d are left, %d go beyond", b.left, len(b.beyond))
		}
	})
}
