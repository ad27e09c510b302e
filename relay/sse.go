package relay

import (
	"bytes"
	"io"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"
)

// event is one entry of an event stream (WHATWG HTML, section 9.2). Only what the relay needs is kept.
type event struct {
	name  string        // "" stands for "message"
	data  []byte        // valid until the next event
	id    string        // the stream's last event id; "" none so far
	ownID bool          // the id came with this event
	retry time.Duration // the server's reconnection time if this event gave one, else -1
}

// events reads the stream r. An event above limit bytes ends it with errTooLong; any other error is r's, io.EOF
// included, so the loop always ends with an error unless the caller leaves it. Events without data are given too when
// they carry an id or a retry: servers open a stream with one so that it can be resumed. An event cut off by the end
// of the stream is dropped, as the specification asks.
func events(r io.Reader, limit int) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		buf := readBuffers.Get().(*[readSize]byte)
		defer readBuffers.Put(buf)
		line, joined := getBuffer(), getBuffer()
		lines := streamLines{r: r, limit: limit, buf: buf[:0], line: *line}
		data := (*joined)[:0] // the lines of an event's data, joined with newlines
		defer func() {
			*line, *joined = lines.line, data
			putBuffer(line)
			putBuffer(joined)
		}()
		e := event{retry: -1}
		hasData := false
		for first := true; ; first = false {
			line, err := lines.next()
			if err != nil {
				yield(event{}, err)
				return
			}
			if first {
				line = bytes.TrimPrefix(line, bom)
			}
			if len(line) == 0 {
				if hasData || e.ownID || e.retry >= 0 {
					e.data = data
					if !yield(e, nil) {
						return
					}
				}
				if cap(data) > readSize { // a stream may last for days
					spare := data
					putBuffer(&spare)
					data = nil
				}
				e = event{id: e.id, retry: -1}
				hasData = false
				data = data[:0]
				continue
			}
			field, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(field) {
			case "data":
				switch {
				case len(data)+len(value) > limit:
					yield(event{}, errTooLong)
					return
				case !hasData:
					// The usual event has one line of data: take the line itself and leave the old buffer for the next.
					data = lines.swap(value, data)
				default:
					data = append(append(data, '\n'), value...)
				}
				hasData = true
			case "event":
				e.name = string(cut(value, 64))
			case "id":
				if bytes.IndexByte(value, 0) < 0 && len(value) <= maxEventID {
					e.id, e.ownID = string(value), true
				}
			case "retry":
				if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
					e.retry = time.Duration(ms) * time.Millisecond
				}
			}
		}
	}
}

// maxEventID is the longest event id, in bytes, that is sent back to resume; it has to fit into a header.
const maxEventID = 4 << 10

// readSize is how many bytes of a stream are read at once.
const readSize = 32 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// streamLines cuts a stream at LF, CR or CRLF.
type streamLines struct {
	r     io.Reader
	limit int
	buf   []byte // read and not yet given out; buf[pos:]
	pos   int
	line  []byte // the line last given out, if it had to be put together
	cr    bool   // the last line ended in CR: an LF that follows belongs to it
}

// next returns the next line, valid until the call after. What follows the last line end is dropped.
func (l *streamLines) next() ([]byte, error) {
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
			return nil, errTooLong
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

// fill reads the next piece once everything before it was given out.
func (l *streamLines) fill() error {
	for range 100 {
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

// swap hands the memory of the line just given out to the caller, who passes a part of it, and takes spare instead.
func (l *streamLines) swap(part, spare []byte) []byte {
	l.line = spare[:0]
	return part
}

// cut returns at most n bytes of b.
func cut(b []byte, n int) []byte { return b[:min(len(b), n)] }
