// Package audit keeps the audit log: a file with a JSON line for each call, to which several
// processes write at the same time.
//
// Each line is appended with one write to a file that is opened with O_APPEND, so lines of several
// processes never mix. The file is opened anew for each line: that costs some microseconds, and the
// process notices by itself when another one has rotated it. That is why the library of the log
// file is not used here. It keeps the file open and knows nothing of other processes, so after
// their rotation it would go on writing to the old file, and two of them would rotate twice.
//
// A file above maxBytes is renamed to FILE.1, FILE.1 to FILE.2 and so on, up to FILE.3, under a
// lock on FILE.lock that only rotation takes.
//
// Nothing here may stop a call: lines are written in the background, and what cannot be written is
// lost. That is told once.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"sallyport/cmd/sallyport/internal/person"

	"github.com/gofrs/flock"
)

const (
	// maxBytes is how large the file becomes before it is rotated.
	maxBytes = 5 << 20
	// backups is how many old files stay beside it.
	backups = 3
	// maxWaiting is how many lines wait to be written. Further ones are lost.
	maxWaiting = 1024
)

// Log is an open audit log. The caller must Close it.
type Log struct {
	path string
	log  *slog.Logger
	// maxBytes is the constant of this name. A test makes it smaller.
	maxBytes int64
	lines    chan []byte
	written  sync.WaitGroup
	warned   sync.Once

	// mu guards closed: no line is sent after it.
	mu     sync.Mutex
	closed bool
}

// Open begins an audit log in a file, and makes that if it is missing, with the mode 0600. The log
// gets a warning if lines are lost later. The error says why the file cannot be written.
func Open(path string, log *slog.Logger) (*Log, error) {
	// A pipe without a reader would block the start, and a terminal is no log.
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	l := &Log{path: path, log: log, maxBytes: maxBytes, lines: make(chan []byte, maxWaiting)}
	l.written.Go(l.write) // ends with Close
	return l, nil
}

func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Add writes a value as a line, in the background.
func (l *Log) Add(value any) {
	line, err := encode(value)
	if err != nil {
		l.lost(err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.lines <- line:
	default:
		l.lost(fmt.Errorf("%d lines wait already", maxWaiting))
	}
}

// encode returns a value as a line of JSON that a terminal may show.
func encode(value any) ([]byte, error) {
	var b lineBuffer
	err := person.WriteJSONLine(&b, value)
	return b.line, err
}

// lineBuffer collects what is written to it.
type lineBuffer struct{ line []byte }

// Write implements io.Writer.
func (b *lineBuffer) Write(p []byte) (int, error) {
	b.line = append(b.line, p...)
	return len(p), nil
}

// Close writes what waits, and ends the log. A nil Log has nothing to end.
func (l *Log) Close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.lines)
	}
	l.mu.Unlock()
	l.written.Wait()
}

// write writes the lines until Close.
func (l *Log) write() {
	cut := false // the last write was cut short, so the line is not complete
	for line := range l.lines {
		if cut {
			line = append([]byte{'\n'}, line...)
		}
		n, size, err := appendTo(l.path, line)
		if n > 0 {
			cut = n < len(line)
		}
		if err != nil {
			l.lost(err)
		}
		if size > l.maxBytes {
			l.rotate()
		}
	}
}

// appendTo appends a line with one write. It returns how much of it was written, and the size of
// the file then.
func appendTo(path string, line []byte) (n int, size int64, err error) {
	f, err := open(path)
	if err != nil {
		return 0, 0, err
	}
	n, err = f.Write(line)
	if fi, statErr := f.Stat(); statErr == nil {
		size = fi.Size()
	}
	return n, size, errors.Join(err, f.Close())
}

// rotate renames the files, unless another process does so. If it fails, the file grows on.
func (l *Log) rotate() {
	lock := flock.New(l.path+".lock", flock.SetPermissions(0o600))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return
	}
	defer lock.Close()
	// Another process may have rotated the file since it was written to.
	if fi, err := os.Stat(l.path); err != nil || fi.Size() <= l.maxBytes {
		return
	}
	for i := backups; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.log.Debug("the audit log is not rotated", "err", err)
		}
	}
}

// lost tells once that lines are missing.
func (l *Log) lost(err error) {
	l.warned.Do(func() {
		l.log.Warn("the audit log is not complete; calls go on", "err", err)
	})
}

// Line is a line of the log. Its JSON is a contract with programs.
type Line struct {
	// Time is RFC 3339, in UTC, to the millisecond.
	Time string `json:"time"`
	// Upstream is the URL without its query, and Profile names the account there.
	Upstream string `json:"upstream"`
	Profile  string `json:"profile"`
	// Method is tools/call, resources/read or prompts/get.
	Method string `json:"method"`
	// Tool is the name of the tool. The name of a prompt is in Name, and that of a resource in URI,
	// without its query.
	Tool string `json:"tool,omitempty"`
	Name string `json:"name,omitempty"`
	URI  string `json:"uri,omitempty"`
	// Outcome is ok, tool_error, error, input_required, cancelled, refused or no_answer. Code is
	// that of the JSON-RPC error, and Kind the word of an error of sallyport's own.
	Outcome string `json:"outcome"`
	Code    int    `json:"code,omitempty"`
	Kind    string `json:"kind,omitempty"`
	// Milliseconds is how long the call took.
	Milliseconds json.Number `json:"duration_ms"`
	// Client is what the MCP host calls itself, and Process the ID of the proxy's process.
	Client  string `json:"client,omitempty"`
	Process int    `json:"pid"`
	// Trace is the trace ID of W3C Trace Context, if the host has given one.
	Trace string `json:"trace_id,omitempty"`
}
