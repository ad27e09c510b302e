package relay

import (
	"bufio"
	"errors"
	"io"
	"runtime"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

// maxMessage is the most bytes that one JSON-RPC message may have, in either direction.
const maxMessage = 64 << 20

// errTooLong reports a message above maxMessage.
var errTooLong = errors.New("message longer than 64 MiB")

// isTooLong reports whether err means that a message was above maxMessage, be it in a line, a body
// or an event stream.
func isTooLong(err error) bool { return errors.Is(err, errTooLong) || errors.Is(err, sse.ErrTooLong) }

// lineReader cuts the host's stream at newlines.
type lineReader struct {
	r *bufio.Reader
	// limit is the most bytes that a line may have, without its newline.
	limit int
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), limit: limit}
}

// next returns the next line, without its newline, in memory of its own. What comes after the last
// newline is a line, too.
//
// A line above the limit is read to its end and thrown away. Then err is errTooLong, and line is
// the raw id of the message in it, or nil if it has none.
func (l *lineReader) next() (line []byte, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > l.limit+1 {
			return l.discard(line, part, err)
		}
		if line == nil && err == bufio.ErrBufferFull {
			line = make([]byte, 0, 4*len(part)) // a long line will grow several times, so start with much room
		}
		line = append(line, part...)
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == nil:
			return line[:len(line)-1], nil
		case len(line) > l.limit && err == io.EOF:
			return l.discard(line, nil, err)
		case len(line) > 0 && err == io.EOF:
			return line, nil
		}
		return nil, err
	}
}

// discard reads on to the end of a line that is too long, and keeps nothing but its id. err is that
// of the last read.
func (l *lineReader) discard(line, part []byte, err error) ([]byte, error) {
	var f rawjson.IDFinder
	f.Feed(line)
	f.Feed(part)
	for err == bufio.ErrBufferFull {
		part, err = l.r.ReadSlice('\n')
		f.Feed(part)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	return f.ID(), errTooLong
}

// lineWriter is the only way to the host. Each Write holds whole lines, and no line is in two.
//
// A Write wakes the host. Where several calls are in flight, their answers often come at the same
// time, and it is cheaper for both sides to write them together: see gather in line.
type lineWriter struct {
	w io.Writer
	// lock holds one token. It is a channel and no mutex, so that a line that waits behind a host
	// that has stopped reading can give up when the session ends.
	lock chan struct{}
	// quit is closed when nobody shall wait for the lock any more.
	quit chan struct{}

	// err is the first failure of w. It is guarded by lock.
	err error
	// waiting has the lines that wait for others. It is guarded by lock.
	waiting []byte
}

const (
	gatherSize  = 32 << 10 // bytes of lines that wait for others, at most
	gatherCrowd = 3        // calls in flight from which on we expect other answers at the same time
)

func newLineWriter(w io.Writer) *lineWriter {
	return &lineWriter{w: w, lock: make(chan struct{}, 1), quit: make(chan struct{})}
}

// line writes b and a newline. It may use the spare capacity of b. The error is errClosing or that
// of the first Write that failed.
//
// With gather, a short line first lets all goroutines run that are ready to. Lines that they write
// go out in the same Write.
func (w *lineWriter) line(b []byte, gather bool) error {
	b = append(b, '\n')
	gather = gather && len(b) < gatherSize/4
	if !w.take() {
		return errClosing
	}
	if gather {
		w.waiting = append(w.waiting, b...)
		b = nil
		if len(w.waiting) < gatherSize {
			<-w.lock
			runtime.Gosched()
			if !w.take() {
				return errClosing
			}
		}
	}
	defer func() { <-w.lock }()
	w.write(w.waiting)
	w.waiting = w.waiting[:0]
	w.write(b)
	return w.err
}

// take takes the lock. It reports false if nobody shall wait for it any more.
func (w *lineWriter) take() bool {
	select {
	case w.lock <- struct{}{}:
		return true
	case <-w.quit:
		return false
	}
}

// write writes whole lines, if there are any. After a failure it writes nothing: the host may have
// half a line, and more bytes would only make a wrong line of it.
func (w *lineWriter) write(b []byte) {
	if w.err == nil && len(b) > 0 {
		_, w.err = w.w.Write(b)
	}
}
