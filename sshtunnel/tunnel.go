package sshtunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/refusals"
	"sallyport/sshtunnel/sshconfig"
)

// Question is something that only a person can answer.
type Question struct {
	// Hop is the alias of the hop that the question is about.
	Hop string
	// Kind is one of passphrase, password, keyboard-interactive, host-key and add-key. The last one
	// asks whether a key may be added to the agent.
	Kind string
	// Prompt is worded as OpenSSH would word it. It has no control characters, but it may have
	// several lines.
	Prompt string
	// Echo says that the answer may be shown while it is typed.
	Echo bool
}

// Config describes a Tunnel.
type Config struct {
	// Chain returns the hosts to pass, the destination last. It is called for each attempt, so that
	// an edited ssh_config counts. sshconfig.Resolver has a method for it. It must not be nil.
	Chain func(ctx context.Context) ([]*sshconfig.Host, error)
	// Ask puts a question to the person. If it is nil, nobody is there, and every question fails
	// with ErrNoPerson.
	Ask func(ctx context.Context, q Question) (string, error)
	// Getenv looks up SSH_AUTH_SOCK, SHELL and the names in KnownHostsCommand. If it is nil, none
	// of them is set.
	Getenv func(string) string
	// Terminal says that a person waits at the terminal of this process, and that a ProxyCommand
	// may ask there, as it may with ssh. If it is false, a ProxyCommand has no terminal.
	Terminal bool
	// Log gets warnings and news. If it is nil, they are dropped.
	Log *slog.Logger
	// Notice is told what a server, an agent or a ProxyCommand says to the person while a hop is
	// dialed. State has it as well. It may be called concurrently, must not block, and may be nil.
	Notice func(Notice)
	// Refusals is what the processes of one user agree by, so that a login that a server refuses
	// fails once. If it is nil, this tunnel agrees with nobody.
	Refusals *refusals.Ledger
	// Insist tries a login also if it was refused shortly before. It is for commands that a person
	// typed.
	Insist bool
	// Trace is told the steps of each attempt. It may be nil.
	Trace *Trace

	// ControlMaster says when the tunnel goes through the user's live ControlMaster. It then takes
	// the place of the last host whose ControlPath answers, and of all hosts before it. It needs
	// ssh(1). The zero value is MasterNever.
	ControlMaster MasterUse

	// Shared leads to the process that shares connections through a chain. It is called for each
	// attempt, and for a new stream if it was not called for some seconds. It must be quick. If it
	// is nil, or the way says that there is nothing to share, the chain is dialed in this process.
	Shared func(ctx context.Context, chain []*sshconfig.Host) (mux.Way, error)
	// SharedElsewhere reports whether a connection has come up that Shared would lead to now, and
	// did not lead to in the last attempt. It is asked every few seconds while a person is needed.
	// If it is nil, there is none.
	SharedElsewhere func(ctx context.Context) bool
	// Purpose is what the tunnel is for, such as the URL of an upstream. The status of a shared
	// connection shows it.
	Purpose string
	// Busy reports whether an answer is due on a stream that is quiet. While it is, a shared
	// connection that drains keeps its streams, for ten minutes at most. It must be quick, and may
	// be nil.
	Busy func() bool

	settings
}

// settings are set by New and by a Server. Tests put their own in.
type settings struct {
	machine       netwatch.Machine
	aliveInterval time.Duration
	patience      time.Duration
	// waits says that an attempt through a shared connection goes on when that could not dial for a
	// reason that may pass. It is set for each attempt.
	waits bool

	// streams are those of shared connections, of any link of the tunnel.
	streams *muxStreams
	// host is the Server that the tunnel belongs to. It is nil for all other tunnels.
	host *muxHost
}

// Tunnel is a chain of SSH connections that is dialed on demand, kept alive, and dialed again when
// it is lost. Its methods may be called concurrently. The caller must Close it.
type Tunnel struct {
	cfg Config

	// ctx ends at Close.
	ctx    context.Context
	cancel context.CancelFunc

	// events are run by the loop, which owns the state.
	events chan func(*loop)
	// stopped is closed when the loop has ended.
	stopped chan struct{}
	// current is the state that the loop has published last.
	current atomic.Pointer[published]
}

// New returns a tunnel in the idle phase. It dials nothing yet. The only error is a Config without
// Chain.
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
	if cfg.machine.Wall == nil {
		cfg.machine = netwatch.This()
	}
	if cfg.Notice == nil {
		cfg.Notice = func(Notice) {}
	}
	cfg.aliveInterval = cmp.Or(cfg.aliveInterval, defaultAliveInterval)
	cfg.patience = cmp.Or(cfg.patience, maxPatience)
	cfg.streams = &muxStreams{}
	t := &Tunnel{cfg: cfg, events: make(chan func(*loop)), stopped: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.current.Store(&published{State: State{Phase: Idle}, since: time.Now(), changed: make(chan struct{})})
	l := &loop{t: t, lookout: cfg.machine.Lookout(), calls: map[*call]struct{}{}, listeners: map[*listener]struct{}{}}
	go l.run() // ends at Close, which waits for it
	return t, nil
}

// State returns the state and a channel that is closed when the state changes.
func (t *Tunnel) State() (State, <-chan struct{}) {
	now := t.current.Load()
	return now.State, now.changed
}

// Connect brings the link up now. It returns the error of the first attempt that fails, where
// DialContext waits for a later attempt. It tries also in the phases needs_person and refused. ctx
// bounds the call.
func (t *Tunnel) Connect(ctx context.Context) error {
	_, err := t.acquire(ctx, true)
	return err
}

// DialContext opens a connection from the last hop: "tcp" to a host:port whose name is resolved
// there, or "unix" to a path.
//
// While the tunnel is down for a reason that may pass, DialContext waits. ctx bounds the wait, and
// never the connection that was returned. The error is an *OpenError if the hop refused. If the
// tunnel is refused, the error of State is returned at once.
//
// The connection honours deadlines. The caller must close it.
func (t *Tunnel) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return withLink(ctx, t, func(l *link) (net.Conn, error) { return l.last().open(ctx, network, addr) })
}

// Listen asks the last hop for a remote forward (RFC 4254 section 7.1): "tcp" on host:port, where
// port 0 means any, or "unix" on a path. ctx bounds the call, and it waits as DialContext does.
//
// The listener outlives the link: the next link is asked for the forward again. At most 16
// connections wait for Accept, and more are refused. If the hop refuses the forward, the error is a
// *ListenError. The caller must close the listener.
func (t *Tunnel) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	ln, err := newListener(t, network, addr)
	if err != nil {
		return nil, err
	}
	_, err = withLink(ctx, t, func(l *link) (struct{}, error) {
		if err := ln.request(ctx, l); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, t.adopt(ln, l)
	})
	if err != nil {
		return nil, err
	}
	return ln, nil
}

// Exec runs a command on the last hop, by the login shell there. Reading gives the command's
// stdout, and writing is its stdin. At the end of stdout Read returns io.EOF for status 0, else an
// *ExitError. ctx bounds the call, and it waits as DialContext does. Close ends the command, and
// the caller must call it.
func (t *Tunnel) Exec(ctx context.Context, cmd string) (io.ReadWriteCloser, error) {
	return withLink(ctx, t, func(l *link) (io.ReadWriteCloser, error) { return l.last().exec(ctx, cmd) })
}

// Close ends connections, listeners, commands and calls that wait. It waits for everything that the
// Tunnel has started. Further calls do nothing.
func (t *Tunnel) Close() error {
	t.cancel()
	<-t.stopped
	return nil
}

// send has the loop run f. It reports false if the tunnel is closed.
func (t *Tunnel) send(f func(*loop)) bool {
	select {
	case t.events <- f:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// dial dials the chain as the configuration has it now.
func (t *Tunnel) dial(a *attempt, report func(progress)) (*link, error) {
	ctx, cfg := a.ctx, t.cfg
	cfg.Insist, cfg.waits = a.insist, a.waits
	if err := cfg.host.admit(); err != nil {
		return nil, err
	}
	if cfg.host != nil {
		cfg.host.begin()
	}
	chain, err := cfg.Chain(ctx)
	if err != nil {
		return nil, err
	}
	cfg.Trace.resolved(chain)
	l, err := dialLink(ctx, &cfg, chain, report)
	if err == nil {
		cfg.Trace.up()
	}
	return l, err
}

// acquire returns a link that is up. While the tunnel is down for a reason that may pass, it waits
// within ctx. For the meaning of once see call.
func (t *Tunnel) acquire(ctx context.Context, once bool) (*link, error) {
	return t.await(ctx, &call{once: once})
}

// await makes a call, and returns the link that it gets.
func (t *Tunnel) await(ctx context.Context, c *call) (*link, error) {
	if t.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if ctx.Err() != nil {
		return nil, t.waitError(ctx)
	}
	c.answer = make(chan callAnswer, 1)
	t.send(func(l *loop) {
		c.seen, c.joined = l.attempts, l.attempt
		l.calls[c] = struct{}{}
	})
	select {
	case a := <-c.answer:
		return a.link, a.err
	case <-ctx.Done():
		err := t.waitError(ctx) // first, because the attempt may end without this call
		t.send(func(l *loop) { delete(l.calls, c) })
		return nil, err
	case <-t.ctx.Done():
		return nil, ErrClosed
	}
}

// waitError returns the error of a call whose context ended before there was a link: the cause of
// the context's end, and why there is no link.
func (t *Tunnel) waitError(ctx context.Context) error {
	cause, st := context.Cause(ctx), t.current.Load().State
	switch {
	case st.Err != nil:
		return fmt.Errorf("%w while waiting for the tunnel: %w", cause, st.Err)
	case st.Hop != "":
		return &HopError{Hop: st.Hop, Stage: StageConnect, Err: cause}
	}
	return cause
}

// withLink runs f on a link, and again on the next one if the link ended meanwhile.
func withLink[T any](ctx context.Context, t *Tunnel, f func(*link) (T, error)) (T, error) {
	for {
		l, err := t.acquire(ctx, false)
		if err != nil {
			var zero T
			return zero, err
		}
		v, err := f(l)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errLost) {
			return v, err
		}
		l.fail(l.last().place().error(StageLink, err))
	}
}

// adopt makes the tunnel ask later links for the forward of ln. It returns an errLost if the
// forward is on a link that is no longer the tunnel's.
func (t *Tunnel) adopt(ln *listener, on *link) error {
	done := make(chan error, 1)
	t.send(func(l *loop) {
		if l.link != on {
			done <- errLost
			return
		}
		l.listeners[ln] = struct{}{}
		done <- nil
	})
	select {
	case err := <-done:
		return err
	case <-t.ctx.Done():
		ln.arrivals.close()
		return ErrClosed
	}
}
