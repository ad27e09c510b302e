//go:build linux

package bench_test

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
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
}

// task is the configuration of the role "drive".
type task struct {
	Contender contender
	Work      work
}

func init() { machines.Role("drive", playDrive) }

// playDrive drives one contender through a round and prints its figures.
func playDrive(text []byte) error {
	var t task
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	var f figures
	var err error
	switch {
	case t.Work.Fleet > 0:
		err = f.fleet(t.Contender, t.Work)
	case t.Contender.URL != "":
		err = f.floor(t.Contender, t.Work)
	default:
		err = f.process(t.Contender, t.Work)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
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
	if err := each(processes, (*pipeCaller).open); err != nil {
		return err
	}
	f.Start = time.Since(begin)
	time.Sleep(calm)
	var err error
	if f.Idle, err = sum(processes); err != nil {
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
