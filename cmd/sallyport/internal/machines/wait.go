//go:build linux

package machines

import (
	"testing"
	"time"
)

// Poll waits until ok, asking twenty times a second. It is for what nothing tells of: a file that another
// program writes. what names it in the failure, which comes after Patience.
func Poll(t testing.TB, ok func() bool, what string) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for began := time.Now(); !ok(); {
		if time.Since(began) > Patience {
			t.Fatal("still waiting for " + what)
		}
		<-again.C
	}
}
