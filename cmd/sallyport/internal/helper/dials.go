package helper

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// maxBytes is the most bytes of one message of type TypeBytes. They are written in base64.
	maxBytes = 32 << 10
	// maxDialed is how many connections one login makes for its helper at a time.
	maxDialed = 256
	// maxDialLine is the most bytes of the line of either side with which a stream begins.
	maxDialLine = 1 << 10
	// dialedBacklog is how many streams of the other side may wait. A helper accepts none.
	dialedBacklog = 16
)

// DialFunc makes a connection to addr, which is host:port, for the browser that shows the login
// page link.
type DialFunc func(ctx context.Context, link, addr string) (net.Conn, error)

// tube is a connection of bytes within one of messages. It reads what take gets.
type tube struct {
	conn *Conn
	*io.PipeReader
	taken *io.PipeWriter
}

func newTube(conn *Conn) *tube {
	r, w := io.Pipe()
	return &tube{conn, r, w}
}

// Write sends messages.
func (t *tube) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		part := b[:min(len(b), maxBytes)]
		if err := t.conn.Send(Message{Type: TypeBytes, Bytes: base64.StdEncoding.EncodeToString(part)}); err != nil {
			return n, err
		}
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}

// take gives Read the bytes of a message.
func (t *tube) take(b string) {
	if text, err := base64.StdEncoding.DecodeString(b); err == nil {
		t.taken.Write(text)
	}
}

// Close ends Read, and what waits for it.
func (t *tube) Close() error { return errors.Join(t.PipeReader.Close(), t.taken.Close()) }

// Dialer makes connections from where a login is, on the side of the helper. Its methods may be
// called concurrently. Nothing is sent before the first Dial.
type Dialer struct {
	conn *Conn

	// mu guards what follows.
	mu      sync.Mutex
	tube    *tube
	session *yamux.Session
	closed  bool
}

// NewDialer returns a Dialer that sends on conn. The caller gives it the bytes that come, and must
// Close it after conn.
func NewDialer(conn *Conn) *Dialer { return &Dialer{conn: conn} }

// Take takes the bytes of a message of type TypeBytes.
func (d *Dialer) Take(b string) {
	d.mu.Lock()
	t := d.tube
	d.mu.Unlock()
	if t != nil { // otherwise nobody has asked for any
		t.take(b)
	}
}

// Close ends the connections.
func (d *Dialer) Close() error {
	d.mu.Lock()
	session := d.session
	d.closed = true
	d.mu.Unlock()
	if session == nil {
		return nil
	}
	return session.Close()
}

// begin returns the session, and begins one if there is none.
func (d *Dialer) begin() (*yamux.Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, net.ErrClosed
	}
	if d.session == nil || d.session.IsClosed() {
		t := newTube(d.conn)
		config := sessionConfig()
		config.AcceptBacklog = dialedBacklog
		session, err := yamux.Client(&pipes{&frames{Reader: t}, t}, config)
		if err != nil {
			return nil, err
		}
		d.tube, d.session = t, session
	}
	return d.session, nil
}

// dialRequest is the first line of a stream, and dialAnswer that of the answer.
type dialRequest struct {
	// Addr is host:port.
	Addr string `json:"addr"`
}

type dialAnswer struct {
	OK bool `json:"ok,omitempty"`
	// Text says why there is no connection. It is the peer's.
	Text string `json:"text,omitempty"`
}

// Dial has the login connect to addr, as net.Dialer.DialContext does. The network is TCP.
func (d *Dialer) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	session, err := d.begin()
	if err != nil {
		return nil, err
	}
	stream, err := session.Open() // may wait for Take, so not under the lock
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { stream.SetDeadline(time.Unix(1, 0)) })
	var answer dialAnswer
	if err = writeLine(stream, dialRequest{addr}); err == nil {
		err = readLine(stream, &answer)
	}
	switch {
	case !stop():
		err = context.Cause(ctx)
	case err == nil && !answer.OK:
		err = fmt.Errorf("the login there says: %.200q", answer.Text)
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	return stream, nil
}

// writeLine sends the first line of a stream.
func writeLine(to io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = to.Write(append(line, '\n'))
	return err
}

// readLine reads the first line of a stream, and no byte of what follows.
func readLine(from io.Reader, v any) error {
	var line []byte
	for one := make([]byte, 1); len(line) < maxDialLine; line = append(line, one[0]) {
		if _, err := io.ReadFull(from, one); err != nil {
			return err
		}
		if one[0] == '\n' {
			return json.Unmarshal(line, v)
		}
	}
	return bufio.ErrTooLong
}

// dialed makes connections for a helper, on the side of the login. One goroutine calls its methods.
type dialed struct {
	login  *login
	conn   *Conn
	ctx    context.Context
	cancel context.CancelFunc
	// tube and session are nil before the helper has sent any bytes.
	tube    *tube
	session *yamux.Session
	running sync.WaitGroup
	slots   chan struct{}
}

func newDialed(g *login, conn *Conn) *dialed {
	d := &dialed{login: g, conn: conn, slots: make(chan struct{}, maxDialed)}
	d.ctx, d.cancel = context.WithCancel(g.ctx)
	return d
}

// take takes the bytes of a message. The first ones begin to serve.
func (d *dialed) take(b string) {
	if d.login.logins.cfg.Dial == nil {
		return
	}
	if d.session == nil || d.session.IsClosed() {
		t := newTube(d.conn)
		session, err := yamux.Server(&pipes{&frames{Reader: t}, t}, sessionConfig())
		if err != nil {
			return
		}
		d.tube, d.session = t, session
		d.running.Go(func() { // ends with the session
			for stream, err := session.Accept(); err == nil; stream, err = session.Accept() {
				d.slots <- struct{}{}
				d.running.Go(func() { // ends with the stream, or with close
					defer func() { <-d.slots }()
					d.serve(stream)
				})
			}
		})
	}
	d.tube.take(b)
}

// close ends the connections, and waits for that. The connection of the messages must be closed.
func (d *dialed) close() {
	d.cancel()
	if d.session != nil {
		d.session.Close()
	}
	d.running.Wait()
}

// errNotNow refuses a connection without a login page.
var errNotNow = errors.New("no login page is shown")

// serve makes one connection, and carries it.
func (d *dialed) serve(stream net.Conn) {
	defer stream.Close()
	defer context.AfterFunc(d.ctx, func() { stream.SetDeadline(time.Unix(1, 0)) })()
	var request dialRequest
	stream.SetReadDeadline(time.Now().Add(firstLineTimeout))
	if err := readLine(stream, &request); err != nil {
		return
	}
	stream.SetReadDeadline(time.Time{})
	conn, err := d.dial(request.Addr)
	if err != nil {
		writeLine(stream, dialAnswer{Text: fmt.Sprintf("%.300s", err)})
		return
	}
	defer conn.Close()
	if writeLine(stream, dialAnswer{OK: true}) != nil {
		return
	}
	defer context.AfterFunc(d.ctx, func() { conn.Close() })()
	splice(stream, conn)
}

// dial connects for the login page that is shown.
func (d *dialed) dial(addr string) (net.Conn, error) {
	d.login.mu.Lock()
	prompt, over := d.login.prompt, d.login.over
	d.login.mu.Unlock()
	if prompt == nil || over {
		return nil, errNotNow
	}
	return d.login.logins.cfg.Dial(d.ctx, prompt.AuthorizeURL, addr)
}
