//go:build !linux

package hostio

import (
	"os"
	"time"
)

// parentPoll is how often the parent is looked at.
const parentPoll = 5 * time.Second

// OnParentExit calls f when the process that started this one has ended. The returned function ends
// the watch.
func OnParentExit(f func()) (stop func()) {
	parent, done := os.Getppid(), make(chan struct{})
	tick := time.NewTicker(parentPoll)
	go func() { // ends with the parent, or with stop
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				// Windows goes on naming a parent that has ended: there the end of stdin is left.
				if os.Getppid() != parent {
					f()
					return
				}
			}
		}
	}()
	return func() { close(done) }
}
