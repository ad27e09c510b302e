//go:build !linux

package hostio

import (
	"os"
	"time"
)

// parentInterval is the time between two looks at the parent.
const parentInterval = 5 * time.Second

// OnParentExit calls f when the parent process has ended. The caller must call stop, after which f
// is not called any more. On Windows it does nothing: the system goes on naming a parent that has
// ended. The end of stdin then has to do.
func OnParentExit(f func()) (stop func()) {
	parent, done := os.Getppid(), make(chan struct{})
	tick := time.NewTicker(parentInterval)
	go func() { // ends with the parent, or with stop
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if os.Getppid() != parent {
					f()
					return
				}
			}
		}
	}()
	return func() { close(done) }
}
