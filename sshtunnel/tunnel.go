package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// Question is something that only a person can answer.
type Question struct {
	Hop    string // alias of the hop that it is about
	Kind   string // passphrase, password, keyboard-interactive, host-key, add-key (to the agent)
	Prompt string // as OpenSSH would word it; without control characters, but perhaps of several lines
	Echo   bool   // the answer may be shown while it is typed
}

// Config describes a Tunnel.
type Config struct {
	// Chain returns the hosts to pass, the destination last; asked anew for each connection, so
	// that an edited ssh_config counts. Use Resolver.Chain.
	Chain func(ctx context.Context) ([]*sshconfig.Host, error)
	// Ask puts a question to the person; nil: nobody is there, every question fails with ErrNoPerson.
	Ask    func(ctx context.Context, q Question) (string, error)
	Getenv func(string) string // for SSH_AUTH_SOCK, SHELL; nil: empty
	Home   string
	Log    *slog.Logger // nil discards

	// ControlMaster rides the user's live ControlMaster where a host of the chain has a ControlPath
	// that answers, the last such host in place of it and those before it. It needs ssh(1).
	ControlMaster bool

	machine       machine       // set by New; tests put their own in
	aliveInterval time.Duration // set by New; tests put a shorter one in
}

// The phases of a Tunnel.
const (
	Idle        = "idle"         // nobody has wanted it yet
	Dialing     = "dialing"      // Hop is being dialed
	Up          = "up"           // all hops are there
	Down        = "down"         // lost or not reached; it is tried again while somebody wants it
	NeedsPerson = "needs_person" // a hop wanted an answer or an agent; each new call tries once more
	Refused     = "refused"      // a hop, its host key or the configuration said no; only Connect tries again
)

// State tells where a Tunnel stands.
type State struct {
	Phase string // idle dialing up down needs_person refused
	Hop   string // the hop being dialed, or the one that failed
	Err   error  // why it is down, needs_person or refused
}

const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
	// settled is how long a link must have held for its loss to start a new series of attempts.
	settled = 10 * time.Second
	// personPause lies between two attempts that want for a person or an agent.
	personPause = 30 * time.Second
)

// backoff is the wait before attempt n+2 of a series: 0.5 s doubled n times, at most 30 s, of
// which a random half is left out, but never less than 0.5 s.
func backoff(n int) time.Duration {
	d := maxBackoff
	if n < 6 {
		d = minBackoff << n
	}
	return max(minBackoff, d/2+rand.N(d/2+1))
}

// Tunnel is a chain of SSH connections that is dialed on demand, kept alive, and dialed again.
// Its methods may be called concurrently. The caller must Close it.
type Tunnel struct {
	cfg    Config
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // run, and the listeners' requests

	mu        sync.Mutex
	started   bool // run is running
	state     State
	changed   chan struct{} // closed when state changes
	link      *link         // in phase up, else nil
	attempts  int           // ended, of any outcome
	lastEnd   time.Time     // of the last attempt
	wanted    int           // calls that wait for a link
	listeners map[*listener]struct{}
	again     bool                    // it was up before: dial again although nobody waits
	abandon   context.CancelCauseFunc // ends the attempt under way; nil: none is
	now       bool                    // a call came that cuts the backoff short, or asks for a person once more

	wake chan struct{} // holds one token: look at the fields above again
}

// New returns a tunnel in the idle phase. It dials nothing.
func New(cfg Config) (*Tunnel, error) {
	if cfg.Chain == nil {
		return nil, errors.New("sshtunnel: Config.Chain is missing")
	}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.machine.wall == nil {
		cfg.machine = thisMachine
	}
	if cfg.aliveInterval == 0 {
		cfg.aliveInterval = defaultAliveInterval
	}
	t := &Tunnel{
		cfg:       cfg,
		state:     State{Phase: Idle},
		changed:   make(chan struct{}),
		listeners: map[*listener]struct{}{},
		wake:      make(chan struct{}, 1),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// State returns the state and a channel that is closed at the next change.
func (t *Tunnel) State() (State, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.changed
}

func (t *Tunnel) setStateLocked(s State) {
	t.state = s
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Tunnel) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run dials whenever a link is wanted. It ends at Close.
func (t *Tunnel) run() {
	series := 0
	for look := t.cfg.machine.lookout(); t.waitWanted(&series, look); {
		l, err := t.attempt()
		switch {
		case errors.Is(err, errAbandoned):
			continue
		case err != nil:
			series++
			continue
		}
		began := time.Now()
		select {
		case <-l.life.Done():
		case <-t.ctx.Done():
		}
		l.close(ErrClosed)
		if t.ctx.Err() != nil {
			return
		}
		t.cfg.Log.Info("link lost", "err", context.Cause(l.life)) // whoever looks at State tells the person
		t.mu.Lock()
		t.link, t.again, t.lastEnd = nil, true, time.Now()
		t.setStateLocked(State{Phase: Down, Hop: hopOf(context.Cause(l.life)), Err: context.Cause(l.life)})
		t.mu.Unlock()
		if time.Since(began) >= settled {
			series = 0
		}
	}
}

// waitWanted returns when the next attempt is due; false at Close. series counts the attempts that
// have failed in a row: from the start again when look has news, which also end the pause.
func (t *Tunnel) waitWanted(series *int, look *lookout) bool {
	pause := time.Duration(0)
	if *series > 0 {
		pause = backoff(*series - 1)
	}
	for {
		t.mu.Lock()
		due, wait := false, time.Duration(-1) // -1: until poked
		switch since := time.Since(t.lastEnd); t.state.Phase {
		case Refused, NeedsPerson:
			due = t.now // they have checked the pause
		default:
			if t.wanted == 0 && len(t.listeners) == 0 && !t.again {
				break
			}
			wait = pause - since
			if t.now {
				wait = min(wait, minBackoff-since)
			}
			if t.state.Phase == Idle || wait <= 0 {
				due = true
			}
		}
		if due {
			t.now = false
		}
		t.mu.Unlock()
		if due {
			return t.ctx.Err() == nil
		}
		var timer <-chan time.Time
		if wait >= 0 {
			if look.news() {
				*series, pause = 0, 0
				continue
			}
			timer = time.After(min(wait, watchInterval))
		}
		select {
		case <-timer:
		case <-t.wake:
		case <-t.ctx.Done():
			return false
		}
	}
}

// errAbandoned ends an attempt that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for the connection")

// attempt dials the chain once and sets the state that comes of it; errAbandoned leaves the one
// that was before.
func (t *Tunnel) attempt() (*link, error) {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	t.mu.Lock()
	before := t.state
	t.setStateLocked(State{Phase: Dialing, Err: before.Err})
	t.abandon = cancel
	t.abandonLocked() // the call that wanted it may have left already
	t.mu.Unlock()
	l, err := t.dial(ctx, before.Err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.abandon = nil
	if err != nil && context.Cause(ctx) == errAbandoned {
		t.setStateLocked(before)
		return nil, errAbandoned
	}
	t.attempts++
	t.lastEnd = time.Now()
	if err != nil {
		phase := phaseOf(err)
		t.setStateLocked(State{Phase: phase, Hop: hopOf(err), Err: err})
		t.cfg.Log.Info("dial failed", "hop", t.state.Hop, "status", phase, "err", err)
		return nil, err
	}
	t.link = l
	t.setStateLocked(State{Phase: Up})
	for ln := range t.listeners {
		t.wg.Go(func() { ln.renew(t.ctx, l) }) // ends with the grant, the link or the listener
	}
	return l, nil
}

// dial dials the chain as it is now. last is the error that stands until it has ended.
func (t *Tunnel) dial(ctx context.Context, last error) (*link, error) {
	chain, err := t.cfg.Chain(ctx)
	if err != nil {
		return nil, err
	}
	return dialLink(ctx, &t.cfg, chain, func(h *sshconfig.Host) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.setStateLocked(State{Phase: Dialing, Hop: h.Alias, Err: last})
	})
}

// abandonLocked ends the attempt under way unless somebody still wants it.
func (t *Tunnel) abandonLocked() {
	if t.abandon != nil && t.wanted == 0 && len(t.listeners) == 0 && !t.again {
		t.abandon(errAbandoned)
	}
}

// phaseOf classifies the error of an attempt. What the network did may pass; what a server or a
// file decided will not, and trying again would only lock an account.
func phaseOf(err error) string {
	if auth, ok := errors.AsType[*AuthError](err); ok {
		if auth.NeedsPerson {
			return NeedsPerson
		}
		return Refused
	}
	if key, ok := errors.AsType[*hostkeys.Error](err); ok {
		if key.NeedsPerson {
			return NeedsPerson
		}
		return Refused
	}
	if _, ok := errors.AsType[*sshconfig.Error](err); ok {
		return Refused
	}
	return Down
}

func hopOf(err error) string {
	if e, ok := errors.AsType[*HopError](err); ok {
		return e.Hop
	}
	return ""
}

// startLocked starts run with the first call that wants a link.
func (t *Tunnel) startLocked() {
	if !t.started {
		t.started = true
		t.wg.Go(t.run) // ends at Close
	}
}

// acquire returns the link, waiting for one within ctx while the way is down for a reason that may
// pass. With once, it returns the error of the first attempt that fails, and tries even after a
// refusal. Each call asks for at most one attempt that may want a person.
func (t *Tunnel) acquire(ctx context.Context, once bool) (*link, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return nil, ErrClosed
	}
	t.startLocked()
	t.wanted++
	defer func() {
		t.wanted--
		t.abandonLocked()
	}()
	seen := t.attempts // attempts that ended before this call are not its own
	asked := false
	for {
		failed := t.attempts > seen
		switch {
		case t.ctx.Err() != nil:
			return nil, ErrClosed
		case ctx.Err() != nil:
			return nil, t.waitErrorLocked(ctx)
		case t.link != nil && t.link.life.Err() == nil:
			return t.link, nil
		case t.link != nil: // lost; run is about to notice
		case t.state.Phase == Dialing:
		case once && failed:
			return nil, t.state.Err
		case t.state.Phase == Refused && (!once || failed):
			return nil, t.state.Err
		case t.state.Phase == NeedsPerson && (failed || !once && time.Since(t.lastEnd) < personPause):
			return nil, t.state.Err
		case !asked:
			asked, t.now = true, true
			t.poke()
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-t.ctx.Done():
		}
		t.mu.Lock()
	}
}

// waitErrorLocked is the error of a call whose context ended before there was a link: the
// context's cause, and what stands in the way.
func (t *Tunnel) waitErrorLocked(ctx context.Context) error {
	cause := context.Cause(ctx)
	switch {
	case t.state.Err != nil:
		return fmt.Errorf("%w while waiting for the tunnel: %w", cause, t.state.Err)
	case t.state.Hop != "":
		return &HopError{Hop: t.state.Hop, Stage: StageConnect, Err: cause}
	}
	return cause
}

// with runs f on a link, and again on the next one when the link was lost meanwhile.
func with[T any](ctx context.Context, t *Tunnel, f func(*link) (T, error)) (T, error) {
	for {
		l, err := t.acquire(ctx, false)
		if err != nil {
			var zero T
			return zero, err
		}
		v, err := f(l)
		if err == nil || ctx.Err() != nil || !l.lost(err) {
			return v, err
		}
	}
}

// lost reports whether err comes of the end of the link, and makes sure that it has ended.
func (l *link) lost(err error) bool {
	if !errors.Is(err, errLost) {
		return false
	}
	l.fail(l.last().place().error(StageLink, err))
	return true
}

// DialContext opens a connection from the last hop: "tcp" to a host:port whose name is resolved
// there, or "unix" to a path. It waits for a link within ctx while the way is down for a reason that
// may pass; ctx never bounds the connection that it returned. It fails with *OpenError when the hop
// refused, and at once with the error of State when the tunnel is refused.
//
// The connection honours deadlines: one that runs out closes it.
func (t *Tunnel) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return with(ctx, t, func(l *link) (net.Conn, error) { return l.last().open(ctx, network, addr) })
}

// Listen asks the last hop for a remote forward (RFC 4254 7.1): "tcp" on host:port, port 0 any, or
// "unix" on a path. ctx bounds the call. The listener outlives the link: the forward is asked for again on the next one.
// At most 16 connections wait for Accept; more are refused. A refusal is a *ListenError.
func (t *Tunnel) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	ln, err := newListener(t, network, addr)
	if err != nil {
		return nil, err
	}
	_, err = with(ctx, t, func(l *link) (struct{}, error) {
		if err := ln.request(ctx, l); err != nil {
			return struct{}{}, err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ctx.Err() != nil {
			return struct{}{}, ErrClosed
		}
		if t.link != l {
			return struct{}{}, errLost // since; once more on the next
		}
		t.listeners[ln] = struct{}{}
		return struct{}{}, nil
	})
	if err != nil {
		return nil, err
	}
	return ln, nil
}

// forget removes a listener.
func (t *Tunnel) forget(ln *listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, ln)
}

// Exec runs a command on the last hop, by the login shell there. Read is its stdout, Write its
// stdin. At the end of stdout Read returns io.EOF for status 0, else an *ExitError. Close ends the
// command; ctx bounds only the call.
func (t *Tunnel) Exec(ctx context.Context, cmd string) (io.ReadWriteCloser, error) {
	return with(ctx, t, func(l *link) (io.ReadWriteCloser, error) { return l.last().exec(ctx, cmd) })
}

// Connect brings the link up now and returns the error of the first attempt that fails (the commands that end
// with a status); DialContext instead waits. It tries also in the phases needs_person and refused.
func (t *Tunnel) Connect(ctx context.Context) error {
	_, err := t.acquire(ctx, true)
	return err
}

// Close ends all: connections, listeners, commands and waiting calls. It waits for what the Tunnel
// has started. Idempotent.
func (t *Tunnel) Close() error {
	t.cancel()
	t.mu.Lock()
	listeners := t.listeners
	t.listeners = map[*listener]struct{}{}
	l := t.link
	t.mu.Unlock()
	if l != nil {
		l.fail(ErrClosed)
	}
	for ln := range listeners {
		ln.Close()
	}
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.link = nil
	if t.state.Err == nil || t.state.Phase != Down {
		t.setStateLocked(State{Phase: Down, Err: ErrClosed})
	}
	return nil
}
