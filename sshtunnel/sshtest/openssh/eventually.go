package openssh

import (
	"runtime"
	"testing"
	"time"
)

// Eventually waits for a condition that other goroutines or programs bring about. It fails the test
// after 20 seconds, with the stacks of all goroutines.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			buf := make([]byte, 1<<18)
			t.Fatalf("never happened: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}
