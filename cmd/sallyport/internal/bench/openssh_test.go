//go:build linux

package bench_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// echoCount is how many small requests a round makes on loopback; with a round trip it is echoFar.
const echoCount, echoFar = 3000, 64

// row is a line of the table against OpenSSH.
type row struct {
	what, against string
	// target is what the ratio must reach; "floor" says that nobody has this workload: the row
	// shows what is left when the network costs nothing.
	target string
	// theirs and ours take the times of a round, one after the other.
	theirs, ours func(testing.TB) time.Duration
	// both takes the two times by turns; it stands instead of theirs and ours.
	both func(testing.TB) (theirs, ours time.Duration)
	// bytes is how many each side moves; 0 if the time is what counts.
	bytes int64
}

// BenchmarkAgainstOpenSSH prints one table: sallyport against the real ssh, both through the same
// real sshd, on loopback (the floor) and with round trips of 10 and 50 ms. A round of bulk moves
// SALLYPORT_BENCH_BYTES (1 GiB) on loopback, and a sixteenth of that over a distance.
// SALLYPORT_BENCH_ROUNDS is the number of rounds (5). SALLYPORT_BENCH_ONLY takes the rows that have
// this text in their name: "start", "echo", "bulk", "idle tunnel", "50 ms". It needs root, for
// network namespaces.
func BenchmarkAgainstOpenSSH(b *testing.B) {
	machines.NeedProgram(b, "ssh", "openssh-client")
	count := rounds(b, 5)
	bytes := machines.Setting(b, "SALLYPORT_BENCH_BYTES", 1<<30)
	loopback := newSiteAt(b, 0)
	office := newSiteAt(b, 10*time.Millisecond)
	abroad := newSiteAt(b, 50*time.Millisecond)

	var rows []row
	rows = append(rows, startRows("loopback", loopback, "≤ 0.50", "≤ 0.50", "≤ 0.50")...)
	rows = append(rows, startRows("10 ms", office, "≤ 0.65", "≤ 0.65", "≤ 0.65")...)
	rows = append(rows, startRows("50 ms", abroad, "≤ 0.85", "≤ 0.85", "≤ 0.85")...)
	rows = append(rows, echoRow("loopback", loopback, echoCount, "floor"), echoRow("10 ms", office, echoFar, "≤ 1.05"))
	for _, c := range []struct {
		op   byte
		what string
	}{{opSink, "up"}, {opSource, "down"}} {
		rows = append(rows,
			bulkRow("loopback", loopback, c.op, c.what, bytes, "floor"),
			bulkRow("10 ms", office, c.op, c.what, bytes/16, "≥ 0.95"),
			bulkRow("50 ms", abroad, c.op, c.what, bytes/16, "≥ 0.95"),
			streamsRow(abroad, c.op, c.what, bytes/16))
	}
	fmt.Println(table(b, rows, count, loopback))
	finish(b)
}

// startRows are those of the first byte that arrives, through one hop, two and three.
func startRows(place string, s *site, targets ...string) []row {
	var rows []row
	for i, target := range targets {
		hops, against := i+1, "ssh -W"
		if i > 0 {
			against = "ssh -J"
		}
		rows = append(rows, row{
			what: fmt.Sprintf("process start to first upstream byte, hops: %d, %s", hops, place), against: against, target: target,
			theirs: func(t testing.TB) time.Duration { return s.startSSH(t, hops) },
			ours:   func(t testing.TB) time.Duration { return s.startSallyport(t, hops, alone) },
		})
	}
	return rows
}

func echoRow(place string, s *site, count int64, target string) row {
	return row{
		what: fmt.Sprintf("%d B echo, p50, 1 hop, %s", echoSize, place), against: "ssh -L", target: target,
		both: func(t testing.TB) (theirs, ours time.Duration) {
			return s.both(t, load{Op: opEcho, Count: count})
		},
	}
}

// bulkRow is one of one stream. On loopback, where the processors are the limit, the two take
// turns.
func bulkRow(place string, s *site, op byte, what string, bytes int64, target string) row {
	l := load{Op: op, Count: bytes}
	r := row{
		what:    fmt.Sprintf("bulk %s, %s, one stream, aes128-gcm, %s", what, byteSize(bytes), place),
		against: "ssh -L", target: target, bytes: bytes,
	}
	if place == "loopback" {
		r.both = func(t testing.TB) (theirs, ours time.Duration) { return s.both(t, l) }
	} else {
		r.theirs = func(t testing.TB) time.Duration { return s.throughSSH(t, l) }
		r.ours = func(t testing.TB) time.Duration { return s.throughTunnel(t, l) }
	}
	return r
}

// streamsRow shows that several streams of one connection do not share the window of one.
func streamsRow(s *site, op byte, what string, bytes int64) row {
	return row{
		what:    fmt.Sprintf("bulk %s, %s a stream, four streams of one connection, 50 ms", what, byteSize(bytes)),
		against: "ours, one stream", target: "≥ 2.00", bytes: bytes,
		theirs: func(t testing.TB) time.Duration { return s.throughTunnel(t, load{Op: op, Count: bytes}) },
		ours: func(t testing.TB) time.Duration {
			return s.throughTunnel(t, load{Op: op, Count: 4 * bytes, Streams: 4}) / 4
		},
	}
}

// table measures the rows that are wanted and writes them.
func table(b *testing.B, rows []row, rounds int, loopback *site) string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n| what | against | theirs | ours | ratio | must reach |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if wanted(r.what) {
			fmt.Fprintln(&text, r.measure(b, rounds))
		}
	}
	if wanted("idle tunnel") {
		kib, goroutines := loopback.idle(b)
		fmt.Fprintf(&text, "| memory per idle tunnel, 1 hop | - | - | %.0f KiB | - | - |\n", kib)
		fmt.Fprintf(&text, "| goroutines per idle tunnel, 1 hop | - | - | %.1f | - | - |\n", goroutines)
	}
	return text.String()
}

// measure returns the row as measured. The ratio is ours to theirs, of times or of throughputs.
func (r *row) measure(t testing.TB, rounds int) string {
	var theirs, ours []time.Duration
	for range rounds {
		var a, b time.Duration
		if r.both != nil {
			a, b = r.both(t)
		} else {
			a, b = r.theirs(t), r.ours(t)
		}
		theirs, ours = append(theirs, a), append(ours, b)
	}
	a, b := median(theirs), median(ours)
	ratio, show := b.Seconds()/a.Seconds(), func(d time.Duration) string { return d.Round(d / 1000).String() }
	if r.bytes > 0 {
		ratio, show = 1/ratio, func(d time.Duration) string {
			return fmt.Sprintf("%.0f MiB/s", float64(r.bytes)/(1<<20)/d.Seconds())
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.2f | %s |", r.what, r.against, show(a), show(b), ratio, r.target)
}
