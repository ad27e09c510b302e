package relay

import (
	"bufio"
	"errors"
	"io"

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

// lineWriter is the only way to the host. Each Write holds one whole line.
type lineWriter struct {
	w io.Writer
	// lock holds one token. It is a channel and no mutex, so that a line that waits behind a host
	// that has stopped reading can give up when the session ends.
	lock chan struct{}
	// quit is closed when nobody shall wait for the lock any more.
	quit chan struct{}
	// err is the first failure of w. It is guarded by lock.
	err error
}

func newLineWriter(w io.Writer) *lineWriter {
	return &lineWriter{w: w, lock: make(chan struct{}, 1), quit: make(chan struct{})}
}

// line writes b and a newline. It may use the spare capacity of b. The error is errClosing or that
// of the first Write that failed. After that one nothing is written: the host may have half a line,
// and more bytes would only make a wrong line of it.
func (w *lineWriter) line(b []byte) error {
	select {
	case w.lock <- struct{}{}:
	case <-w.quit:
		return errClosing
	}
	defer func() { <-w.lock }()
	if w.err == nil {
		_, w.err = w.w.Write(append(b, '\n'))
	}
	return w.err
}
