// Package served is what the server of a shared connection keeps of its clients: their connections,
// the streams, and what one connection leaves for another one. It knows nothing of SSH.
package served

import (
	"sync"
	"time"

	"sallyport/sshtunnel/mux"
)

// Streams counts the streams of a server. Its methods may be called concurrently.
type Streams struct {
	// Bytes counts what the streams carry.
	Bytes mux.Counters
	// none gets a value when the last stream ends. It has room for one.
	none chan struct{}
	// patience is that of CloseLost.
	patience time.Duration

	mu   sync.Mutex
	open int
	all  int64
	// idle is when the last stream ended.
	idle     time.Time
	carriers map[*mux.Carrier]struct{}
}

// NewStreams returns a Streams without a stream. patience is how long CloseLost leaves one alone
// that takes no bytes.
func NewStreams(patience time.Duration) *Streams {
	return &Streams{none: make(chan struct{}, 1), patience: patience, idle: time.Now(), carriers: map[*mux.Carrier]struct{}{}}
}

// Begin counts a stream until end is called.
func (s *Streams) Begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.all++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open--; s.open > 0 {
			return
		}
		s.idle = time.Now()
		select {
		case s.none <- struct{}{}:
		default:
		}
	}
}

// Count returns how many streams are open.
func (s *Streams) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Await returns when no stream is open any more, at stop, or after a time. It calls CloseLost each
// pace.
func (s *Streams) Await(stop <-chan struct{}, limit, pace time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for s.Count() > 0 {
		select {
		case <-s.none:
		case <-ticker.C:
			s.CloseLost()
		case <-timer.C:
			return
		case <-stop:
			return
		}
	}
}

// Touch begins the time without a stream anew.
func (s *Streams) Touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = time.Now()
}

// IdleFor returns how long no stream has been open.
func (s *Streams) IdleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open > 0 {
		return 0
	}
	return time.Since(s.idle)
}

// Watch enters a Carrier for CloseLost until end is called.
func (s *Streams) Watch(k *mux.Carrier) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carriers[k] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.carriers, k)
	}
}

// CloseLost closes streams that take no bytes, and whose client is gone.
func (s *Streams) CloseLost() {
	s.mu.Lock()
	all := make([]*mux.Carrier, 0, len(s.carriers))
	for k := range s.carriers {
		all = append(all, k)
	}
	s.mu.Unlock()
	for _, k := range all {
		k.CloseLost(s.patience)
	}
}

// Traffic returns the figures, and since when no stream has been open.
func (s *Streams) Traffic() (mux.Traffic, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := mux.Traffic{Streams: s.open, Opened: s.all, BytesIn: s.Bytes.In.Load(), BytesOut: s.Bytes.Out.Load()}
	if s.open > 0 {
		return t, time.Time{}
	}
	return t, s.idle
}
