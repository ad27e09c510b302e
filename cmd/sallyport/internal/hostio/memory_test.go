package hostio

import (
	"runtime"
	"testing"
)

// Memory is returned after a load, and a process that has done little is not collected.
func TestTrimMemory(t *testing.T) {
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumGC
	}
	trim := TrimMemory()
	load := make([]byte, 16<<20)
	for i := range load {
		load[i] = 1
	}
	before := held()
	runtime.KeepAlive(load)
	load = nil
	trim()
	after := held()
	if after > before-8<<20 {
		t.Errorf("%d KiB are held, %d before", after>>10, before>>10)
	}
	count := collections()
	trim()
	if got := collections(); got != count {
		t.Errorf("%d collections without need", got-count)
	}
}
