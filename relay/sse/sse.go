// Package sse reads event streams (WHATWG HTML, section 9.2, "Server-sent events"): a response of
// type text/event-stream, in which a server sends one event after the other for as long as it
// likes.
//
//	id: 41                    an id, by which the stream can be asked for again from here
//	retry: 3000               how many milliseconds to wait before that
//	event: message            a name; without one the event is a "message"
//	data: {"jsonrpc":"2.0",   the payload, which may have many lines
//	data: "method":"ping"}
//	                          an empty line ends the event
package sse

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// MaxID is the longest event id, in bytes, that is taken from a stream. To resume the stream
	// the id is sent back in a header, so it has to fit into one.
	MaxID = 4 << 10

	maxName       = 64       // bytes of an event's name that are kept
	readSize      = 32 << 10 // bytes that are read at once
	maxPooled     = 16 << 20 // capacity of a buffer that is kept for the next stream
	maxEmptyReads = 100      // reads in a row that bring nothing and no error
)

// ErrTooLong ends a stream with an event above the limit.
var ErrTooLong = errors.New("event longer than the limit")

// Event is one event of a stream.
type Event struct {
	// Name is the event's type. "" stands for "message".
	Name string
	// Data is the payload. It is valid until the next event.
	Data []byte
	// ID is the last event id of the stream so far. "" means that there was none.
	ID string
	// OwnID says that ID came with this event.
	OwnID bool
	// Retry is the reconnection time that came with this event. A negative one means that none did.
	Retry time.Duration
}

// HasMessage reports whether the event carries a message: it is of the type "message" and its data
// is more than white space. A server sends other events to keep a connection alive, and to give an
// id or a reconnection time early.
func (e Event) HasMessage() bool {
	return (e.Name == "" || e.Name == "message") && len(bytes.TrimSpace(e.Data)) > 0
}

// Events reads the stream r and yields its events. An event without data is yielded too, if it has
// an id or a reconnection time. An event that is cut off by the end of the stream is dropped, as
// the specification asks.
//
// Events calls hold with the bytes that it is about to hold of an event, as they become more, and
// with 0 before the next event. hold may wait. A nil hold is fine.
//
// Unless the caller leaves the loop, its last round has an error: ErrTooLong after an event with
// more than limit bytes of data, the error of hold, or that of r, which may be io.EOF. Events does
// not close r.
func Events(r io.Reader, limit int, hold func(n int) error) iter.Seq2[Event, error] {
	if hold == nil {
		hold = func(int) error { return nil }
	}
	return func(yield func(Event, error) bool) {
		p := newParser(r, limit)
		p.lines.hold = hold
		defer p.free()
		for {
			e, err := p.next()
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// parser puts the lines of a stream together to events.
type parser struct {
	lines  lineReader
	limit  int
	lastID string
	// data has the lines of data of the event, joined with newlines.
	data []byte
	// started says that the stream's first line was read.
	started bool

	// buf, line and joined are where pooled memory goes back to.
	buf          *[readSize]byte
	line, joined *[]byte
}

func newParser(r io.Reader, limit int) *parser {
	p := &parser{limit: limit, buf: readBuffers.Get().(*[readSize]byte), line: getBuffer(), joined: getBuffer()}
	p.lines = lineReader{r: r, limit: limit, buf: p.buf[:0], line: *p.line}
	p.data = *p.joined
	return p
}

// free gives the memory back. The parser and the last event are of no use any more.
func (p *parser) free() {
	readBuffers.Put(p.buf)
	*p.line, *p.joined = p.lines.line, p.data
	putBuffer(p.line)
	putBuffer(p.joined)
}

// next returns the next event.
func (p *parser) next() (Event, error) {
	if cap(p.data) > readSize { // A stream may last for days, and must not keep a large event's memory for so long.
		spare := p.data
		putBuffer(&spare)
		p.data = nil
	}
	p.data, p.lines.before = p.data[:0], 0
	if err := p.lines.hold(0); err != nil {
		return Event{}, err
	}
	e, hasData := Event{ID: p.lastID, Retry: -1}, false
	for {
		line, err := p.lines.next()
		if err != nil {
			return Event{}, err
		}
		if !p.started {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // a byte order mark
			p.started = true
		}
		if len(line) == 0 {
			if hasData || e.OwnID || e.Retry >= 0 {
				e.Data, p.lastID = p.data, e.ID
				return e, nil
			}
			e.Name = ""
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		if string(field) != "data" {
			e.set(string(field), value)
			continue
		}
		switch {
		case len(p.data)+len(value) > p.limit:
			return Event{}, ErrTooLong
		case !hasData:
			// Most events have one line of data: take over its memory, and leave ours for the next
			// line.
			p.data = p.lines.swap(value, p.data)
		default:
			p.data = append(append(p.data, '\n'), value...)
		}
		hasData, p.lines.before = true, len(p.data)
	}
}

// set notes a field other than data. Fields that are unknown or malformed are left out, as the
// specification asks.
func (e *Event) set(field string, value []byte) {
	switch field {
	case "event":
		e.Name = string(value[:min(len(value), maxName)])
	case "id":
		if bytes.IndexByte(value, 0) < 0 && len(value) <= MaxID {
			e.ID, e.OwnID = string(value), true
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			e.Retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// lineReader cuts a stream into lines. A line ends in LF, CR or CRLF.
type lineReader struct {
	r io.Reader
	// limit is the most bytes of data that a line may have.
	limit int
	// buf[pos:] is read and not yet returned.
	buf []byte
	pos int
	// line is the line that was returned last.
	line []byte
	// before is how many bytes the event has before the line. hold is that of Events.
	before int
	hold   func(n int) error
	// cr says that the last line ended in CR, so that an LF that follows belongs to its end.
	cr bool
}

// next returns the next line, which is valid until the next call. It drops what follows the last
// line end of the stream.
func (l *lineReader) next() ([]byte, error) {
	l.line = l.line[:0]
	for {
		if l.cr && l.pos < len(l.buf) {
			l.cr = false
			if l.buf[l.pos] == '\n' {
				l.pos++
			}
		}
		rest := l.buf[l.pos:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			end = len(rest)
		}
		if i := bytes.IndexByte(rest[:end], '\r'); i >= 0 {
			end = i
		}
		if len(l.line)+end > l.limit+len("data: ") {
			return nil, ErrTooLong
		}
		if err := l.hold(l.before + len(l.line) + end); err != nil {
			return nil, err
		}
		if len(l.line) > 0 && cap(l.line)-len(l.line) < end {
			l.line = slices.Grow(l.line, max(end, len(l.line))) // a long line: double
		}
		l.line = append(l.line, rest[:end]...)
		if end < len(rest) {
			l.cr = rest[end] == '\r'
			l.pos += end + 1
			return l.line, nil
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads the next piece of the stream. All before it has been returned or copied.
func (l *lineReader) fill() error {
	for range maxEmptyReads {
		n, err := l.r.Read(l.buf[:cap(l.buf)])
		l.buf, l.pos = l.buf[:n], 0
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// swap gives the memory of the line that was returned last to the caller, who asks for a part of
// it, and takes spare for the next line.
func (l *lineReader) swap(part, spare []byte) []byte {
	l.line = spare[:0]
	return part
}

// The pools keep memory until the garbage collector wants it.
var (
	readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}
	buffers     = sync.Pool{New: func() any { return new([]byte) }}
)

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}
