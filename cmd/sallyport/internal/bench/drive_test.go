//go:build linux

package bench_test

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// inFlight is how many calls a busy host has in flight.
const inFlight = 64

// calm is the wait before memory is read, for what a process does after work.
const calm = 1200 * time.Millisecond

// contender is one of those that are compared: a URL, which the driver calls itself, or a command
// that it drives through stdin and stdout.
type contender struct {
	Name         string
	URL, CAFile  string
	Command, Env []string
}

// work is what one contender does in a round.
type work struct {
	// Calls is the number of calls one at a time, Many of those with inFlight in flight, Larges of
	// results of 8 MiB.
	Calls, Many, Larges int
	// Memory has the memory read, which takes time.
	Memory bool
	// Fleet is how many processes start at once; 0 means one process that does the rest.
	Fleet int
}

// figures is what one contender reached in one round.
type figures struct {
	// Start is the time from the start of the process to the answer to initialize; of a fleet, to
	// the last of the answers.
	Start time.Duration
	// Served is the time from the start of a fleet until each process has answered a first call,
	// which the server alone can answer.
	Served time.Duration
	// Calls are the times of the calls one at a time.
	Calls []time.Duration
	// Processor is the processor time of the process for one of these calls; of a fleet, that of
	// all processes from their start to the end of the work.
	Processor time.Duration
	// Rate is the number of calls a second, inFlight in flight.
	Rate float64
	// Larges are the times of the large results.
	Larges []time.Duration
	// Idle and After are the memory before and after the work, in MiB, of a fleet the sum.
	Idle, After float64
	// Share is the memory in MiB, before the work, of the shared connections of a fleet.
	Share float64
}

// task is the configuration of the role "drive". Several contenders take turns, call by call: what
// takes the processors is too unsteady to be compared one after the other.
type task struct {
	Contenders []contender
	Work       work
}

func init() { machines.Role("drive", playDrive) }

// drive has contenders driven through a round, from ns, and returns the figures of each.
func drive(t testing.TB, ns *machines.Namespace, w work, contenders ...contender) (all []figures) {
	t.Helper()
	role, line := machines.StartRole(t, ns, "drive", task{contenders, w})
	defer role.Stop()
	if err := json.Unmarshal([]byte(line), &all); err != nil {
		t.Fatalf("%s: %v: %s", contenders[0].Name, err, line)
	}
	return all
}

// playDrive drives contenders through a round and prints their figures.
func playDrive(text []byte) error {
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	all := make([]figures, len(t.Contenders))
	f, c := &all[0], t.Contenders[0]
	var err error
	switch {
	case len(all) > 1:
		err = byTurns(all, t.Contenders, t.Work)
	case t.Work.Fleet > 0:
		err = f.fleet(c, t.Work)
	case c.URL != "":
		err = f.floor(c, t.Work)
	default:
		err = f.process(c, t.Work)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// floor takes the figures of calls without a process between.
func (f *figures) floor(c contender, w work) error {
	caller, err := newFloorCaller(c.URL, c.CAFile)
	if err != nil {
		return err
	}
	if err := caller.call(initializeLine); err != nil {
		return err
	}
	return f.calls(caller, w, func() time.Duration { return 0 })
}

// process takes the figures of a process.
func (f *figures) process(c contender, w work) error {
	begin := time.Now()
	p, err := startPipe(c)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.open(); err != nil {
		return err
	}
	f.Start = time.Since(begin)
	if err := p.call(callLine("echo", 2)); err != nil {
		return err
	}
	if w.Memory {
		time.Sleep(calm)
		if f.Idle, err = p.proportional(); err != nil {
			return err
		}
	}
	if err := f.calls(p, w, p.processorTime); err != nil {
		return err
	}
	if w.Memory {
		time.Sleep(calm)
		f.After, err = p.proportional()
	}
	return err
}

// calls takes the figures of the calls. processorTime is what the process has taken so far.
func (f *figures) calls(c caller, w work, processorTime func() time.Duration) error {
	id := 100
	series := func(count int, tool string) (times []time.Duration, err error) {
		for range count {
			id++
			begin := time.Now()
			if err := c.call(callLine(tool, id)); err != nil {
				return nil, err
			}
			times = append(times, time.Since(begin))
		}
		return times, nil
	}
	_, err := series(w.Calls/5, "echo") // to warm up
	if err != nil {
		return err
	}
	before := processorTime()
	if f.Calls, err = series(w.Calls, "echo"); err != nil {
		return err
	}
	f.Processor = (processorTime() - before) / time.Duration(w.Calls)
	begin := time.Now()
	if err := c.many(w.Many, inFlight, func(i int) string { return callLine("echo", 1e6+i) }); err != nil {
		return err
	}
	f.Rate = float64(w.Many) / time.Since(begin).Seconds()
	f.Larges, err = series(w.Larges, "large")
	return err
}

// fleet starts many processes at once, as a host does that starts all its servers, or several hosts
// do that have the same one. Each makes a few calls, all at the same time.
func (f *figures) fleet(c contender, w work) error {
	processes := make([]*pipeCaller, w.Fleet)
	begin := time.Now()
	for i := range processes {
		p, err := startPipe(c)
		if err != nil {
			return err
		}
		defer p.close()
		processes[i] = p
	}
	opened := make(chan time.Duration, w.Fleet)
	err := each(processes, func(p *pipeCaller) error {
		if err := p.open(); err != nil {
			return err
		}
		opened <- time.Since(begin)
		return p.call(callLine("echo", 2))
	})
	if err != nil {
		return err
	}
	f.Served = time.Since(begin)
	for range processes {
		f.Start = max(f.Start, <-opened)
	}
	time.Sleep(calm)
	if f.Idle, err = sum(processes); err != nil {
		return err
	}
	if f.Share, err = shareMemory(c.Command[0]); err != nil {
		return err
	}
	begin = time.Now()
	err = each(processes, func(p *pipeCaller) error {
		for i := range w.Calls {
			if err := p.call(callLine("echo", 100+i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.Rate = float64(w.Fleet*w.Calls) / time.Since(begin).Seconds()
	for _, p := range processes {
		f.Processor += p.processorTime()
	}
	time.Sleep(calm)
	f.After, err = sum(processes)
	return err
}

// byTurns takes the figures of calls of several processes, one call of each after the other.
func byTurns(all []figures, contenders []contender, w work) error {
	const turns = 10
	processes := make([]*pipeCaller, len(contenders))
	for i, c := range contenders {
		p, err := startPipe(c)
		if err != nil {
			return err
		}
		defer p.close()
		if err := p.open(); err != nil {
			return err
		}
		processes[i] = p
	}
	for id := range w.Calls + w.Calls/5 {
		for i, p := range processes {
			begin := time.Now()
			if err := p.call(callLine("echo", 100+id)); err != nil {
				return err
			}
			if id >= w.Calls/5 { // the first ones warm up
				all[i].Calls = append(all[i].Calls, time.Since(begin))
			}
		}
	}
	rates := make([][]float64, len(processes))
	for turn := range turns {
		for i, p := range processes {
			begin, first := time.Now(), 1e6*(turn+1)
			if err := p.many(w.Many/turns, inFlight, func(id int) string { return callLine("echo", first+id) }); err != nil {
				return err
			}
			rates[i] = append(rates[i], float64(w.Many/turns)/time.Since(begin).Seconds())
		}
	}
	for i := range all {
		all[i].Rate = median(rates[i])
	}
	return nil
}

// each calls f for all processes at once.
func each(processes []*pipeCaller, f func(*pipeCaller) error) error {
	errs := make([]error, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() { errs[i] = f(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sum is the memory of all processes, in MiB. Pages that they share count once.
func sum(processes []*pipeCaller) (total float64, err error) {
	for _, p := range processes {
		mib, err := p.proportional()
		if err != nil {
			return 0, err
		}
		total += mib
	}
	return total, nil
}
