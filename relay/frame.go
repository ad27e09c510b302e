package relay

import (
	"bufio"
	"errors"
	"io"
)

// maxMessage is the most one JSON-RPC message may hold, in bytes, in either direction.
const maxMessage = 64 << 20

// errTooLong reports a message above maxMessage.
var errTooLong = errors.New("message longer than 64 MiB")

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
	var f idFinder
	f.feed(line)
	f.feed(part)
	for err == bufio.ErrBufferFull {
		part, err = l.r.ReadSlice('\n')
		f.feed(part)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	return f.id, errTooLong
}

// lineWriter is the only way to the host: one Write per line, one line at a time.
type lineWriter struct {
	w io.Writer
	// lock holds one token. It is a channel and not a mutex so that a line waiting behind a host that has stopped
	// reading can give up when the session ends.
	lock chan struct{}
	quit chan struct{} // closed when waiting for the lock has no more sense
	err  error         // first failure; guarded by lock
}

func newLineWriter(w io.Writer) *lineWriter {
	return &lineWriter{w: w, lock: make(chan struct{}, 1), quit: make(chan struct{})}
}

// line writes b and a newline. It may use b's spare capacity.
func (w *lineWriter) line(b []byte) error {
	b = append(b, '\n')
	select {
	case w.lock <- struct{}{}:
	case <-w.quit:
		return errClosing
	}
	defer func() { <-w.lock }()
	if w.err == nil {
		// After a failure the host may have half a line; anything more would only damage it further.
		_, w.err = w.w.Write(b)
	}
	return w.err
}
