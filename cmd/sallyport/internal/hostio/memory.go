package hostio

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// TuneGC lets the heap grow to five times what is in use, up to a limit. Little is in use mostly,
// but each packet of SSH is new memory, so that bulk would be a tenth to a fifth slower. Hundreds
// of calls with large answers would make that hundreds of MiB. GOGC and GOMEMLIMIT count more.
func TuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(128 << 20)
	}
}

// TrimMemory returns a function that makes a proxy small after it has started, or has carried
// something large. The reader in is the proxy's stdin.
//
// The function leaves one processor to the proxy, which waits more than it works: with several,
// each hand-over between goroutines wakes a thread that mostly finds nothing to do, and a call
// takes longer. One is enough for tens of thousands of calls a second. The start, with its key
// exchanges, has them all. If stdin cannot be polled, its blocking read would occupy the only
// processor, so the proxy keeps all of them.
func TrimMemory(in io.Reader) func() {
	file, ok := in.(*os.File)
	polled := ok && file.SetReadDeadline(time.Time{}) == nil
	return func() {
		if polled && os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 {
			runtime.GOMAXPROCS(1)
		}
		freeMemory()
	}
}

// freeMemory returns unused memory to the system. The relay keeps the memory of large messages in a
// sync.Pool, which is empty after the second collection.
func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}
