package relay

import (
	"hash/maphash"
	"sync"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

// maxReplay is how many messages are remembered to know them in a replay.
const maxReplay = 4096

// delivered remembers the last messages that came as events with ids. An event id is unique in its session (basic/transports,
// "Resumability and Redelivery") and is replayed only on its own stream, but servers exist that replay everything on each, and
// others whose ids are not unique; so a message counts as known if its id and its bytes are.
type delivered struct {
	mu    sync.Mutex
	known map[uint64]struct{}
	ring  []uint64 // the hashes in known, the oldest at next once it is full
	next  int
}

var deliveredSeed = maphash.MakeSeed()

// add notes a message and reports whether it was known.
func (d *delivered) add(id string, raw []byte) bool {
	var h maphash.Hash
	h.SetSeed(deliveredSeed)
	h.WriteString(id)
	h.WriteByte(0)
	h.Write(raw)
	sum := h.Sum64()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.known[sum]; known {
		return true
	}
	if d.known == nil {
		d.known = map[uint64]struct{}{}
	}
	if len(d.ring) < maxReplay {
		d.ring = append(d.ring, sum)
	} else {
		delete(d.known, d.ring[d.next])
		d.ring[d.next] = sum
		d.next = (d.next + 1) % maxReplay
	}
	d.known[sum] = struct{}{}
	return false
}

// clear forgets everything: a new session counts from the start.
func (d *delivered) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known, d.ring, d.next = nil, nil, 0
}

// once keeps from take what a resumed stream brings again. Answers pass: a call takes only one, and its own stream may be the
// second to bring it.
func (l *legacy) once(e sse.Event, cur *cursor, take sink) sink {
	if !e.OwnID {
		return take
	}
	return func(m rawjson.Message) bool {
		if m.Kind != rawjson.Response && l.delivered.add(e.ID, m.Raw) && cur.resumed {
			return false
		}
		return take(m)
	}
}
