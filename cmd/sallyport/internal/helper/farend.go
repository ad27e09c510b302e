package helper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"sallyport/cmd/sallyport/internal/localsock"
)

// FarCommand is the hidden command of a far end. Carry runs it on HOST, --callback-via runs it with
// JoinFlag on the workstation, and DialPort with DialFlag on HOST.
const (
	FarCommand = "far-end"
	JoinFlag   = "--join"
	DialFlag   = "--dial"
)

const (
	// pingInterval and pingPatience find out that the other end of a session is gone.
	pingInterval, pingPatience = 15 * time.Second, 10 * time.Second
	// maxCarried is how many connections one far end carries at a time. More wait in the queue of
	// its socket.
	maxCarried = 512
	// closing is how long one direction of a connection may outlast the other.
	closing = 10 * time.Second
)

// FarEnd owns a helper socket on HOST. It carries each connection to the workstation, over the
// stdin and stdout that its session channel of SSH gives it.
type FarEnd struct {
	// Dirs are those of helper sockets.
	Dirs []string
	// Version and Program are those of this program, for the greeting.
	Version, Program string
	// In and Out lead to the workstation.
	In  io.Reader
	Out io.Writer
}

// Run serves until In ends, the workstation does not answer any more, or ctx ends. Then the socket
// is gone. The error says why there is no socket, and the workstation is told, too.
func (f FarEnd) Run(ctx context.Context) error {
	g := greeting{Protocol: Version, Version: f.Version, Program: f.Program}
	l, err := Listen(f.Dirs)
	if err != nil {
		g.Error = err.Error()
		return errors.Join(err, g.write(f.Out))
	}
	defer l.Close()
	g.Socket = l.Path()
	if err := g.write(f.Out); err != nil {
		return err
	}
	session, err := yamux.Client(&pipes{f.In, f.Out}, sessionConfig())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var carrying sync.WaitGroup
	places := make(chan struct{}, maxCarried)
	carry := func(from net.Conn, dial func() (net.Conn, error)) {
		places <- struct{}{}
		carrying.Go(func() { // ends with either connection, and so with the session
			defer func() { <-places }()
			to, err := dial()
			if err != nil {
				from.Close()
				return
			}
			splice(from, to)
		})
	}
	go func() { // ends with the listener
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			carry(conn, session.Open)
		}
		cancel()
	}()
	go func() { // ends with the session
		for stream, err := session.Accept(); err == nil; stream, err = session.Accept() {
			carry(stream, func() (net.Conn, error) { return localsock.Dial(ctx, g.Socket) })
		}
		cancel()
	}()
	<-ctx.Done()
	// Closing waits for the read of In, which cannot be interrupted. The process ends after this.
	go session.Close()
	return nil
}

// sessionConfig returns the settings of both ends of a session.
func sessionConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.KeepAliveInterval, c.ConnectionWriteTimeout = pingInterval, pingPatience
	c.StreamCloseTimeout = time.Minute
	c.LogOutput, c.Logger = nil, slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	return c
}

// pipes joins a reader and a writer.
type pipes struct {
	io.Reader
	io.Writer
}

// Close closes what can be closed.
func (p *pipes) Close() error {
	var errs []error
	for _, one := range []any{p.Reader, p.Writer} {
		if c, ok := one.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// splice carries bytes both ways until both connections have ended, and closes them.
func splice(a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	ended := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		} else {
			to.Close() // a stream can still be read after that
		}
		ended <- struct{}{}
	}
	go carry(a, b)
	go carry(b, a)
	<-ended
	late := time.Now().Add(closing)
	a.SetDeadline(late)
	b.SetDeadline(late)
	<-ended
}

// Join connects In and Out to a helper of this machine, and serves until either ends. The helper is
// told that the login is that of the machine from. The greeting is written only if there is a
// helper. The error is ErrNoHelper if there is none.
func (f FarEnd) Join(ctx context.Context, from string) error {
	for _, path := range Sockets(f.Dirs) {
		dialing, cancel := context.WithTimeout(ctx, hereTimeout)
		conn, err := Dial(dialing, path)
		cancel()
		if err != nil {
			continue
		}
		ours, err := f.Greet()
		if err != nil {
			conn.Close()
			return err
		}
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		return joinConns(conn, ours, from)
	}
	return ErrNoHelper
}

// joinConns connects a login to a helper. It adds to the hold where the login comes from.
func joinConns(helper, login net.Conn, from string) error {
	defer helper.Close()
	defer login.Close()
	r := bufio.NewReaderSize(login, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			return errors.New("the other side does not speak the protocol of helpers")
		}
		isHold := m["type"] == TypeHold
		if isHold {
			m["from"] = from
			text, err := json.Marshal(m)
			if err != nil {
				return err
			}
			line = append(text, '\n')
		}
		if _, err := helper.Write(line); err != nil {
			return err
		}
		if isHold {
			break
		}
		if err := passHello(login, helper); err != nil {
			return err
		}
	}
	rest, err := r.Peek(r.Buffered())
	if err != nil {
		return err
	}
	splice(helper, &openedConn{Conn: login, rest: rest})
	return nil
}

// passHello carries the helper's hello, which a login awaits before it says hold.
func passHello(login, helper net.Conn) error {
	opened := &openedConn{Conn: helper}
	if err := opened.readFirstLine(); err != nil {
		return err
	}
	_, err := login.Write(opened.rest)
	return err
}

// Greet writes the greeting, and returns In and Out as a connection of one login.
func (f FarEnd) Greet() (net.Conn, error) {
	g := greeting{Protocol: Version, Version: f.Version, Program: f.Program}
	if err := g.write(f.Out); err != nil {
		return nil, err
	}
	return newStdioConn(f.In, f.Out), nil
}
