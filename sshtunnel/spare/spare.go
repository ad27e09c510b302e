// Package spare keeps connections that are open before they are asked for. A connection through
// SSH costs a round trip before its first byte may leave (RFC 4254 section 5.1). With a spare one,
// that round trip is over when the need comes.
//
// A spare is a guest at its server, so there are rules:
//
//   - There is one spare for each address at most, and only while the address is in use: dialed
//     within HotFor, and not refused since.
//   - There is none for a server that may serve one connection after the other, because a spare
//     would keep everybody else out. So it must have been seen that the server serves two
//     connections at the same time. What counts as seen is told at watched.
//   - Many servers close a connection that is silent. A spare that they are about to close is of no
//     use. So a spare is renewed at the age of MaxAge at the latest, and earlier if the server has
//     closed one that was younger.
package spare

import (
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/sshtunnel/mux"
)

const (
	// HotFor is how long after the last dial an address has a spare.
	HotFor = 2 * time.Minute
	// MaxAge is the age at which a spare is renewed at the latest.
	MaxAge = 30 * time.Second
	// MaxAddresses is how many addresses are remembered. The one that was dialed the longest ago is
	// forgotten.
	MaxAddresses = 16

	// minAge is the shortest age at which spares are renewed. A server that closes them earlier
	// gets none.
	minAge = 2 * time.Second
	// minMargin is how long a spare is renewed before its server would close it, at least.
	minMargin = 250 * time.Millisecond
	// learnedFor is how long it is remembered that a server closes spares early, or refuses them.
	learnedFor = 10 * time.Minute
	// awaitLimit is how long somebody waits for a spare that is being opened.
	awaitLimit = 4 * time.Second
	// openLimit bounds the opening of a spare.
	openLimit = 30 * time.Second
)

// ErrNotNow is wrapped by the error of an Open that has failed, but not because of the address. The
// next dial may have a spare.
var ErrNotNow = errors.New("no spare connection now")

// Open opens a connection to host:port that nobody uses yet. ctx bounds the call.
type Open func(ctx context.Context, address string) (*Conn, error)

// Conn is a connection that Open has opened.
type Conn struct {
	mux.Stream
	// Ended is closed when nothing can come or be sent any more.
	Ended <-chan struct{}
	// Link is what carries the connection. It is comparable.
	Link any
	// Claim is called when somebody takes the connection. It returns false if the connection is of
	// no use any more.
	Claim func() bool
	// Release must be called when a connection that was claimed is not used any more.
	Release func()
}

// Keeper keeps the spares. Its methods may be called concurrently.
type Keeper struct {
	ctx   context.Context
	open  Open
	tasks sync.WaitGroup

	mu        sync.Mutex // guards all fields of addresses
	addresses map[string]*address
}

// address is what is known about one.
type address struct {
	name string
	// dialed is when it was dialed last. It is zero if that has failed.
	dialed time.Time
	// forgotten is set when it is none of the Keeper's addresses any more.
	forgotten bool

	evidence

	// keeping is set while a goroutine keeps the spare.
	keeping bool
	// opening is set while it opens one. waiter then gets the spare instead of the Keeper, or nil.
	// It has room for one, and is nil if nobody waits.
	opening bool
	waiter  chan *waiting
	// spare is nil if there is none.
	spare *waiting

	// limit is the age at which a spare is renewed. It holds until relearn.
	limit time.Duration
	// relearn is when limit is MaxAge again.
	relearn time.Time
}

// New returns a Keeper, which closes its spares when ctx ends. The caller must call Wait then.
func New(ctx context.Context, open Open) *Keeper {
	return &Keeper{ctx: ctx, open: open, addresses: map[string]*address{}}
}

// Wait waits for all goroutines. It is called when ctx has ended, and all connections have.
func (k *Keeper) Wait() { k.tasks.Wait() }

// Count returns how many spares there are.
func (k *Keeper) Count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, a := range k.addresses {
		if a.spare != nil {
			n++
		}
	}
	return n
}

// Take returns the spare for an address, claimed, or nil if there is none. If one is just being
// opened, Take waits for it until ctx ends: another one would not come earlier.
func (k *Keeper) Take(ctx context.Context, name string) *Conn {
	k.mu.Lock()
	a := k.addresses[name]
	if a == nil {
		k.mu.Unlock()
		return nil
	}
	w := a.spare
	a.spare = nil
	alive := w != nil && !w.over() && w.age() < a.limitLocked()
	var answer chan *waiting
	if w == nil && a.opening && a.waiter == nil {
		answer = make(chan *waiting, 1)
		a.waiter = answer
	}
	k.mu.Unlock()
	if answer != nil {
		w = k.await(ctx, a, answer)
		alive = w != nil
	}
	if w == nil {
		return nil
	}
	defer close(w.removed) // the next one is opened behind what the caller does first
	if !alive || !w.Claim() {
		k.tasks.Go(w.end) // ends when the connection below takes one more packet
		return nil
	}
	k.mu.Lock()
	a.dialed = time.Now()
	k.mu.Unlock()
	return w.take()
}

// await waits for the spare that is being opened. It does not wait for long: the connection that
// opens it may be silent.
func (k *Keeper) await(ctx context.Context, a *address, answer chan *waiting) *waiting {
	timer := time.NewTimer(awaitLimit)
	defer timer.Stop()
	select {
	case w := <-answer:
		return w
	case <-timer.C:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.waiter == answer {
		a.waiter = nil // the Keeper gets it
		return nil
	}
	return <-answer
}

// Dialed notes that an address was dialed without a spare. It returns the stream for use instead of
// the given one, whose link carries it.
func (k *Keeper) Dialed(name string, stream mux.Stream, link any) mux.Stream {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.addresses[name]
	if a == nil {
		a = &address{name: name}
		a.streams = map[*watched]struct{}{}
		k.makeRoomLocked()
		k.addresses[name] = a
	}
	a.dialed = time.Now()
	k.keepLocked(a)
	return k.watchLocked(a, stream, link)
}

// Failed notes that an address could not be dialed.
func (k *Keeper) Failed(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.addresses[name]; a != nil {
		a.dialed = time.Time{}
		k.dropLocked(a)
	}
}

// makeRoomLocked forgets an address if there are too many.
func (k *Keeper) makeRoomLocked() {
	if len(k.addresses) < MaxAddresses {
		return
	}
	var oldest *address
	for _, a := range k.addresses {
		if oldest == nil || a.dialed.Before(oldest.dialed) {
			oldest = a
		}
	}
	oldest.forgotten = true
	k.dropLocked(oldest)
	delete(k.addresses, oldest.name)
}

// dropLocked ends the spare of an address.
func (k *Keeper) dropLocked(a *address) {
	if w := a.spare; w != nil {
		a.spare = nil
		close(w.removed)
		k.tasks.Go(w.end) // ends when the connection below takes one more packet
	}
}

// limitLocked returns the age at which a spare is renewed.
func (a *address) limitLocked() time.Duration {
	if elapsed(a.relearn) >= 0 {
		return MaxAge
	}
	return a.limit
}

// learnLocked notes that a spare can be no older than limit.
func (a *address) learnLocked(limit time.Duration) {
	a.limit, a.relearn = limit, time.Now().Add(learnedFor)
}

// wantedLocked reports whether an address may have a spare.
func (k *Keeper) wantedLocked(a *address) bool {
	return k.ctx.Err() == nil && !a.forgotten && a.several.Load() && elapsed(a.dialed) < HotFor && a.limitLocked() >= minAge
}

// keepLocked begins to keep a spare if the address may have one.
func (k *Keeper) keepLocked(a *address) {
	if a.keeping || !k.wantedLocked(a) {
		return
	}
	a.keeping, a.opening = true, true
	k.tasks.Go(func() { // ends with ctx, and when the address is not in use any more
		var before *waiting
		for more := true; more; {
			before, more = k.keepOne(a, before)
		}
	})
}

// keepOne opens a spare and keeps it until it has left, or has ended. It returns the spare if its
// server has closed it, and whether the next one is wanted. before is what it returned the last
// time.
func (k *Keeper) keepOne(a *address, before *waiting) (closed *waiting, more bool) {
	ctx, cancel := context.WithTimeout(k.ctx, openLimit)
	defer cancel()
	conn, err := k.open(ctx, a.name)
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !errors.Is(err, ErrNotNow) && k.ctx.Err() == nil {
			a.learnLocked(0)
		}
		return nil, k.nextLocked(a, false)
	}
	w := newWaiting(conn)
	k.tasks.Go(w.watch) // ends with the connection
	k.mu.Lock()
	if before != nil && before.Link == conn.Link { // else it was the link's end
		a.learnLocked(before.lasted - max(before.lasted/5, minMargin))
	}
	limit := a.limitLocked()
	a.opening = false
	a.spare = w
	if a.waiter != nil {
		a.waiter <- w
		a.waiter, a.spare = nil, nil
	} else if !k.wantedLocked(a) {
		k.dropLocked(a)
	}
	k.mu.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-w.removed:
	case <-w.ended:
		closed = w
	case <-timer.C:
	case <-k.ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.spare == w {
		k.dropLocked(a)
	} else {
		closed = nil
	}
	return closed, k.nextLocked(a, true)
}

// nextLocked reports whether one more spare is opened now. If it is not, the goroutine that keeps
// them ends.
func (k *Keeper) nextLocked(a *address, may bool) bool {
	more := may && k.wantedLocked(a)
	a.keeping, a.opening = more, more
	if !more && a.waiter != nil {
		a.waiter <- nil
		a.waiter = nil
	}
	return more
}

// elapsed returns the time since t. It also counts the time for which the machine has slept.
func elapsed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}
