package spare

import (
	"sync/atomic"

	"sallyport/sshtunnel/mux"
)

// stream is mux.Stream, for types that have it inside.
type stream = mux.Stream

// evidence is what the streams to an address have shown about its server.
type evidence struct {
	// several is set when the server serves several connections at the same time.
	several atomic.Bool
	// streams are the open ones that were not spares. It is empty once several is set.
	streams map[*watched]struct{}
	// moments numbers what happens on the streams.
	moments int64
}

// watched is a stream that may show whether its server serves several connections at the same time.
//
// It does if an answer comes on one connection while another one, which it has served as well, is
// still open. That we have not met the end of the other one is not enough, because the end may be
// behind bytes that are still on their way, or that the client does not take. So a reader must have
// waited on the other one before the request, and still wait when the answer comes. Both must run
// in the same link, which brings the end of the one before the later answer on the other.
type watched struct {
	stream
	keeper  *Keeper
	address *address
	link    any

	// answered is set when bytes have come.
	answered bool
	// waits is when the read that waits for bytes began. It is 0 if none waits.
	waits int64
	// asked is when bytes were sent first since the last ones came. It is 0 if none were, or before
	// the first answer.
	asked int64
}

// watchLocked returns the stream to use instead of the given one.
func (k *Keeper) watchLocked(a *address, s mux.Stream, link any) mux.Stream {
	if a.several.Load() {
		return s
	}
	w := &watched{stream: s, keeper: k, address: a, link: link}
	a.streams[w] = struct{}{}
	return w
}

// Write notes a request.
func (w *watched) Write(p []byte) (int, error) {
	if w.address.several.Load() {
		return w.stream.Write(p)
	}
	w.keeper.mu.Lock()
	if w.answered && w.asked == 0 {
		w.address.moments++
		w.asked = w.address.moments
	}
	w.keeper.mu.Unlock()
	return w.stream.Write(p)
}

// Read notes an answer.
func (w *watched) Read(p []byte) (int, error) {
	if w.address.several.Load() {
		return w.stream.Read(p)
	}
	w.keeper.mu.Lock()
	w.address.moments++
	w.waits = w.address.moments
	w.keeper.mu.Unlock()
	n, err := w.stream.Read(p)
	w.keeper.mu.Lock()
	defer w.keeper.mu.Unlock()
	w.waits = 0
	if err != nil {
		delete(w.address.streams, w)
		return n, err
	}
	if w.asked != 0 && !w.address.several.Load() && w.otherWaitsLocked() {
		w.address.several.Store(true)
		clear(w.address.streams)
		w.keeper.keepLocked(w.address)
	}
	w.answered, w.asked = true, 0
	return n, err
}

// otherWaitsLocked reports whether another stream that was answered has waited since w asked.
func (w *watched) otherWaitsLocked() bool {
	for other := range w.address.streams {
		if other != w && other.link == w.link && other.answered && other.waits != 0 && other.waits < w.asked {
			return true
		}
	}
	return false
}
