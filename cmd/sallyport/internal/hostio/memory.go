package hostio

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// memoryLimit is the memory above which collections come more often, in bytes.
const memoryLimit = 128 << 20

// LimitMemory bounds the memory of the process as far as the runtime can. Without it 64 results of
// 8 MiB, 32 in flight through SSH at a round trip of 10 ms, take 630 MiB where they take 280 MiB
// with it, for 1.24 times the throughput (BenchmarkAgainstPeers). The variable GOMEMLIMIT counts
// more.
func LimitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// shareGrowth is how much the heap of a shared connection grows from one collection to the next, in
// percent of what is in use. With little in use, that is 16 MiB.
const shareGrowth = 400

// CollectLess makes collections rarer, for the process of a shared connection. It keeps little, but
// x/crypto allocates each packet anew, and with the usual 4 MiB between two collections a GiB costs
// 256 of them. Without it, bulk down is 0.72 to 0.80 of `ssh -L`, and 0.87 to 0.94 with it, for two
// thirds of the processor time (BenchmarkShared). The variable GOGC counts more.
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(shareGrowth)
	}
}

// TrimMemory returns a function that makes a proxy small after its start, or after it has carried
// something large. The reader in is the proxy's stdin.
//
// The function leaves one processor to the proxy, which waits more than it works. With several,
// each switch between goroutines wakes a thread that mostly finds nothing to do. Without it 30
// proxies at once, direct and at a round trip of 10 ms, do 12 % fewer calls a second and take 29 %
// more processor time (BenchmarkAgainstPeers). The start keeps all processors for the key exchanges
// of SSH and TLS. If stdin cannot be polled, its blocking read would occupy the only processor, so
// the proxy then keeps all of them.
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

// freeMemory returns unused memory to the system. Without it the proportional set size of a proxy
// is 18.9 MiB when idle, where it is 16.1 MiB with it, and 72 MiB after large answers, where it is
// 19 MiB (BenchmarkAgainstPeers).
//
// The relay keeps the memory of large messages in a sync.Pool. The first collection moves the
// pool's content to its victim cache, and the second one, in FreeOSMemory, frees it.
func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}
