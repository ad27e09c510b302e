package relay

import (
	"bufio"
	"errors"
	"io"
	"runtime"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

// maxMessage is the most one JSON-RPC message may hold, in bytes, in either direction.
const maxMessage = 64 << 20

// errTooLong reports a message above maxMessage.
var errTooLong = errors.New("message longer than 64 MiB")

// isTooLong reports whether err ends what held a message above maxMessage: a line, a body or an event stream.
func isTooLong(err error) bool { return errors.Is(err, errTooLong) || errors.Is(err, sse.ErrTooLong) }

// lineReader cuts the host's stream at newlines.
type lineReader struct {
	r     *bufio.Reader
	limit int
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), limit: limit}
}

// next returns the next line in a slice of its own, without its newline. The bytes after the last newline are a
// line too. A line above the limit is read to its end and thrown away; then err is errTooLong and line holds the
// raw JSON of its top-level id, nil if none was seen.
func (l *lineReader) next() (line []byte, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > l.limit+1 {
			return l.discard(line, part, err)
		}
		if line == nil && err == bufio.ErrBufferFull {
			line = make([]byte, 0, 4*len(part)) // a long line: start where growing is cheap
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

// discard reads on to the end of an overlong line and keeps nothing but its id.
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

// lineWriter is the only way to the host. Each Write holds whole lines, and a line is in one Write.
type lineWriter struct {
	w io.Writer
	// lock holds one token. It is a channel and not a mutex so that a line waiting behind a host that has stopped
	// reading can give up when the session ends.
	lock chan struct{}
	quit chan struct{} // closed when waiting for the lock has no more sense

	// guarded by lock
	err     error  // first failure
	waiting []byte // lines that wait for others
}

const (
	gatherSize  = 32 << 10 // bytes of lines that wait for others at most
	gatherCrowd = 3        // calls in flight that let us expect others
)

func newLineWriter(w io.Writer) *lineWriter {
	return &lineWriter{w: w, lock: make(chan struct{}, 1), quit: make(chan struct{})}
}

// line writes b and a newline. It may use b's spare capacity. With gather, other lines that are about to be written at this time go with it.
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
			runtime.Gosched() // for those who are about to write
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

// take takes the lock; false: waiting for it has no more sense.
func (w *lineWriter) take() bool {
	select {
	case w.lock <- struct{}{}:
		return true
	case <-w.quit:
		return false
	}
}

// write writes whole lines, if there are any. After a failure the host may have half a line; anything more would only damage it further.
func (w *lineWriter) write(b []byte) {
	if w.err == nil && len(b) > 0 {
		_, w.err = w.w.Write(b)
	}
}
