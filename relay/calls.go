package relay

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// maxCalls is how many requests of the host may be in flight. Further ones are answered busy.
const maxCalls = 1024

// callTable has the requests of the host that are in flight, and counts all else that the end of the session waits for.
type callTable struct {
	run *run

	mu sync.Mutex
	// inFlight has the calls by their key.
	inFlight map[string]*call
	// replies is how many answers of the host are on their way.
	replies int
	// pending is how many messages of the host, of whatever kind, are not yet dealt with.
	pending int
	// closed says that nothing new is taken.
	closed bool
	// drained is closed when the table is closed and nothing is pending.
	drained chan struct{}
	// final is the first final obstacle.
	final *Obstacle
}

func newCallTable(r *run) *callTable {
	return &callTable{run: r, inFlight: map[string]*call{}, drained: make(chan struct{})}
}

// enter starts the time of c and puts it into the table. It counts one goroutine in the work of the session, for which the caller
// calls Done. The fault says why c is not taken.
func (t *callTable) enter(c *call) *fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.final != nil:
		return t.final.fault()
	case t.closed:
		return closingFault()
	case t.inFlight[c.key] != nil:
		return invalidRequest("the id is that of a request in flight")
	case len(t.inFlight) >= maxCalls:
		return &fault{code: codeTransport, kind: "busy", text: fmt.Sprintf("%d requests are in flight already", maxCalls),
			hints: []string{"ask again when some of them have been answered"}}
	}
	c.ctx, c.cancel = context.WithCancelCause(t.run.ctx)
	c.timer = time.AfterFunc(t.run.cfg.Timeout, func() { c.cancel(errTimeout) })
	t.inFlight[c.key] = c
	t.pending++
	t.run.work.Add(1) // under the lock, so that the session cannot have stopped waiting
	return nil
}

// find returns the call with the given key, or nil.
func (t *callTable) find(key string) *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inFlight[key]
}

// remove takes c, which the caller has claimed, out of the table. It returns how many calls are left.
func (t *callTable) remove(c *call) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inFlight[c.key] == c {
		delete(t.inFlight, c.key)
	}
	return len(t.inFlight)
}

func (t *callTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.inFlight)
}

// selected returns the calls in flight for which is returns true. While is runs, no call comes or goes.
func (t *callTable) selected(is func(*call) bool) (list []*call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.inFlight {
		if is(c) {
			list = append(list, c)
		}
	}
	return list
}

// keepAlive gives the calls with the given progressKey their full time again.
func (t *callTable) keepAlive(progress string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.inFlight {
		if progress != "" && c.progress == progress {
			c.keepAlive(t.run.cfg.Timeout)
		}
	}
}

// release lets go what waits for the end of c. It may be called repeatedly.
func (t *callTable) release(c *call) {
	t.mu.Lock()
	first := !c.state.released
	c.state.released = true
	t.mu.Unlock()
	if !first {
		return
	}
	if c.gate != nil {
		close(c.gate)
	}
	t.dealtWith()
}

// hold makes the end of the session wait beyond the release of c, until dealtWith. It reports false if c is released already.
func (t *callTable) hold(c *call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.state.released {
		return false
	}
	t.pending++
	return true
}

// addPending counts one more message that the end of the session waits for, until dealtWith. It reports false if nothing new is taken, or if so
// many are pending already.
func (t *callTable) addPending(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.pending >= limit {
		return false
	}
	t.pending++
	return true
}

// dealtWith counts one message less that the end of the session waits for.
func (t *callTable) dealtWith() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending--; t.closed && t.pending == 0 {
		close(t.drained)
	}
}

// startReply runs f in a goroutine of the session, to carry an answer of the host. It reports false if nothing new is taken,
// or if too many answers are on their way already.
func (t *callTable) startReply(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.replies >= maxNotices {
		return false
	}
	t.replies++
	t.pending++
	t.run.work.Go(func() { // ends with f
		f()
		t.mu.Lock()
		t.replies--
		t.mu.Unlock()
		t.dealtWith()
	})
	return true
}

// start runs f in a goroutine of the session, unless nothing new is taken. f ends with the session.
func (t *callTable) start(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.run.work.Go(f)
	}
}

// refuseAll makes o the answer to all requests from now on, and returns the calls in flight. It reports false if there
// is a final obstacle already.
func (t *callTable) refuseAll(o *Obstacle) (inFlight []*call, first bool) {
	t.mu.Lock()
	first = t.final == nil
	if first {
		t.final = o
	}
	t.mu.Unlock()
	return t.selected(func(*call) bool { return true }), first
}

// finalObstacle returns what was given to refuseAll, or nil.
func (t *callTable) finalObstacle() *Obstacle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final
}

// takes reports whether new requests are taken.
func (t *callTable) takes() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final == nil && !t.closed
}

// close takes nothing new from now on. It reports whether nothing is pending.
func (t *callTable) close() (idle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return t.pending == 0
}

// drain closes the table and waits until all that was taken is dealt with, but no longer than grace.
func (t *callTable) drain(grace time.Duration) {
	if t.close() {
		return
	}
	select {
	case <-t.drained:
	case <-time.After(grace):
	case <-t.run.ctx.Done():
	}
}
