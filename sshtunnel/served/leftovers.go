package served

import (
	"net"
	"strconv"
	"sync"
	"time"

	"sallyport/sshtunnel/mux"
)

const (
	// arrivalLimit is how long an arrival waits to be taken over.
	arrivalLimit = 10 * time.Second
	// exitKept is how long the exit status of a command can be asked for.
	exitKept = time.Minute
)

// Leftovers are what one connection of a client leaves for another: arrivals, and the exit status
// of commands. Their methods may be called concurrently.
type Leftovers struct {
	mu    sync.Mutex
	last  int
	items map[string]*leftover
	// closed is set by Close.
	closed bool
}

// NewLeftovers returns a Leftovers that keeps nothing.
func NewLeftovers() *Leftovers { return &Leftovers{items: map[string]*leftover{}} }

// leftover is an arrival or a command.
type leftover struct {
	// conn is the arrival. It is nil for a command.
	conn net.Conn
	// exit is that of the command.
	exit *Exit
	// expiry removes the leftover. It is nil for a command that runs.
	expiry *time.Timer
}

// Exit says how a command has ended.
type Exit struct {
	once sync.Once
	// Done is closed when How is set.
	Done chan struct{}
	// How says it.
	How mux.Exit
}

// Tell sets how the command has ended. The first call counts.
func (e *Exit) Tell(how mux.Exit) {
	e.once.Do(func() {
		e.How = how
		close(e.Done)
	})
}

func (l *Leftovers) add(o *leftover) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	id := strconv.Itoa(l.last)
	l.items[id] = o
	return id
}

// Arrived keeps an arrival for a short time.
func (l *Leftovers) Arrived(conn net.Conn) (id string) {
	o := &leftover{conn: conn}
	id = l.add(o)
	l.mu.Lock()
	defer l.mu.Unlock()
	o.expiry = time.AfterFunc(arrivalLimit, func() {
		if late := l.Take(id); late != nil {
			late.Close()
		}
	})
	if l.closed {
		conn.Close()
	}
	return id
}

// Take removes an arrival. It returns nil if there is none.
func (l *Leftovers) Take(id string) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.items[id]
	if o == nil || o.conn == nil {
		return nil
	}
	delete(l.items, id)
	o.expiry.Stop()
	return o.conn
}

// Started keeps a command until a while after Ended is called.
func (l *Leftovers) Started() (id string, e *Exit) {
	e = &Exit{Done: make(chan struct{})}
	return l.add(&leftover{exit: e}), e
}

// Ended notes that a command has ended.
func (l *Leftovers) Ended(id string, e *Exit, how mux.Exit) {
	e.Tell(how)
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.items[id]; o != nil && !l.closed {
		o.expiry = time.AfterFunc(exitKept, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.items, id)
		})
	}
}

// ExitOf returns that of a command; nil if there is none.
func (l *Leftovers) ExitOf(id string) *Exit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.items[id]; o != nil {
		return o.exit
	}
	return nil
}

// Close closes what waits, and forgets the rest.
func (l *Leftovers) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for id, o := range l.items {
		if o.expiry != nil {
			o.expiry.Stop()
		}
		if o.conn != nil {
			o.conn.Close()
		}
		delete(l.items, id)
	}
}
