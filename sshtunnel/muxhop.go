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
	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// greetingLimit is how long a shared connection may take to greet.
	greetingLimit = 3 * time.Second
	// pingInterval is the time between two pings, and pongLimit how long an answer may take. Both
	// ends are on this machine.
	pingInterval = 2 * time.Second
	pongLimit    = 2500 * time.Millisecond
	// maxAttaches is how many servers are tried before the chain is dialed in this process.
	maxAttaches = 3
	// resolveInterval is the least time between two looks at whether ssh_config has changed.
	resolveInterval = 5 * time.Second

	// drainLimit is how long a stream of a server that takes no new one may go on, and quietLimit
	// how long it may carry nothing at first. See muxStreams.retire.
	drainLimit = 10 * time.Minute
	quietLimit = time.Minute
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

	// streams counts the open streams.
	streams atomic.Int32
	// idleSince is when the last stream ended, in nanoseconds since start. It is 0 before.
	idleSince atomic.Int64
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
	return h
}

func (h *muxHop) place() place           { return h.where }
func (h *muxHop) heartbeat() *heartbeat  { return nil } // the server watches the hops, and pings watch the server
func (h *muxHop) ended() context.Context { return h.life }

func (h *muxHop) used() bool {
	since := h.idleSince.Load()
	return h.streams.Load() > 0 || since > 0 && time.Since(start)-time.Duration(since) < usedGrace
}

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
	h.cfg.streams.cut(h)
}

// leave ends our presence at a server if the hop has ended and no stream needs it any more.
func (h *muxHop) leave() {
	if h.presence != nil && h.life.Err() != nil && h.streams.Load() == 0 {
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

// presence is an attach: it tells the server that we are there, and hears how the chain is. It
// lasts as long as the hop, and as the streams of a hop that drains: somebody must notice when
// their server dies.
type presence struct {
	hop    *muxHop
	conn   *mux.Conn
	report func(progress)
	// up is closed when all hops are there.
	up chan struct{}
	// pong is the number of the latest pong, and ponged is told of each.
	pong   atomic.Int64
	ponged chan struct{}
	// doubts get why the server may be gone. It has room for one. Each has a ping.
	doubts chan error
	// gone is closed when nothing comes from the server any more.
	gone chan struct{}

	mu sync.Mutex
	// questions has what takes a question back, by its id.
	questions map[string]context.CancelFunc
}

func newPresence(h *muxHop, c *mux.Conn, report func(progress)) *presence {
	return &presence{
		hop:       h,
		conn:      c,
		report:    report,
		up:        make(chan struct{}),
		ponged:    make(chan struct{}, 1),
		doubts:    make(chan error, 1),
		gone:      make(chan struct{}),
		questions: map[string]context.CancelFunc{},
	}
}

// read takes the server's lines until it or the hop ends.
func (p *presence) read() {
	err := p.lines()
	close(p.gone) // before the streams are cut, so that none is missed
	if err != nil {
		p.failed(fmt.Errorf("the shared connection has ended: %w", err))
		p.hop.cfg.streams.cut(p.hop)
	}
}

// lines takes the server's lines. It returns nil if the server has ended the hop in order.
func (p *presence) lines() error {
	h := p.hop
	for {
		var r mux.Reply
		if err := p.conn.ReadLine(&r); err != nil {
			return err
		}
		switch {
		case r.State != nil:
			p.state(r.State)
		case r.Notice != nil:
			h.cfg.Notice(h.notice(r.Notice))
		case r.Question != nil:
			p.ask(*r.Question)
		case r.Withdrawn != nil:
			p.mu.Lock()
			if cancel := p.questions[r.Withdrawn.ID]; cancel != nil {
				cancel()
			}
			p.mu.Unlock()
		case r.Pong != 0:
			p.pong.Store(int64(r.Pong))
			select {
			case p.ponged <- struct{}{}:
			default:
			}
		case r.Up != nil && !isDone(p.up):
			close(p.up)
		case r.Draining != nil:
			h.drained(r.Draining.Why)
		case r.Lost != nil:
			h.finished.Store(true)
			h.end(h.decode(r.Lost.Error))
			return nil
		case r.Error != nil:
			h.end(h.decode(r.Error))
			return nil
		}
	}
}

// failed ends the hop because the server does not answer as it should.
func (p *presence) failed(err error) {
	if !isDone(p.up) {
		err = fmt.Errorf("%w: %w", errNotAttached, err)
	}
	p.hop.end(p.hop.where.error(StageLink, err))
}

// watch pings the server until it or the hop ends, and ends the streams of a hop that drains when
// it is time.
func (p *presence) watch() {
	defer p.conn.Close()
	h := p.hop
	timer := time.NewTimer(pingInterval)
	defer timer.Stop()
	for n := 1; ; n++ {
		var doubt error
		select {
		case <-timer.C:
		case doubt = <-p.doubts:
		case <-p.gone:
			return
		}
		if !p.ping(n, timer) {
			return
		}
		if doubt != nil {
			h.drained("it takes no connection: " + doubt.Error())
		}
		if at := time.Duration(h.drainedAt.Load()); at > 0 {
			h.cfg.streams.retire(h, time.Since(start)-at)
		}
		timer.Reset(pingInterval)
	}
}

// ping asks the server for an answer, and reports whether it came. It counts ticks, because a
// process that was stopped must not take the server for dead when it goes on.
func (p *presence) ping(n int, timer *time.Timer) bool {
	p.conn.SetWriteDeadline(time.Now().Add(pongLimit))
	if p.conn.WriteLine(mux.Line{Ping: n}) != nil {
		return false // read meets the same
	}
	for ticks := 0; p.pong.Load() < int64(n); {
		timer.Reset(netwatch.RunningTick)
		select {
		case <-p.ponged:
		case <-timer.C:
			ticks++
		case <-p.gone:
			return false
		}
		if ticks < int(pongLimit/netwatch.RunningTick) {
			continue
		}
		if silent := p.hop.way.Silent; silent != nil {
			silent()
		}
		p.failed(&SilentError{After: pongLimit, Why: "from the shared connection"})
		return false
	}
	return true
}

// state passes on how far the chain is dialed.
func (p *presence) state(s *mux.State) {
	switch {
	case isDone(p.up):
		return
	case s.Phase == Down && s.Error != nil && p.hop.cfg.waits:
		p.report(progress{failed: DecodeError(s.Error, p.hop.hops)})
		return
	case s.Phase != Dialing:
		return
	}
	now := progress{hop: p.hop.alias(s.Hop), patient: s.Patient}
	if s.Notice != nil {
		now.notice = p.hop.notice(s.Notice)
	}
	p.report(now)
}

// ask puts a question of the server to the person.
func (p *presence) ask(q mux.Question) {
	ctx, cancel := context.WithCancel(p.hop.life)
	p.mu.Lock()
	p.questions[q.ID] = cancel
	p.mu.Unlock()
	p.hop.cfg.streams.tasks.Go(func() { // ends with the answer, or when the question is taken back
		defer cancel()
		answer := &mux.Answer{ID: q.ID}
		text, err := "", ErrNoPerson
		if p.hop.cfg.Ask != nil {
			text, err = p.hop.cfg.Ask(ctx, Question{Hop: p.hop.alias(q.Hop), Kind: q.Kind, Prompt: q.Prompt, Echo: q.Echo})
		}
		p.mu.Lock()
		delete(p.questions, q.ID)
		p.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if answer.Text = text; err != nil {
			answer.Text, answer.Error = "", EncodeError(err, p.hop.hops)
		}
		p.conn.WriteLine(mux.Line{Answer: answer})
	})
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
	return h.stream(&muxConn{Conn: c, laddr: addr{network, h.where.alias}, raddr: farAddr(network, address)})
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
	p := &muxProcess{gone: make(chan struct{})}
	p.muxConn = &muxConn{Conn: c, wait: wait, laddr: addr{"ssh", h.where.alias}, raddr: addr{"ssh", h.where.alias}}
	go p.await() // ends with the command, with the server or by Close
	if _, err := h.stream(p.muxConn); err != nil {
		return nil, err
	}
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
	conn, err := h.stream(&muxConn{Conn: c, laddr: at.netAddr(), raddr: farAddr(at.network, remote)})
	if err == nil {
		arrivals.add(conn)
	}
}

// stream enters a stream of the hop.
func (h *muxHop) stream(c *muxConn) (net.Conn, error) {
	c.hop, c.closed = h, make(chan struct{})
	c.note(true) // it was opened in order to ask for something
	h.streams.Add(1)
	if !h.cfg.streams.add(c) || isDone(h.presence.gone) { // the others may have been cut already
		c.Close()
		return nil, errLost
	}
	return c, nil
}

// muxStreams are the streams of all muxHops of a Tunnel. Those of a hop that drains outlive its
// link.
type muxStreams struct {
	// warn tells once that the chain is dialed in this process.
	warn sync.Once
	// tasks counts the goroutines of presences.
	tasks sync.WaitGroup

	mu   sync.Mutex
	open map[*muxConn]struct{}
	// closed is set by close.
	closed bool
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

// add reports false if the Tunnel is closed.
func (s *muxStreams) add(c *muxConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.open[c] = struct{}{}
	}
	return !s.closed
}

func (s *muxStreams) remove(c *muxConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// cut ends the streams of a hop. What has come can still be read.
func (s *muxStreams) cut(h *muxHop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.hop == h {
			c.cut()
		}
	}
}

// retire ends streams of a hop that has taken no new one for a time. Some would last as long as the
// program: the stream by which an MCP server sends notices, and connections that an HTTP client
// keeps for later. A server that drains would live on for their sake, logged in, for days.
//
// So a stream ends when it carries nothing for quietLimit, and for less the longer the hop has
// drained: down to nothing at drainLimit. But if its last bytes went to the server, or if it has
// carried none, an answer may be due, and it has all of drainLimit. So has a command, and so have
// all streams while Config.Busy says that an answer is due: its headers may have come early, or it
// comes on another stream than the question. Nothing that is written just then is lost: Write has
// either passed the bytes on, or fails without one.
func (s *muxStreams) retire(h *muxHop, drained time.Duration) {
	left := max(0, drainLimit-drained)
	quiet := time.Duration(float64(quietLimit) * float64(left) / float64(drainLimit))
	if left > 0 && h.cfg.Busy != nil && h.cfg.Busy() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.hop == h && c.retire(quiet, left == 0) {
			h.cfg.Log.Debug("a stream of a shared connection that drains is ended", "addr", c.raddr.String())
			c.cut()
		}
	}
}

// close ends all streams, and those that come later. It waits for presences.
func (s *muxStreams) close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.cut()
		c.hop.presence.conn.Close()
	}
	s.mu.Unlock()
	s.tasks.Wait()
}

// muxConn is a stream through a shared connection. Deadlines, the end of one direction and the
// waiting for a slow reader are what the system makes of the local connection.
type muxConn struct {
	*mux.Conn
	hop *muxHop
	// wait is for the end of a command. It is nil for other streams.
	wait         *mux.Conn
	laddr, raddr net.Addr

	once sync.Once
	// closed is closed by Close.
	closed chan struct{}
	// watched and over are for Ended.
	watched sync.Once
	over    chan struct{}

	mu sync.Mutex
	// moved is when bytes have moved last, since start.
	moved time.Duration
	// asks is set when the last bytes went to the server, and before there are any.
	asks bool
	// retired is set when nothing may be written any more.
	retired bool
}

// note notes that bytes move. It reports false if none may.
func (c *muxConn) note(asks bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired {
		c.moved, c.asks = time.Since(start), asks
	}
	return !c.retired
}

// retire reports whether the stream is to end, if it may be quiet for so long, or at any rate.
func (c *muxConn) retire(quiet time.Duration, anyhow bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.asks || c.wait != nil
	if c.retired || !anyhow && (waits || time.Since(start)-c.moved < quiet) {
		return false
	}
	c.retired = true
	return true
}

// Read reads what comes from the far side.
func (c *muxConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.note(false)
	}
	return n, err
}

// Write writes to the far side.
func (c *muxConn) Write(p []byte) (int, error) {
	if !c.note(true) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// Close frees whoever waits in Read or Write. What was written is still sent. A second call returns
// net.ErrClosed.
func (c *muxConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		close(c.closed)
		c.hop.cfg.streams.remove(c)
		c.hop.idleSince.Store(int64(time.Since(start)))
		c.hop.streams.Add(-1)
		c.hop.leave()
		if c.wait != nil {
			c.wait.Close()
		}
		err = c.Conn.Close()
	})
	return err
}

// cut ends the stream because its server is gone.
func (c *muxConn) cut() {
	c.Shutdown()
	if c.wait != nil {
		c.wait.Close()
	}
}

// Ended returns a channel that is closed when nothing can be sent any more, nor come. It must be
// called when reading has ended.
func (c *muxConn) Ended() <-chan struct{} {
	c.watched.Do(func() {
		c.over = make(chan struct{})
		go func() { // ends with the stream
			defer close(c.over)
			if !errors.Is(c.AwaitHangup(), os.ErrInvalid) {
				return
			}
			select { // the system does not tell
			case <-c.closed:
			case <-c.hop.life.Done():
			}
		}()
	})
	return c.over
}

func (c *muxConn) LocalAddr() net.Addr  { return c.laddr }
func (c *muxConn) RemoteAddr() net.Addr { return c.raddr }

// muxProcess is a command on the last hop of a shared connection.
type muxProcess struct {
	*muxConn
	// status says how the command ended. It is nil for status 0, and valid once gone is closed.
	status *ExitError
	gone   chan struct{}
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
	n, err := p.muxConn.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-p.gone:
	case <-p.closed:
		return n, err
	}
	if p.status != nil {
		return n, p.status
	}
	return n, io.EOF
}

// Close ends the command. It does not say how the command ended.
func (p *muxProcess) Close() error {
	p.muxConn.Close()
	return nil
}
