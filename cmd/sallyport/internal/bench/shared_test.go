//go:build linux

package bench_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// side is a column of the table of the shared connection.
type side string

const (
	// realSSH is the real ssh.
	realSSH side = "ssh"
	// alone is sallyport where each process has its own connections.
	alone side = "--share off"
	// shared is sallyport where all processes have one connection for each way.
	shared side = "--share auto"
)

var sides = []side{realSSH, alone, shared}

// reached is what a side reached in one round.
type reached struct {
	figures
	// Logins is the number of SSH logins at the bastion, Connections that of connections to it, and
	// Prompts that of questions that a person had to answer.
	Logins, Connections, Prompts int
	// Restarted is Served of a second fleet, which starts when the first has ended.
	Restarted time.Duration
	// First is the time from the start of a process to its first byte at the upstream.
	First time.Duration
	// Down and Up are the throughputs of bulk, in MiB/s.
	Down, Up float64
}

// trial is one arrangement, from which one row or several take their figures.
type trial struct {
	// run takes the figures of one round, of all sides that there are. It sets up what it needs.
	run func(testing.TB) map[side]reached
	// taken are those of all rounds, once they have been taken.
	taken map[side][]reached
}

// sharedRow is a line of the table.
type sharedRow struct {
	what, unit string
	*trial
	// value is the side's figure over all rounds.
	value func([]reached) float64
	// against is the side that the shared connection is compared with. If it is empty, the value
	// itself has to reach the limit.
	against side
	// limit is what the value, or the ratio, has to reach: at most, or at least.
	limit   float64
	atLeast bool
}

// BenchmarkShared prints one table: many processes that share a connection (--share auto), beside
// those that each have their own (--share off), and beside the real ssh. sshd is real, and the
// upstream speaks TLS. sshd is a daemon as it is installed: from ten connections on that are not
// logged in, it drops some of those that come (sshd_config(5), MaxStartups). A process of the
// fleets has tokens from an earlier start. Nobody has logged in at the bastion for a while, or
// there would be a shared connection. "Restarted" means that all end, and start again at once.
//
// SALLYPORT_BENCH_ROUNDS is the number of rounds (3), SALLYPORT_BENCH_BYTES is what bulk moves
// (1 GiB). SALLYPORT_BENCH_ONLY takes the rows that have this text in their name: "30 at once",
// "two-factor", "warm start", "one call", "calls/s", "bulk", "memory". It needs root, for network
// namespaces.
//
// If the machine does other work, start it by nice(1), and not by chrt(1). With slices of 100 ms
// the processes of a fleet take three times the processor time, because a thread of Go's runtime
// waits in a loop for one that does not run.
func BenchmarkShared(b *testing.B) {
	machines.NeedProgram(b, "ssh", "openssh-client")
	count := rounds(b, 3)
	var text strings.Builder
	fmt.Fprintf(&text, "\n| what | %s | %s | %s | figure | must reach | met |\n|---|---|---|---|---|---|---|\n", realSSH, alone, shared)
	for _, row := range sharedRows(b) {
		if wanted(row.what) {
			row.take(b, count)
			fmt.Fprintln(&text, row)
		}
	}
	fmt.Println(text.String())
	finish(b)
}

// sharedRows are all lines of the table.
func sharedRows(b *testing.B) []sharedRow {
	g := &grounds{t: b, sites: map[string]*sharedSite{}}
	bytes := machines.Setting(b, "SALLYPORT_BENCH_BYTES", 1<<30)
	return slices.Concat(
		fleetsOf(g),
		secondFactors(g),
		warmStarts(g),
		throughRows(g, bytes),
	)
}

// fleetsOf are the rows of many processes that start at once.
func fleetsOf(g *grounds) (rows []sharedRow) {
	const trip = 50 * time.Millisecond
	near := g.fleet(30, 0)
	for _, c := range []struct {
		name  string
		trial *trial
		limit float64
	}{
		{"30 at once, loopback", near, 1},
		{"50 at once, loopback", g.fleet(50, 0), 1},
		{"30 at once, 50 ms", g.fleet(30, trip), 0.5},
		{"50 at once, 50 ms", g.fleet(50, trip), 0.5},
		// A login takes as long here and there, so this shows the time of the processors.
		{"30 at once, 50 ms, no MaxStartups", g.fleet(30, trip, "MaxStartups 1000"), 1},
		{"50 at once, 50 ms, no MaxStartups", g.fleet(50, trip, "MaxStartups 1000"), 1},
	} {
		rows = append(rows,
			sharedRow{what: c.name + ": SSH logins", trial: c.trial, limit: 1, value: most(func(r reached) int { return r.Logins })},
			sharedRow{what: c.name + ": connections to sshd", trial: c.trial, limit: 1, value: most(func(r reached) int { return r.Connections })},
			sharedRow{what: c.name + ": all have answered a call", unit: "ms", trial: c.trial, against: alone, limit: c.limit,
				value: reachedMedian(func(r reached) float64 { return milliseconds(r.Served) })},
			sharedRow{what: c.name + ": the same when all are restarted", unit: "ms", trial: c.trial, against: alone, limit: c.limit,
				value: reachedMedian(func(r reached) float64 { return milliseconds(r.Restarted) })})
	}
	return append(rows,
		sharedRow{what: "30 at once, loopback: memory of one", unit: "MiB", trial: near, limit: 3.5,
			value: reachedMedian(func(r reached) float64 { return r.Idle / 30 })},
		sharedRow{what: "30 at once, loopback: memory of the shared connection", unit: "MiB", trial: near, limit: 20,
			value: reachedMedian(func(r reached) float64 { return r.Share })})
}

// secondFactors are the rows of a bastion that asks the person.
func secondFactors(g *grounds) (rows []sharedRow) {
	for _, f := range []factor{pushFactor, codeFactor} {
		rows = append(rows, sharedRow{
			what: "30 at once, two-factor bastion: prompts, " + f.name, trial: g.twoFactors(30, f), limit: 1,
			value: most(func(r reached) int { return r.Prompts }),
		})
	}
	return rows
}

// warmStarts are the rows of a process that finds a connection.
func warmStarts(g *grounds) (rows []sharedRow) {
	const trip = 50 * time.Millisecond
	first := reachedMedian(func(r reached) float64 { return float64(r.First) / float64(trip) })
	for _, hops := range []int{1, 3} {
		warm := g.warmStart(hops, trip)
		what := fmt.Sprintf("warm start to first upstream byte, hops: %d, 50 ms", hops)
		rows = append(rows,
			sharedRow{what: what, unit: "round trips", trial: warm, value: first, limit: 1.3},
			sharedRow{what: what + ", beside ssh -W with a ControlMaster", unit: "round trips", trial: warm, value: first, against: realSSH, limit: 0.6})
	}
	return rows
}

// throughRows are those of the work of a connection that stands, beside `ssh -L`.
func throughRows(g *grounds, bytes int64) []sharedRow {
	near := g.calls(0, work{Calls: 500, Many: 3000})
	office := g.calls(10*time.Millisecond, work{Calls: 60})
	bulk := g.bulk(bytes)
	call := func(rounds []reached) float64 {
		var all []figures
		for _, r := range rounds {
			all = append(all, r.figures)
		}
		return callQuantile(0.5)(all)
	}
	size := byteSize(bytes)
	return []sharedRow{
		{what: "one call, p50, loopback", unit: "ms", trial: near, value: call, against: realSSH, limit: 1.35},
		{what: "one call, p50, 10 ms", unit: "ms", trial: office, value: call, against: realSSH, limit: 1.03},
		{what: "calls/s, 64 in flight, loopback", trial: near, against: realSSH, limit: 1, atLeast: true,
			value: reachedMedian(func(r reached) float64 { return r.Rate })},
		{what: "bulk down, " + size + ", loopback", unit: "MiB/s", trial: bulk, against: realSSH, limit: 0.85, atLeast: true,
			value: reachedMedian(func(r reached) float64 { return r.Down })},
		{what: "bulk up, " + size + ", loopback", unit: "MiB/s", trial: bulk, against: realSSH, limit: 1, atLeast: true,
			value: reachedMedian(func(r reached) float64 { return r.Up })},
	}
}

// take runs all rounds of the trial, unless another row has had that done.
func (tr *trial) take(t testing.TB, rounds int) {
	t.Helper()
	if tr.taken != nil {
		return
	}
	tr.taken = map[side][]reached{}
	for range rounds {
		for s, r := range tr.run(t) {
			tr.taken[s] = append(tr.taken[s], r)
		}
	}
}

// String is the line of the table.
func (r sharedRow) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", r.what)
	for _, s := range sides {
		fmt.Fprintf(&b, " %s |", r.cell(s))
	}
	sign, of := "≤", ""
	if r.atLeast {
		sign = "≥"
	}
	if r.against != "" {
		of = " x " + string(r.against)
	}
	figure, met := "-", "-"
	if value, ok := r.figure(); ok {
		figure, met = fmt.Sprintf("%.3g", value), "no"
		if value == r.limit || value > r.limit == r.atLeast {
			met = "yes"
		}
	}
	fmt.Fprintf(&b, " %s | %s %g%s | %s |", figure, sign, r.limit, of, met)
	return b.String()
}

// of is the value of a side; 0 if there is none. Nothing that is measured can be 0 itself.
func (r sharedRow) of(s side) float64 {
	if len(r.taken[s]) == 0 {
		return 0
	}
	return r.value(r.taken[s])
}

// cell is the value of a side with its unit, or "-" if there is none.
func (r sharedRow) cell(s side) string {
	value := r.of(s)
	if value == 0 {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%.4g %s", value, r.unit))
}

// figure is what is held against the limit, if the sides that it takes are there.
func (r sharedRow) figure() (value float64, ok bool) {
	value = r.of(shared)
	if r.against != "" {
		base := r.of(r.against)
		if base == 0 {
			return 0, false
		}
		value /= base
	}
	return value, value > 0
}

// reachedMedian returns a figure that is the median over rounds.
func reachedMedian(figure func(reached) float64) func([]reached) float64 {
	return func(rounds []reached) float64 {
		var values []float64
		for _, r := range rounds {
			values = append(values, figure(r))
		}
		return median(values)
	}
}

// most returns a count that is the largest of all rounds.
func most(count func(reached) int) func([]reached) float64 {
	return func(rounds []reached) (largest float64) {
		for _, r := range rounds {
			largest = max(largest, float64(count(r)))
		}
		return largest
	}
}
