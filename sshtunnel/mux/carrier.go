package mux

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// smallRead and bigRead are the sizes of the buffers that a Carrier reads into, in bytes. A
	// stream that is quiet keeps two small ones. A big one is taken when a small one was filled. It
	// holds two of the largest SSH packets, with which bulk is 8 % faster than with one.
	smallRead = 2 << 10
	bigRead   = 64 << 10
)

// bigBuffers are free buffers of bigRead bytes.
var bigBuffers = sync.Pool{New: func() any { return new([bigRead]byte) }}

// Stream is the far end of what a client has opened.
type Stream interface {
	io.ReadWriteCloser
	// CloseWrite ends what is written. Reading goes on.
	CloseWrite() error
}

// Carrier copies between a client's connection and a Stream, in both directions. The end of one
// direction is passed on. Each direction waits for its reader, and for nothing else.
//
// It reads from the client from the start, so that it notices when the client takes a request back.
type Carrier struct {
	client *Conn
	count  *Counters

	// opened is closed when far is set, or when there will be none.
	opened chan struct{}
	far    Stream
	// sent is closed when nothing more is read from the client.
	sent chan struct{}
	// sending is since when far has been taking bytes, in nanoseconds since start. It is 0 if far
	// has none to take.
	sending atomic.Int64
}

// Counters count the bytes of streams. They may be shared by any number of Carriers.
type Counters struct {
	// In counts what came from far ends, and Out what went there.
	In, Out atomic.Int64
}

// start is the base of monotonic times.
var start = time.Now()

// NewCarrier begins to read from a client. If the client closes the connection before Join, gone is
// called. The caller must call Join or Abort.
func NewCarrier(client *Conn, count *Counters, gone func()) *Carrier {
	k := &Carrier{client: client, count: count, opened: make(chan struct{}), sent: make(chan struct{})}
	go k.send(gone) // ends with the client's connection, at the latest when Join or Abort closes it
	return k
}

// Abort ends a Carrier that has no Stream. It closes the client's connection.
func (k *Carrier) Abort() {
	k.client.Close()
	close(k.opened)
	<-k.sent
}

// Join carries bytes until both directions have ended, and closes both sides. Ended is called when
// nothing more comes from the Stream. It returns a channel that is closed when nothing can be sent
// there any more, either.
func (k *Carrier) Join(far Stream, ended func() <-chan struct{}) {
	k.far = far
	close(k.opened)
	k.receive()
	<-ended()
	k.client.Close()
	far.Close()
	<-k.sent
}

// CloseLost closes the Stream if it has not taken bytes for so long and the client is gone. The
// Carrier cannot notice that by itself, because it reads no more from the client before the bytes
// are taken.
func (k *Carrier) CloseLost(limit time.Duration) {
	since := k.sending.Load()
	if since > 0 && time.Since(start)-time.Duration(since) > limit && k.client.Hung() {
		k.far.Close()
	}
}

// send copies what comes from the client.
func (k *Carrier) send(gone func()) {
	defer close(k.sent)
	b := newBuffer()
	defer b.free()
	for {
		n, err := k.client.Read(b.bytes)
		if err != nil && k.client.Hung() {
			select {
			case <-k.opened:
			default:
				gone()
			}
		}
		<-k.opened
		if k.far == nil {
			return
		}
		if n > 0 {
			k.sending.Store(int64(time.Since(start)))
			_, failed := k.far.Write(b.bytes[:n])
			k.sending.Store(0)
			k.count.Out.Add(int64(n))
			if failed != nil {
				return // the other direction learns it as well
			}
		}
		switch {
		case err == io.EOF:
			k.far.CloseWrite()
			b.free()
			if k.client.AwaitHangup() == nil {
				k.far.Close() // nobody waits for an answer
			}
			return
		case err != nil:
			k.far.Close()
			return
		}
		b.fit(n)
	}
}

// receive copies what comes from the Stream, up to its end.
func (k *Carrier) receive() {
	b := newBuffer()
	defer b.free()
	for {
		n, err := k.far.Read(b.bytes)
		if n > 0 {
			k.count.In.Add(int64(n))
			if _, gone := k.client.Write(b.bytes[:n]); gone != nil {
				k.far.Close()
				// A full window would keep the other side from confirming the end.
				io.Copy(io.Discard, k.far)
				return
			}
		}
		if err != nil {
			k.client.CloseWrite()
			return
		}
		b.fit(n)
	}
}

// buffer is what a Carrier reads into.
type buffer struct {
	bytes []byte
	small [smallRead]byte
	// big is nil as long as the small one is used.
	big *[bigRead]byte
}

func newBuffer() *buffer {
	b := &buffer{}
	b.bytes = b.small[:]
	return b
}

// fit chooses the size for the next read when n bytes came with the last one.
func (b *buffer) fit(n int) {
	switch {
	case b.big == nil && n == smallRead:
		b.big = bigBuffers.Get().(*[bigRead]byte)
		b.bytes = b.big[:]
	case b.big != nil && n < smallRead:
		b.free()
	}
}

// free gives a big buffer back.
func (b *buffer) free() {
	if b.big != nil {
		bigBuffers.Put(b.big)
		b.big, b.bytes = nil, b.small[:]
	}
}
