package helper

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"sallyport/sshtunnel"
)

// Way is how connections come from HOST.
type Way string

// The ways.
const (
	// ByExec means a sallyport on HOST that was started over a session channel.
	ByExec Way = "a sallyport on HOST"
	// ByForward means a Unix socket that the sshd of HOST forwards.
	ByForward Way = "a forwarded Unix socket"
)

// minCarryPause and maxCarryPause are the limits of the pause before a way is tried again.
const minCarryPause, maxCarryPause = 500 * time.Millisecond, 30 * time.Second

// CarryConfig describes a Carrier.
type CarryConfig struct {
	// Host is HOST as the person typed it.
	Host string
	// User is the person's name on HOST, for the name of a forwarded socket. It may be empty.
	User string
	// Tunnel leads to HOST. The caller closes it after the Carrier.
	Tunnel *sshtunnel.Tunnel
	// Log must not be nil.
	Log *slog.Logger
}

// Carrier is a net.Listener for the logins of HOST: each connection carries one. It outlives the
// tunnel's link: when HOST is reached again, it makes a new socket there. Its methods may be called
// concurrently. The caller must Close it.
type Carrier struct {
	cfg      CarryConfig
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	arrivals chan net.Conn

	// mu guards what follows.
	mu      sync.Mutex
	state   CarryState
	changed chan struct{}
	// since is when the way was found. It is zero without one.
	since time.Time
	// probe is what a connection says first that only proves the way. It is empty if none is
	// awaited.
	probe string
	// proven is closed when a connection has said so.
	proven chan struct{}
	// open says that others on HOST may connect to the socket that its sshd makes, and leave ends
	// the present way if that is so.
	open  bool
	leave func()
}

// CarryState says how logins come from HOST.
type CarryState struct {
	// Way is how they come, or came last.
	Way Way
	// Socket is the path of the socket on HOST.
	Socket string
	// Version and Program are those of the sallyport on HOST. They are empty for ByForward.
	Version, Program string
	// Proven says that a connection through the socket was tried. It is false if HOST forwards the
	// socket but lets nobody connect to it from here.
	Proven bool
	// Missing says that HOST runs commands and has no sallyport. It is nil otherwise. A login on
	// HOST takes a sallyport, so the person should be told.
	Missing *MissingError
	// Err says why no login comes at present. It is nil if logins come.
	Err error
}

// way is one way that serves.
type way struct {
	state CarryState
	// dial connects to the socket on HOST.
	dial func(context.Context) (net.Conn, error)
	// done is closed when the way has ended.
	done <-chan struct{}
	// close ends it.
	close func()
}

// Carry finds out which way HOST allows, proves it, and returns a Carrier whose connections come
// that way. A sallyport on HOST is tried first, and then a forwarded Unix socket. The context
// bounds the search, and not the Carrier. The errors are those of the tunnel, a *CarryError, a
// *MissingError, an *OldError, a *FarEndError or a *ProofError.
func Carry(ctx context.Context, cfg CarryConfig) (*Carrier, error) {
	c := &Carrier{cfg: cfg, arrivals: make(chan net.Conn), changed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w, err := c.find(ctx)
	if err != nil {
		c.cancel()
		c.running.Wait()
		return nil, err
	}
	c.take(w)
	c.running.Go(func() { c.run(w) }) // ends with Close
	return c, nil
}

// Accept waits for a connection of a login on HOST.
func (c *Carrier) Accept() (net.Conn, error) {
	select {
	case conn := <-c.arrivals:
		return conn, nil
	case <-c.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr returns the path of the socket on HOST.
func (c *Carrier) Addr() net.Addr {
	state, _ := c.State()
	return &net.UnixAddr{Name: state.Socket, Net: "unix"}
}

// State returns the state, and a channel that is closed when it changes.
func (c *Carrier) State() (CarryState, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.changed
}

// Since returns since when logins come from HOST. It is zero while none does.
func (c *Carrier) Since() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}

// Close ends the way and Accept. Connections that were accepted over a session end with it.
func (c *Carrier) Close() error {
	c.cancel()
	c.running.Wait()
	return nil
}

// set publishes a state.
func (c *Carrier) set(s CarryState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	if s.Err != nil {
		c.since = time.Time{}
	} else {
		c.since = time.Now()
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// take publishes the state of a way that serves from now on.
func (c *Carrier) take(w *way) {
	c.mu.Lock()
	c.leave = w.close
	c.mu.Unlock()
	c.set(w.state)
}

// run looks for a new way whenever one has ended, until Close.
func (c *Carrier) run(w *way) {
	for {
		select {
		case <-w.done:
		case <-c.ctx.Done():
			w.close()
			return
		}
		w.close()
		state := w.state
		state.Err = errors.New("the way from " + c.cfg.Host + " was lost")
		c.set(state)
		c.cfg.Log.Info("logins do not come any more", "host", c.cfg.Host)
		if w = c.findAgain(state); w == nil {
			return
		}
		c.take(w)
		c.cfg.Log.Info("logins come again", "host", c.cfg.Host, "way", string(w.state.Way))
	}
}

// findAgain looks for a way until there is one. It returns nil after Close.
func (c *Carrier) findAgain(state CarryState) *way {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := minCarryPause; ; pause = min(2*pause, maxCarryPause) {
		_, changed := c.cfg.Tunnel.State()
		w, err := c.find(c.ctx)
		if err == nil {
			return w
		}
		if c.ctx.Err() != nil {
			return nil
		}
		state.Err = err
		c.set(state)
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-changed:
			pause = minCarryPause
			c.mu.Lock()
			c.open = false // the sshd of the next link may have other settings
			c.mu.Unlock()
		case <-c.ctx.Done():
			return nil
		}
	}
}

// find returns a way that serves.
func (c *Carrier) find(ctx context.Context) (*way, error) {
	if err := c.cfg.Tunnel.Connect(ctx); err != nil {
		return nil, err
	}
	w, execErr := c.byExec(ctx)
	if execErr == nil {
		execErr = c.prove(ctx, w)
	}
	if execErr == nil {
		return w, nil
	}
	if _, old := errors.AsType[*OldError](execErr); old || ctx.Err() != nil || !isRefusal(execErr) {
		return nil, execErr
	}
	c.cfg.Log.Info("no sallyport serves on the host", "host", c.cfg.Host, "err", execErr)
	missing, _ := errors.AsType[*MissingError](execErr)
	w, err := c.byForward(ctx)
	if err == nil {
		err = c.prove(ctx, w)
	}
	if err == nil && missing != nil { // commands run there
		if err = c.checkMode(ctx, w.state.Socket); err != nil {
			w.close()
		}
	}
	if err == nil {
		w.state.Missing = missing
		return w, nil
	}
	if ctx.Err() != nil || !isRefusal(err) {
		return nil, err
	}
	if _, unproven := errors.AsType[*ProofError](err); unproven {
		return nil, err
	}
	if missing != nil {
		return nil, missing
	}
	if told, ok := errors.AsType[*FarEndError](execErr); ok {
		return nil, told
	}
	return nil, &CarryError{Host: c.cfg.Host, Exec: execErr, Forward: err}
}

// isRefusal reports whether an error says something about what HOST allows, and not that HOST is
// away.
func isRefusal(err error) bool {
	if _, away := errors.AsType[*sshtunnel.HopError](err); away {
		return false
	}
	return !errors.Is(err, net.ErrClosed)
}

// errNoProof says that a connection was made and did not arrive.
var errNoProof = errors.New("a connection to the socket does not arrive here")

// proofTimeout bounds the proof of a way.
const proofTimeout = 10 * time.Second

// prove connects to the socket on HOST, and waits until that connection arrives here. A forwarded
// socket to which HOST lets nobody connect from here counts as good, because a login on HOST needs
// no leave of sshd. The way is closed if the error is not nil.
func (c *Carrier) prove(ctx context.Context, w *way) error {
	ctx, cancel := runningTimeout(ctx, proofTimeout)
	defer cancel()
	probe, proven := c.expectProbe()
	defer c.forgetProbe()
	conn, err := w.dial(ctx)
	if _, refused := errors.AsType[*sshtunnel.OpenError](err); refused && w.state.Way == ByForward {
		return nil
	}
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(proofTimeout))
		_, err = conn.Write([]byte(probe))
	}
	if err == nil {
		select {
		case <-proven:
			w.state.Proven = true
			return nil
		case <-w.done:
			err = errNoProof
		case <-ctx.Done():
			err = errNoProof
		}
	}
	w.close()
	return &ProofError{Host: c.cfg.Host, Way: w.state.Way, Err: err}
}

// arrive takes a connection from HOST, which says something first. It belongs to the prover, or to
// whoever calls Accept next. Any process of this user on HOST may connect, so one that says nothing
// is dropped.
func (c *Carrier) arrive(conn net.Conn) {
	opened := &openedConn{Conn: conn}
	conn.SetReadDeadline(time.Now().Add(firstLineTimeout))
	err := opened.readFirstLine()
	conn.SetReadDeadline(time.Time{})
	if err != nil {
		conn.Close()
		return
	}
	if string(opened.first) == openSocketLine {
		conn.Close()
		c.leaveOpenSocket()
		return
	}
	c.mu.Lock()
	isProbe := c.probe != "" && string(opened.first) == c.probe
	if isProbe {
		c.probe = ""
		close(c.proven)
	}
	c.mu.Unlock()
	if isProbe {
		conn.Close()
		return
	}
	select {
	case c.arrivals <- opened:
	case <-c.ctx.Done():
		conn.Close()
	}
}

// leaveOpenSocket ends the way by a forwarded socket that others on HOST may connect to.
func (c *Carrier) leaveOpenSocket() {
	c.mu.Lock()
	leave := c.leave
	c.open = c.open || c.state.Way == ByForward
	c.mu.Unlock()
	if leave != nil && c.hasOpenSocket() {
		leave()
	}
}

// takeAll has arrive take each connection of a listener, until that is closed.
func (c *Carrier) takeAll(accept func() (net.Conn, error)) {
	slots := make(chan struct{}, maxCarried)
	for {
		conn, err := accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		c.running.Go(func() { // ends when somebody takes the connection, or with Close
			defer func() { <-slots }()
			c.arrive(conn)
		})
	}
}

// name returns the name of HOST for errors of a way.
func (c *Carrier) name() string { return cmp.Or(c.cfg.Host, "HOST") }
