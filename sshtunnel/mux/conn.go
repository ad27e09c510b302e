package mux

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// MaxLine bounds a line, in bytes, with its end.
const MaxLine = 64 << 10

var (
	// ErrUnavailable is wrapped by the error of Way.Find if no connection can be shared here. The
	// chain is then dialed in this process.
	ErrUnavailable = errors.New("no shared connection")

	// ErrAlone is the ErrUnavailable of a process that does better by itself. Nobody is warned.
	ErrAlone = fmt.Errorf("%w: this process connects by itself", ErrUnavailable)

	// ErrLineTooLong is the error of a line that has more than MaxLine bytes.
	ErrLineTooLong = errors.New("line too long")
)

// Dialer opens one new connection to a server. It has checked that the server belongs to this user.
// Nothing has been read from the connection.
type Dialer func(ctx context.Context) (net.Conn, error)

// Way leads to the server of one chain of hops.
type Way struct {
	// Key is the same for two chains if they may share a connection. It is cheap to make.
	Key string
	// Find finds the server, or starts it. The Dialer leads to that one process as long as it
	// lives. The error wraps ErrUnavailable if the chain is to be dialed in this process instead.
	Find func(ctx context.Context) (Dialer, error)
	// Silent tells that the server which Find has returned last does not answer. The next Find
	// does not wait for it long. It may be nil.
	Silent func()
}

// VersionError says that a server speaks another version of the protocol.
type VersionError struct {
	// Server is the version that the server speaks.
	Server int
}

// Error names both versions.
func (e *VersionError) Error() string {
	const words = "the shared connection speaks version %d of its protocol, not %d"
	return fmt.Sprintf(words, e.Server, Version)
}

// Conn is a connection to a client or to a server. At first it carries lines, and then it may carry
// bytes. One goroutine may read while others write lines.
type Conn struct {
	net.Conn

	// lines reads lines. It is nil once bytes are read.
	lines *bufio.Reader
	// left are bytes that came right behind the last line.
	left []byte

	// writing is held while a line is written.
	writing sync.Mutex
	// shut says that Shutdown has closed the connection, which has no other end.
	shut atomic.Bool
}

// NewConn makes a Conn of a new connection.
func NewConn(conn net.Conn) *Conn {
	return &Conn{Conn: conn, lines: bufio.NewReaderSize(conn, 1<<10)}
}

// ReadLine reads a line into v, which is a pointer. It must not be called after Read. At the end of
// the connection the error is io.EOF.
func (c *Conn) ReadLine(v any) error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("malformed line: %w", err)
	}
	return nil
}

// readLine returns a line, which is valid until the next call.
func (c *Conn) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := c.lines.ReadSlice('\n')
		if err == nil && line == nil {
			return part, nil
		}
		line = append(line, part...)
		switch {
		case len(line) > MaxLine:
			return nil, ErrLineTooLong
		case err == nil:
			return line, nil
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return nil, c.ended(err)
		}
	}
}

// WriteLine writes v as one line. It may be called concurrently.
func (c *Conn) WriteLine(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(line) >= MaxLine {
		return ErrLineTooLong
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err = c.Conn.Write(append(line, '\n'))
	return err
}

// Read reads bytes behind the lines. At the end of the connection it returns io.EOF, also if the
// other side has not read all that it was sent.
func (c *Conn) Read(p []byte) (int, error) {
	if c.lines != nil {
		c.left, _ = c.lines.Peek(c.lines.Buffered())
		c.lines = nil
	}
	if len(c.left) > 0 {
		n := copy(p, c.left)
		if c.left = c.left[n:]; len(c.left) == 0 {
			c.left = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	return n, c.ended(err)
}

// ended replaces the error of a connection whose other side has ended without reading all, or that
// Shutdown has closed.
func (c *Conn) ended(err error) error {
	if errors.Is(err, syscall.ECONNRESET) || c.shut.Load() && errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// CloseWrite ends what is written. Reading goes on.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Shutdown ends both directions at once. What has come can still be read, but not on Windows. The
// connection must still be closed.
func (c *Conn) Shutdown() {
	if half, ok := c.Conn.(interface{ CloseRead() error }); ok {
		c.CloseWrite()
		half.CloseRead()
		return
	}
	c.shut.Store(true)
	c.Conn.Close()
}

// Within runs f, and makes it fail when ctx ends. The error is then the cause of ctx, and the
// connection is of no more use.
func (c *Conn) Within(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		return context.Cause(ctx) // also after a success: the deadline may be set at any time now
	}
	return err
}

// Open reads the server's greeting, and sends a request. Its version is set here. ctx bounds the
// call. If it fails, it closes the connection.
func Open(ctx context.Context, conn net.Conn, req Request) (*Conn, Greeting, error) {
	c, g := NewConn(conn), Greeting{}
	req.Mux = Version
	err := c.Within(ctx, func() error {
		if err := c.ReadLine(&g); err != nil {
			return err
		}
		if g.Mux != Version && !forAll(req.Op) {
			return &VersionError{Server: g.Mux}
		}
		return c.WriteLine(req)
	})
	if err != nil {
		conn.Close()
		return nil, g, err
	}
	return c, g, nil
}

// forAll reports whether an operation is the same in all versions.
func forAll(op string) bool { return op == OpStatus || op == OpDrain || op == OpStop }

// Receive reads the next line of the server within ctx.
func (c *Conn) Receive(ctx context.Context) (Reply, error) {
	var r Reply
	err := c.Within(ctx, func() error { return c.ReadLine(&r) })
	return r, err
}

// ask sends a request that is answered by one line.
func ask(ctx context.Context, conn net.Conn, req Request) (Reply, error) {
	c, _, err := Open(ctx, conn, req)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	r, err := c.Receive(ctx)
	if err == nil && r.Error != nil {
		err = r.Error
	}
	return r, err
}

// AskStatus asks a server how it is. It closes the connection.
func AskStatus(ctx context.Context, conn net.Conn) (Status, error) {
	r, err := ask(ctx, conn, Request{Op: OpStatus})
	if err == nil && r.Status == nil {
		err = errors.New("the shared connection sent no status")
	}
	if err != nil {
		return Status{}, err
	}
	return *r.Status, nil
}

// AskDrain asks a server to take no new stream, and to end when its streams have ended. The server
// has done the former when AskDrain returns. It closes the connection.
func AskDrain(ctx context.Context, conn net.Conn, why string) error {
	_, err := ask(ctx, conn, Request{Op: OpDrain, Why: why})
	return err
}

// AskStop asks a server to end now. It closes the connection.
func AskStop(ctx context.Context, conn net.Conn) error {
	_, err := ask(ctx, conn, Request{Op: OpStop})
	return err
}

// Hung reports whether the other side has closed the connection, so that nothing can be sent any
// more. It is false if the system does not tell.
func (c *Conn) Hung() bool {
	raw, ok := c.raw()
	hung := false
	if ok {
		raw.Control(func(fd uintptr) { hung = hungUp(fd) })
	}
	return hung
}

// AwaitHangup returns when nothing can be sent any more, or when the connection is closed. It must
// be called after the end of reading, and nothing may be read meanwhile. It returns os.ErrInvalid
// if the system does not tell.
func (c *Conn) AwaitHangup() error {
	raw, ok := c.raw()
	if !ok {
		return os.ErrInvalid
	}
	return raw.Read(func(fd uintptr) bool { return hungUp(fd) })
}

// Ended returns a channel that is closed when AwaitHangup returns.
func (c *Conn) Ended() <-chan struct{} {
	over := make(chan struct{})
	go func() { // ends with the connection
		defer close(over)
		c.AwaitHangup()
	}()
	return over
}

// raw returns the connection of the system, if it can tell a hang-up.
func (c *Conn) raw() (syscall.RawConn, bool) {
	unix, ok := c.Conn.(*net.UnixConn)
	if !ok || !tellsHangup {
		return nil, false
	}
	raw, err := unix.SyscallConn()
	return raw, err == nil
}
