package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/muxstream"
	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// greetingLimit is how long a shared connection may take to greet.
	greetingLimit = 3 * time.Second
	// maxAttaches is how many servers are tried before the chain is dialed in this process.
	maxAttaches = 3
	// resolveInterval is the least time between two looks at whether ssh_config has changed.
	resolveInterval = 5 * time.Second
)

var (
	// errDraining ends a muxHop whose server takes no new stream. It is no failure.
	errDraining = errors.New("the shared connection takes no new stream")

	// errNotAttached is why an attach has no outcome: the server is gone, silent or draining.
	errNotAttached = errors.New("the shared connection could not be used")
)

// muxHop is a connection through the whole chain that another process shares (package mux).
type muxHop struct {
	cfg   *Config
	where place
	// hops are our aliases of the chain.
	hops []string
	// way led to the server, and dial leads to that one.
	way  mux.Way
	dial mux.Dialer
	// link is what the hop is a part of.
	link *link

	// life ends with the hop.
	life context.Context
	end  context.CancelCauseFunc
	// finished is set when the server has ended the hop in order: its streams end by themselves.
	finished atomic.Bool
	// drainedAt is when the server drained, in nanoseconds since start. It is 0 before.
	drainedAt atomic.Int64

	// presence is our attach. It outlives the hop as long as a stream does.
	presence *presence

	// streams are the open streams.
	streams *muxstream.Group
	// resolved is when ssh_config was last looked at, in nanoseconds since start.
	resolved atomic.Int64
}

// dialShared returns a link through the process that shares the chain. It returns nil and no error
// if the chain is to be dialed in this process.
func dialShared(ctx context.Context, cfg *Config, chain []*sshconfig.Host, report func(progress)) (*link, error) {
	way, err := cfg.Shared(ctx, chain)
	for n := 0; err == nil; n++ {
		var dial mux.Dialer
		if dial, err = way.Find(ctx); err != nil {
			break
		}
		cfg.streams.found(dial)
		l, h := newLink(), newMuxHop(cfg, chain, way, dial)
		h.link = l
		l.hops = []hop{h}
		if err = h.attach(ctx, report); err == nil {
			cfg.Trace.connected(ConnectedInfo{h.where.alias, ByShared, way.Key})
			l.begin(cfg, chain[len(chain)-1:])
			return l, nil
		}
		l.close(err)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, mux.ErrUnavailable):
		case !errors.Is(err, errNotAttached) && !errors.Is(err, errDraining):
			return nil, err
		case n+1 < maxAttaches:
			cfg.Log.Debug("looking for another shared connection", "err", err)
			err = nil
		default:
			err = fmt.Errorf("%w: %w", mux.ErrUnavailable, err)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !errors.Is(err, mux.ErrUnavailable) {
		return nil, err
	}
	if !errors.Is(err, mux.ErrAlone) {
		cfg.streams.warn.Do(func() { cfg.Log.Warn("connecting without a shared connection", "err", err) })
	}
	return nil, nil
}

func newMuxHop(cfg *Config, chain []*sshconfig.Host, way mux.Way, dial mux.Dialer) *muxHop {
	h := &muxHop{cfg: cfg, way: way, dial: dial, where: place{alias: chain[len(chain)-1].Alias}}
	for _, host := range chain {
		h.hops = append(h.hops, host.Alias)
	}
	h.resolved.Store(int64(time.Since(start)))
	h.life, h.end = context.WithCancelCause(context.Background())
	h.streams = cfg.streams.NewGroup(h.life, h.leave, func() { h.presence.conn.Close() })
	return h
}

func (h *muxHop) place() place           { return h.where }
func (h *muxHop) heartbeat() *heartbeat  { return nil } // the server watches the hops, and pings watch the server
func (h *muxHop) ended() context.Context { return h.life }
func (h *muxHop) used() bool             { return h.streams.Used(usedGrace) }

// close ends the hop. Streams of a server that only takes no new ones live on.
func (h *muxHop) close(cause error) {
	h.end(cause)
	if h.finished.Load() {
		h.leave()
		return
	}
	if h.presence != nil {
		h.presence.conn.Close()
	}
	h.streams.Cut()
}

// leave ends our presence at a server if the hop has ended and no stream needs it any more.
func (h *muxHop) leave() {
	if h.presence != nil && h.life.Err() != nil && h.streams.Open() == 0 {
		h.presence.conn.Close()
	}
}

// drained ends the hop because its server takes no new stream.
func (h *muxHop) drained(why string) {
	h.drainedAt.CompareAndSwap(0, int64(time.Since(start)))
	h.finished.Store(true)
	h.end(fmt.Errorf("%w: %s", errDraining, why))
}

// attach makes us known to the server, and waits until all hops are there.
func (h *muxHop) attach(ctx context.Context, report func(progress)) error {
	report(progress{hop: h.hops[0]})
	limited, cancel := netwatch.WithRunningTimeout(ctx, greetingLimit)
	defer cancel()
	conn, err := h.dial(limited)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotAttached, err)
	}
	c, greeting, err := mux.Open(limited, conn, mux.Request{Op: mux.OpAttach, Attach: &mux.Attach{
		PID: os.Getpid(), Purpose: h.cfg.Purpose, Hops: h.hops, Terminal: h.cfg.Terminal, Ask: h.cfg.Ask != nil, Insist: h.cfg.Insist,
		Wait: h.cfg.waits,
	}})
	switch _, other := errors.AsType[*mux.VersionError](err); {
	case other:
		return fmt.Errorf("%w: %w", mux.ErrUnavailable, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errNotAttached, err)
	case greeting.Draining:
		c.Close()
		return errDraining
	}
	h.link.sharedBy = greeting.PID
	h.presence = newPresence(h, c, report)
	h.cfg.streams.tasks.Go(h.presence.read)  // ends with the connection, which watch closes
	h.cfg.streams.tasks.Go(h.presence.watch) // ends with the hop and its streams
	select {
	case <-h.presence.up:
		return nil
	case <-h.life.Done():
		return context.Cause(h.life)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// alias returns our name of the hop with an index; "" for none.
func (h *muxHop) alias(i *int) string {
	if i == nil || *i < 0 || *i >= len(h.hops) {
		return ""
	}
	return h.hops[*i]
}

func (h *muxHop) notice(n *mux.Notice) Notice { return Notice{h.alias(n.Hop), n.Text, n.URL} }

// decode makes an error of what the server says. The protocol's own errors are about the server.
func (h *muxHop) decode(e *mux.Error) error {
	if e != nil {
		switch e.Type {
		case mux.TypeUnknownOp, mux.TypeUnknownVersion, mux.TypeBadRequest:
			return fmt.Errorf("%w: %w", mux.ErrUnavailable, e)
		case mux.TypeDraining:
			return errDraining
		case mux.TypeNotAttached:
			return fmt.Errorf("%w: %w", errLost, e)
		}
	}
	if err := DecodeError(e, h.hops); err != nil {
		return err
	}
	return h.where.error(StageLink, errors.New("the shared connection has ended"))
}

// within returns a context that ends with ctx, or for an errLost with the hop.
func (h *muxHop) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	lost := func() { cancel(fmt.Errorf("%w: %w", errLost, context.Cause(h.life))) }
	if h.life.Err() != nil {
		lost()
	}
	stop := context.AfterFunc(h.life, lost)
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// doubt waits until it is clear what it means that the server could not be asked, and returns an
// errLost, or the cause of ctx.
//
// A server whose socket was removed, or that is short of descriptors, takes no new connection and
// still serves the streams that it has. So if it answers a ping, the hop ends as if the server
// drained.
func (h *muxHop) doubt(ctx context.Context, why error) error {
	until, limited := ctx.Deadline()
	if ctx.Err() == nil && (!limited || time.Now().Before(until)) { // the call was not given up
		select {
		case h.presence.doubts <- why:
		default:
		}
	}
	<-ctx.Done() // it is one of within
	return context.Cause(ctx)
}

// request asks the server for a stream. ctx bounds the call. The error wraps errLost if the hop has
// ended.
func (h *muxHop) request(ctx context.Context, req mux.Request) (*mux.Conn, *mux.OK, error) {
	ctx, cancel := h.within(ctx)
	defer cancel()
	conn, err := h.dial(ctx)
	if err != nil {
		return nil, nil, h.doubt(ctx, err)
	}
	c, _, err := mux.Open(ctx, conn, req)
	if err != nil {
		return nil, nil, h.doubt(ctx, err)
	}
	r, err := c.Receive(ctx)
	switch {
	case err != nil:
		err = h.doubt(ctx, err)
	case r.Error != nil && r.Error.Type == mux.TypeDraining:
		h.drained(r.Error.Text)
		err = fmt.Errorf("%w: %w", errLost, errDraining)
	case r.Error != nil:
		err = h.decode(r.Error)
	case r.OK == nil:
		err = h.doubt(ctx, errors.New("an answer without a meaning"))
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, r.OK, nil
}

// checkConfig ends the hop as if its server took no new stream, if ssh_config now leads to another
// server. It looks at most every few seconds. An ssh_config that cannot be read changes nothing.
func (h *muxHop) checkConfig(ctx context.Context) error {
	before, now := h.resolved.Load(), int64(time.Since(start))
	if time.Duration(now-before) < resolveInterval || !h.resolved.CompareAndSwap(before, now) {
		return nil
	}
	chain, err := h.cfg.Chain(ctx)
	if err != nil {
		return nil
	}
	way, err := h.cfg.Shared(ctx, chain)
	if err != nil || way.Key == h.way.Key {
		return nil
	}
	h.drained("ssh_config has changed")
	return fmt.Errorf("%w: ssh_config has changed", errLost)
}

func (h *muxHop) open(ctx context.Context, network, address string) (net.Conn, error) {
	if err := h.checkConfig(ctx); err != nil {
		return nil, err
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
		network = "tcp"
		host, port, err := splitHostPort(address)
		if err != nil {
			return nil, err
		}
		address = net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10)) // the port may have had a name
	case "unix":
	default:
		return nil, net.UnknownNetworkError(network)
	}
	c, _, err := h.request(ctx, mux.Request{Op: mux.OpDial, Network: network, Address: address})
	if err != nil {
		return nil, err
	}
	conn, err := h.stream(c, nil, addr{network, h.where.alias}, farAddr(network, address))
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (h *muxHop) exec(ctx context.Context, command string) (io.ReadWriteCloser, error) {
	if err := h.checkConfig(ctx); err != nil {
		return nil, err
	}
	c, ok, err := h.request(ctx, mux.Request{Op: mux.OpExec, Command: command})
	if err != nil {
		return nil, err
	}
	ctx, cancel := h.within(ctx)
	defer cancel()
	conn, err := h.dial(ctx)
	var wait *mux.Conn
	if err == nil {
		wait, _, err = mux.Open(ctx, conn, mux.Request{Op: mux.OpWait, ID: ok.ID})
	}
	if err != nil {
		c.Close()
		return nil, h.doubt(ctx, err)
	}
	at := addr{"ssh", h.where.alias}
	stream, err := h.stream(c, wait, at, at)
	if err != nil {
		return nil, err
	}
	p := &muxProcess{Conn: stream, gone: make(chan struct{}), wait: wait}
	go p.await() // ends with the command, with the server or by Close
	return p, nil
}

// listen asks the server to have the last hop listen.
func (h *muxHop) listen(ctx context.Context, at listenAddress, arrivals *backlog) (*grant, error) {
	c, ok, err := h.request(ctx, mux.Request{Op: mux.OpListen, Network: at.network, Address: at.String()})
	if err != nil {
		return nil, err
	}
	if at.network == "tcp" && ok.Port != 0 {
		at.port = ok.Port
	}
	done := make(chan struct{})
	h.link.tasks.Go(func() { // ends when the server ends the forward, or with the hop
		defer close(done)
		defer c.Close()
		defer context.AfterFunc(h.life, func() { c.Close() })()
		for {
			var r mux.Reply
			if c.ReadLine(&r) != nil {
				return
			}
			if r.Arrival != nil {
				h.link.tasks.Go(func() { h.fetch(*r.Arrival, at, arrivals) }) // ends with the answer, or with the hop
			}
		}
	})
	return &grant{port: at.port, cancel: func() error {
		c.CloseWrite()
		timer := time.NewTimer(goodbyeLimit)
		defer timer.Stop()
		select {
		case <-done:
			return nil
		case <-timer.C:
			c.Close()
			return context.DeadlineExceeded
		}
	}}, nil
}

// fetch takes over a connection that has arrived.
func (h *muxHop) fetch(a mux.Arrival, at listenAddress, arrivals *backlog) {
	c, _, err := h.request(h.life, mux.Request{Op: mux.OpAccept, ID: a.ID})
	if err != nil {
		h.cfg.Log.Debug("arrival not taken over", "addr", at.String(), "err", err)
		return
	}
	remote := a.Remote
	if at.network == "unix" {
		remote = "@"
	}
	conn, err := h.stream(c, nil, at.netAddr(), farAddr(at.network, remote))
	if err == nil {
		arrivals.add(conn)
	}
}

// stream enters a stream of the hop.
func (h *muxHop) stream(c, wait *mux.Conn, local, remote net.Addr) (*muxstream.Conn, error) {
	conn, ok := h.streams.Add(c, wait, local, remote)
	if !ok || isDone(h.presence.gone) { // the others may have been cut already
		conn.Close()
		return nil, errLost
	}
	return conn, nil
}

// muxStreams are the streams of all muxHops of a Tunnel. Those of a hop that drains outlive its
// link.
type muxStreams struct {
	muxstream.Set
	// warn tells once that the chain is dialed in this process.
	warn sync.Once
	// tasks counts the goroutines of presences.
	tasks sync.WaitGroup

	mu sync.Mutex
	// server leads to the server that was found last. It is nil before.
	server mux.Dialer
}

// found notes the server that was found last.
func (s *muxStreams) found(dial mux.Dialer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = dial
}

// isUp asks that server whether the chain is up.
func (s *muxStreams) isUp(ctx context.Context) bool {
	s.mu.Lock()
	dial := s.server
	s.mu.Unlock()
	if dial == nil {
		return false
	}
	ctx, cancel := netwatch.WithRunningTimeout(ctx, greetingLimit)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return false
	}
	status, err := mux.AskStatus(ctx, conn)
	return err == nil && status.Phase == Up && !status.Draining
}

// close ends all streams, and those that come later. It waits for presences.
func (s *muxStreams) close() {
	s.Set.Close()
	s.tasks.Wait()
}

// muxProcess is a command on the last hop of a shared connection.
type muxProcess struct {
	*muxstream.Conn
	// status says how the command ended. It is nil for status 0, and valid once gone is closed.
	status *ExitError
	gone   chan struct{}
	// wait is for the end of the command.
	wait *mux.Conn
}

// await takes the command's exit status.
func (p *muxProcess) await() {
	defer close(p.gone)
	defer p.wait.Close()
	var r mux.Reply
	if err := p.wait.ReadLine(&r); err != nil || r.Exit == nil {
		p.status = &ExitError{Status: -1}
	} else if r.Exit.Status != 0 || r.Exit.Signal != "" {
		p.status = &ExitError{Status: r.Exit.Status, Signal: r.Exit.Signal, Stderr: r.Exit.Stderr}
	}
}

// Read reads stdout. At the end of stdout it waits for the exit status and returns io.EOF for
// status 0, else an *ExitError.
func (p *muxProcess) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-p.gone:
	case <-p.Closed():
		return n, err
	}
	if p.status != nil {
		return n, p.status
	}
	return n, io.EOF
}

// Close ends the command. It does not say how the command ended.
func (p *muxProcess) Close() error {
	p.Conn.Close()
	return nil
}
