package spare

import (
	"sync"
	"time"
)

// earlyBytes is how much of what a server sends by itself is read before the spare is taken. The
// rest waits in the channel's window.
const earlyBytes = 4 << 10

// waiting is a spare. It is read from while it waits, because the end of a stream is only met by
// reading.
type waiting struct {
	*Conn
	since time.Time
	// removed is closed when the Keeper has it no more.
	removed chan struct{}
	// ended is closed when the server has closed it before somebody took it, or its link has ended.
	ended chan struct{}
	// lasted is its age then. It is valid once ended is closed.
	lasted time.Duration

	mu   sync.Mutex
	news sync.Cond // for changes of what follows
	// early is what has come and is not read yet.
	early []byte
	err   error
	taken bool
	// direct is set when watch reads no more.
	direct bool
}

func newWaiting(c *Conn) *waiting {
	w := &waiting{Conn: c, since: time.Now(), removed: make(chan struct{}), ended: make(chan struct{})}
	w.news.L = &w.mu
	return w
}

func (w *waiting) age() time.Duration { return elapsed(w.since) }

// over reports whether it has ended.
func (w *waiting) over() bool {
	select {
	case <-w.ended:
		return true
	case <-w.Ended:
		return true
	default:
		return false
	}
}

// watch reads until the end, until there is enough, or until the spare is taken and one more read
// has ended.
func (w *waiting) watch() {
	chunk := make([]byte, earlyBytes)
	for room := chunk; ; {
		n, err := w.Stream.Read(room)
		room = room[n:]
		w.mu.Lock()
		w.early, w.err = append(w.early, chunk[len(chunk)-len(room)-n:len(chunk)-len(room)]...), err
		w.direct = err != nil || w.taken || len(room) == 0
		if err != nil && !w.taken {
			w.lasted = w.age()
			close(w.ended)
		}
		done := w.direct
		w.news.Broadcast()
		w.mu.Unlock()
		if done {
			return
		}
	}
}

// take returns the connection for use.
func (w *waiting) take() *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken = true
	c := *w.Conn
	c.Stream = taken{w.Conn.Stream, w}
	return &c
}

// end closes a spare that nobody has taken.
func (w *waiting) end() { w.Stream.Close() }

// taken is the stream of a spare that was taken.
type taken struct {
	stream
	w *waiting
}

// Read gives what came early first.
func (t taken) Read(p []byte) (int, error) {
	t.w.mu.Lock()
	for len(t.w.early) == 0 && !t.w.direct {
		t.w.news.Wait()
	}
	if n := copy(p, t.w.early); n > 0 {
		if t.w.early = t.w.early[n:]; len(t.w.early) == 0 {
			t.w.early = nil
		}
		t.w.mu.Unlock()
		return n, nil
	}
	err := t.w.err
	t.w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return t.stream.Read(p)
}
