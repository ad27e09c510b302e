//go:build linux

package bench_test

import (
	"fmt"
	"time"
)

// peerRow is a line of a table against the peers.
type peerRow struct {
	what   string
	figure func([]figures) float64
	// spawned marks a figure of processes only, which the floor does not have.
	spawned bool
	// target is what sallyport must reach; "-" means no such thing.
	target string
}

// The rows. What a person notices is the wait for the start, a call that takes longer than the
// network makes it, and the memory of many processes. A target is a ratio to the floor or to a
// peer.
var (
	directRows = []peerRow{
		{"start to initialize answer, ms", starts, true, "≤ 1/2 x mcp-oauth2-proxy"},
		{"one call at a time, p50, ms", callQuantile(0.5), false, "≤ 1.1 x floor"},
		{"one call at a time, p99, ms", callQuantile(0.99), false, "≤ 1.25 x floor"},
		{"processor time of a call, us", processors(time.Microsecond), true, "-"},
		{"calls/s, 64 in flight", rates, false, "≥ 0.8 x floor"},
		{"one 8 MiB result, ms", largeMedian, false, "≤ 1.25 x floor"},
	}
	viaRows = []peerRow{
		{"start to initialize answer, ms", starts, true, "-"},
		{"one call at a time, p50, ms", callQuantile(0.5), false, "≤ 1.1 x floor"},
		{"one call at a time, p99, ms", callQuantile(0.99), false, "≤ 1.25 x floor"},
		{"processor time of a call, us", processors(time.Microsecond), true, "-"},
		{"calls/s, 64 in flight", rates, false, "≥ 0.8 x floor"},
		{"one 8 MiB result, ms", largeMedian, false, "≤ 1.25 x floor"},
	}
	loopbackRows = []peerRow{
		{"start to initialize answer, ms", starts, true, "-"},
		{"one call at a time, p50, ms", callQuantile(0.5), false, "-"},
		{"one call at a time, p99, ms", callQuantile(0.99), false, "-"},
		{"processor time of a call, us", processors(time.Microsecond), true, "-"},
		{"calls/s, 64 in flight", rates, false, "-"},
		{"one 8 MiB result, ms", largeMedian, false, "-"},
		{"memory idle, MiB", idle, true, "≤ 1/3 x mcp-oauth2-proxy"},
		{"memory after the run, MiB", after, true, "≤ 1/3 x mcp-oauth2-proxy"},
	}
	fleetRows = []peerRow{
		{"until all have answered initialize, ms", starts, true, "≤ 1/3 x mcp-oauth2-proxy"},
		{"calls/s, one in flight in each", rates, true, "≥ 1 x mcp-oauth2-proxy"},
		{"processor time, sum, ms", processors(time.Millisecond), true, "-"},
		{"memory idle, sum, MiB", idle, true, "≤ 1/4 x mcp-oauth2-proxy"},
		{"memory after calls, sum, MiB", after, true, "≤ 1/4 x mcp-oauth2-proxy"},
	}
)

// cell writes the last of the values of a row, with its ratio to the first, the floor, where there
// is one.
func (r peerRow) cell(values []float64, floor bool) string {
	value := values[len(values)-1]
	switch {
	case r.spawned && floor && len(values) == 1:
		return "-"
	case r.spawned || len(values) == 1:
		return fmt.Sprintf("%.4g", value)
	}
	return fmt.Sprintf("%.4g (%.2f x)", value, value/values[0])
}

func milliseconds(d time.Duration) float64 { return float64(d) / 1e6 }

// medianOf returns a figure that is the median over rounds.
func medianOf(figure func(figures) float64) func([]figures) float64 {
	return func(rounds []figures) float64 {
		var values []float64
		for _, f := range rounds {
			values = append(values, figure(f))
		}
		return median(values)
	}
}

var (
	starts = medianOf(func(f figures) float64 { return milliseconds(f.Start) })
	rates  = medianOf(func(f figures) float64 { return f.Rate })
	idle   = medianOf(func(f figures) float64 { return f.Idle })
	after  = medianOf(func(f figures) float64 { return f.After })
)

// processors returns the processor time in a unit.
func processors(unit time.Duration) func([]figures) float64 {
	return medianOf(func(f figures) float64 { return float64(f.Processor) / float64(unit) })
}

// callQuantile returns a figure over the calls of all rounds: a round over a distance has few.
func callQuantile(q float64) func([]figures) float64 {
	return func(rounds []figures) float64 {
		var times []time.Duration
		for _, f := range rounds {
			times = append(times, f.Calls...)
		}
		return milliseconds(quantile(times, q))
	}
}

// largeMedian is the median over the large results of all rounds.
func largeMedian(rounds []figures) float64 {
	var times []time.Duration
	for _, f := range rounds {
		times = append(times, f.Larges...)
	}
	return milliseconds(median(times))
}
