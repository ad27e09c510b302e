package helper

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/yamux"

	"sallyport/sshtunnel"
	"sallyport/sshtunnel/netwatch"
)

const (
	// greetingTimeout bounds how long a login shell on HOST may take before our command prints.
	greetingTimeout = 15 * time.Second
	// firstLineTimeout bounds how long a connection may say nothing.
	firstLineTimeout = 10 * time.Second
	// maxFirstLine is the most bytes of the first line: a hello, or the line of a proof.
	maxFirstLine = 4 << 10
)

// runningTimeout is a timeout that hardly counts the time in which this machine slept.
func runningTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return netwatch.WithRunningTimeout(ctx, d)
}

// byExec starts a sallyport on HOST. The error is that of the tunnel, a *MissingError, an *OldError
// or a *FarEndError, or says that no command of ours runs there.
func (c *Carrier) byExec(ctx context.Context) (*way, error) {
	ctx, cancel := runningTimeout(ctx, greetingTimeout)
	defer cancel()
	process, err := c.cfg.Tunnel.Exec(ctx, farCommand(FarCommand))
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(process, maxFirstLine)
	g, err := greetingOf(ctx, c.name(), r, process)
	if err != nil {
		process.Close()
		return nil, err
	}
	session, err := yamux.Server(&pipes{&frames{Reader: r}, process}, sessionConfig())
	if err != nil {
		process.Close()
		return nil, err
	}
	c.running.Go(func() { c.takeAll(session.Accept) }) // ends with the session
	return &way{
		state: CarryState{Way: ByExec, Socket: g.Socket, Version: g.Version, Program: g.Program},
		dial:  func(context.Context) (net.Conn, error) { return session.Open() },
		done:  session.CloseChan(),
		close: func() { session.Close() },
	}, nil
}

// greetingOf reads the greeting of a process on a host, and judges it.
func greetingOf(ctx context.Context, host string, r *bufio.Reader, process io.Closer) (greeting, error) {
	stop := context.AfterFunc(ctx, func() { process.Close() })
	g, err := readGreeting(r)
	exit, exited := errors.AsType[*sshtunnel.ExitError](err)
	switch {
	case !stop(): // ctx has closed the process
		return g, fmt.Errorf("%w: %w", errNoGreeting, context.Cause(ctx))
	case exited && exit.Status == usageStatus:
		return g, &OldError{Host: host}
	case exited && exit.Status < 0:
		return g, fmt.Errorf("the connection to %s was lost: %w", host, net.ErrClosed)
	case err != nil:
		return g, fmt.Errorf("%w: %w", errNoGreeting, err)
	case g.Protocol == 0:
		return g, &MissingError{Host: host, Program: g.Program, Status: g.Status, System: g.System}
	case g.Protocol != Version:
		return g, &OldError{Host: host, Version: g.Version}
	case g.Error != "":
		return g, &FarEndError{Host: host, Text: g.Error}
	}
	return g, nil
}

// usageStatus is the exit status of a sallyport that does not know its command line.
const usageStatus = 2

// byForward asks the sshd of HOST for a Unix socket. The error is that of the tunnel, or a
// *sshtunnel.ListenError.
func (c *Carrier) byForward(ctx context.Context) (*way, error) {
	if c.hasOpenSocket() {
		return nil, &ProofError{Host: c.cfg.Host, Way: ByForward, Mask: true, Err: errOpenSocket}
	}
	path := forwardedPath(c.cfg.User)
	// The state is that of the link on which sshd makes the socket: sshd leaves the file behind, so
	// the next link must ask for another name.
	_, changed := c.cfg.Tunnel.State()
	l, err := c.cfg.Tunnel.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	done, over := context.WithCancel(c.ctx)
	c.running.Go(func() { // ends with the way
		defer over()
		for done.Err() == nil {
			select {
			case <-changed:
			case <-done.Done():
				return
			}
			var state sshtunnel.State
			if state, changed = c.cfg.Tunnel.State(); state.Phase != sshtunnel.Up {
				return
			}
		}
	})
	c.running.Go(func() { c.takeAll(l.Accept) }) // ends with the listener
	return &way{
		state: CarryState{Way: ByForward, Socket: path},
		dial:  func(ctx context.Context) (net.Conn, error) { return c.cfg.Tunnel.DialContext(ctx, "unix", path) },
		done:  done.Done(),
		close: func() {
			over()
			l.Close()
		},
	}, nil
}

// checkMode asks HOST whether others may connect to a forwarded socket, if commands run there. The
// error is a *ProofError if they may.
func (c *Carrier) checkMode(ctx context.Context, path string) error {
	ctx, cancel := runningTimeout(ctx, greetingTimeout)
	defer cancel()
	process, err := c.cfg.Tunnel.Exec(ctx, "ls -ld "+path)
	if err != nil {
		return nil // the login there looks, too
	}
	defer process.Close()
	defer context.AfterFunc(ctx, func() { process.Close() })()
	text, _ := io.ReadAll(io.LimitReader(process, maxGreeting))
	for line := range strings.Lines(string(text)) {
		mode, rest, _ := strings.Cut(line, " ")
		if strings.Contains(rest, path) && len(mode) >= len("srw-------") && mode[0] == 's' && mode[4:10] != "------" {
			return &ProofError{Host: c.cfg.Host, Way: ByForward, Mask: true, Err: errOpenSocket}
		}
	}
	return nil
}

// hasOpenSocket reports whether a login on HOST has said that others may connect to the socket that
// its sshd makes.
func (c *Carrier) hasOpenSocket() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// expectProbe returns the line that proves a way, and a channel that is closed when it arrives.
func (c *Carrier) expectProbe() (probe string, proven <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probe, c.proven = "probe "+rand.Text()+"\n", make(chan struct{})
	return c.probe, c.proven
}

// forgetProbe ends the wait for a probe.
func (c *Carrier) forgetProbe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probe = ""
}

// openedConn is a connection whose first line was read. Read returns that line again.
type openedConn struct {
	net.Conn
	first []byte
	// rest is what Read has not returned yet of the bytes that were read.
	rest []byte
}

// readFirstLine reads the first line, of at most maxFirstLine bytes.
func (o *openedConn) readFirstLine() error {
	buffer := make([]byte, maxFirstLine)
	for n := 0; n < len(buffer); {
		more, err := o.Conn.Read(buffer[n:])
		n += more
		if i := bytes.IndexByte(buffer[:n], '\n'); i >= 0 {
			o.first, o.rest = buffer[:i+1], buffer[:n]
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("the first line is too long")
}

// Read returns what was read already, and then what comes.
func (o *openedConn) Read(b []byte) (int, error) {
	if len(o.rest) == 0 {
		return o.Conn.Read(b)
	}
	n := copy(b, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}
