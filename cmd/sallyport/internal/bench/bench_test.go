//go:build linux

// Package bench_test measures the real command against what a person would otherwise use: ssh, and
// the other programs that carry MCP from a host to a server. Real sshd, real TLS, and networks with
// a round trip like that of an office or of another continent. The benchmarks print Markdown
// tables; these are their result.
//
// A figure is the median over rounds in which all contenders take turns, so that other work on the
// machine meets all of them alike. Each benchmark tells the variables by which it runs in pieces.
package bench_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// echoSize is the size in bytes of the small requests to a TCP service behind the bastion.
const echoSize = 512

// wanted reports whether a row or a table of that name is to be measured: SALLYPORT_BENCH_ONLY is
// empty or a part of the name.
func wanted(name string) bool { return strings.Contains(name, os.Getenv("SALLYPORT_BENCH_ONLY")) }

// rounds is how often everything is measured: SALLYPORT_BENCH_ROUNDS, or usual if that is not set.
func rounds(t testing.TB, usual int64) int {
	t.Helper()
	return int(machines.Setting(t, "SALLYPORT_BENCH_ROUNDS", usual))
}

// quantile returns the value below which the part q of the values lies. It sorts them.
func quantile[T float64 | time.Duration](values []T, q float64) T {
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

func median[T float64 | time.Duration](values []T) T { return quantile(values, 0.5) }

func byteSize(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
}

// finish satisfies the benchmark's contract. The table is the result, not the time of this loop.
func finish(b *testing.B) {
	for b.Loop() {
	}
}
