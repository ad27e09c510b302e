package hostio

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
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

// OneProcessor leaves one processor to the proxy, which waits more than it works. With several,
// each switch between goroutines wakes a thread that mostly finds nothing to do: 30 proxies at
// once, direct and at a round trip of 10 ms, do 12 % fewer calls a second and take 29 % more
// processor time (BenchmarkAgainstPeers). It does so from the start on, which waits for servers: 30
// proxies start as fast with one processor each, and so does one that sets up SSH and TLS itself.
//
// The reader in is the proxy's stdin. If it cannot be polled, its blocking read would occupy the
// only processor, so the proxy then keeps all of them. The variable GOMAXPROCS counts more.
func OneProcessor(in io.Reader) {
	file, ok := in.(*os.File)
	polled := ok && file.SetReadDeadline(time.Time{}) == nil
	if polled && os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 {
		runtime.GOMAXPROCS(1)
	}
}

const (
	// heldLeast is how much of the heap the process may hold, garbage and all, before TrimMemory
	// collects. In bytes.
	heldLeast = 3 << 20
	// heldMore is how much more it may hold than after the last time.
	heldMore = 1 << 20
)

// TrimMemory returns a function that returns unused memory to the system, where that is worth it.
// After large answers the proportional set size of a proxy is 72 MiB without it, and 19 MiB with it
// (BenchmarkAgainstPeers). The function may be called concurrently.
//
// A proxy that has done little is not collected: the runtime's books about what it has collected
// are larger than the garbage. They take 13 KiB for each class of size in use, some 1 MiB in all.
// And a process that has been collected once is woken every two minutes, to be collected again.
func TrimMemory() func() {
	var trimming sync.Mutex
	var kept uint64
	return func() {
		trimming.Lock()
		defer trimming.Unlock()
		if held() < max(heldLeast, kept+heldMore) {
			return
		}
		// The relay keeps the memory of large messages in a sync.Pool. The first collection moves
		// the pool's content to its victim cache, and the second one, in FreeOSMemory, frees it.
		runtime.GC()
		debug.FreeOSMemory()
		kept = held()
	}
}

// held is how much of the heap has not been returned to the system, in bytes. It does not ask
// runtime.ReadMemStats, which makes books as a collection does.
func held() (total uint64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	for _, s := range samples {
		total += s.Value.Uint64()
	}
	return total
}
