package sshtunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/spare"
)

const (
	// requestLimit is how long a client may take for its request.
	requestLimit = 10 * time.Second
	// supervision is the longest time between two looks at whether the server is still needed.
	supervision = time.Second
	// arrivalLimit is how long an arrival waits to be taken over.
	arrivalLimit = 10 * time.Second
	// exitKept is how long the exit status of a command can be asked for.
	exitKept = time.Minute
	// measureLimit is how long a status waits for the round-trip time.
	measureLimit = 500 * time.Millisecond
	// drainGrace is by how much longer than drainLimit the streams of a server that drains may go
	// on. Clients end theirs before.
	drainGrace = 30 * time.Second
)

// errSuperseded ends the attempt of a server whose place another one has taken.
var errSuperseded = errors.New("another shared connection has taken the place of this one")

// ServerConfig describes a Server.
type ServerConfig struct {
	// Tunnel describes the connection that is shared. Its Chain gives the same hosts each time. Its
	// Ask, Notice and Insist are not used: the clients have their own.
	Tunnel Config
	// Version is that of the program.
	Version string
	// Idle is how long the server goes on without a stream. 0 means for ever.
	Idle time.Duration
	// Max is how long the server takes new streams. 0 means for ever.
	Max time.Duration
	// Superseded reports whether another server has taken this one's place. It is asked before each
	// attempt to dial, and again before each step of a login. It may be nil.
	Superseded func() bool
	// Log gets warnings and news. If it is nil, they are dropped.
	Log *slog.Logger
}

// Server shares one connection through a chain of hops with other processes of the user (package
// mux). Its methods may be called concurrently.
type Server struct {
	cfg    ServerConfig
	tunnel *Tunnel
	serverReach
	hops    aliases
	started time.Time
	// addresses are those of the hops, for people.
	addresses []string

	people  people
	streams streams
	left    leftovers

	// tasks counts the goroutines.
	tasks sync.WaitGroup
	// roundTrip is how long the last hop took to answer, in nanoseconds. It is 0 before.
	roundTrip atomic.Int64

	serverEnd

	clients clients
}

// clients are the connections of clients. Its methods may be called concurrently.
type clients struct {
	mu    sync.Mutex
	conns map[*mux.Conn]struct{}
	// closed is set by close.
	closed bool
}

// enter notes a connection. It reports false after close.
func (l *clients) enter(c *mux.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return !l.closed
}

// leave closes a connection.
func (l *clients) leave(c *mux.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// close closes all connections.
func (l *clients) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
}

// serverReach opens what the clients of a Server ask for.
type serverReach struct {
	// pool spreads the streams over the tunnel and further connections.
	pool *pool
	// spares are connections that are open before a client asks for them.
	spares *spare.Keeper
}

// serverEnd is the end of a Server.
type serverEnd struct {
	// draining ends by Drain, and drained is its Done.
	draining context.Context
	drain    context.CancelFunc
	drained  <-chan struct{}
	// why is why the server drains. It is valid once drained is closed.
	why       string
	drainOnce sync.Once
	// stopped is closed by Stop.
	stopped  chan struct{}
	stopOnce sync.Once
}

// muxHost is what a Server tells its Tunnel.
type muxHost struct {
	// begin is called when an attempt begins.
	begin func()
	// admitted returns why nothing may be dialed.
	admitted func() error
	// asks reports whether a client takes questions.
	asks func() bool
}

// admit returns why nothing may be dialed. It is called before an attempt and before each step of a
// login, because the process may have been stopped in between.
func (m *muxHost) admit() error {
	if m == nil {
		return nil
	}
	return m.admitted()
}

// asks reports whether a person may be there.
func (c *Config) asks() bool { return c.Ask != nil && (c.host == nil || c.host.asks()) }

// NewServer returns a server. It dials nothing before a client wants it. The caller must call
// Serve, or Stop.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{
		cfg:     cfg,
		started: time.Now(),
		clients: clients{conns: map[*mux.Conn]struct{}{}},
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.drained, s.stopped = s.draining.Done(), make(chan struct{})
	s.people.init()
	s.streams.init()
	s.left.items = map[string]*leftover{}
	if s.cfg.Log == nil {
		s.cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := cfg.Tunnel
	if t.Chain == nil {
		return nil, errors.New("sshtunnel: Config.Chain is missing")
	}
	chain, err := t.Chain(context.Background())
	if err != nil {
		return nil, err
	}
	for _, h := range chain {
		s.hops = append(s.hops, h.Alias)
		s.addresses = append(s.addresses, h.User+"@"+net.JoinHostPort(h.HostName, strconv.Itoa(h.Port)))
	}
	t.Ask, t.Notice, t.Insist, t.Terminal, t.Shared = s.ask, s.notice, false, false, nil
	t.Trace = s.trace(t.Trace)
	t.host = &muxHost{begin: s.people.begin, admitted: s.admitted, asks: s.people.canAsk}
	if s.tunnel, err = New(t); err != nil {
		return nil, err
	}
	s.pool = newPool(s.tunnel)
	s.spares = spare.New(s.draining, s.pool.openSpare)
	return s, nil
}

// trace adds to a Trace what the server wants to know.
func (s *Server) trace(given *Trace) *Trace {
	t := Trace{}
	if given != nil {
		t = *given
	}
	before := t.RoundTrip
	t.RoundTrip = func(i RoundTripInfo) {
		if before != nil {
			before(i)
		}
		if i.Hop == s.hops[len(s.hops)-1] {
			s.roundTrip.Store(int64(i.Took))
		}
	}
	return &t
}

// admitted returns why the tunnel may not dial.
func (s *Server) admitted() error {
	if isDone(s.drained) {
		return errDraining
	}
	if s.cfg.Superseded != nil && s.cfg.Superseded() {
		s.Drain("superseded")
		return errSuperseded
	}
	return nil
}

// opening returns the context of a request that is not granted yet. It ends with the client that
// made the request, by cancel, and when the server drains.
func (e *serverEnd) opening(parent context.Context) (ctx context.Context, cancel context.CancelCauseFunc, done func()) {
	ctx, cancel = context.WithCancelCause(parent)
	stop := context.AfterFunc(e.draining, func() { cancel(errDraining) })
	return ctx, cancel, func() {
		stop()
		cancel(nil)
	}
}

// Serve serves the clients of a listener, which it closes. It returns when the server has ended:
// because it was unused, too old, superseded, drained or stopped. All its streams have ended then.
// The error is that of the listener, if that has failed.
func (s *Server) Serve(ln net.Listener) error {
	failed := make(chan error, 1)
	s.tasks.Go(func() { failed <- s.accept(ln) }) // ends when ln is closed
	err := s.supervise(failed)
	if err != nil {
		ln.Close() // clients would wait for a greeting
	}
	// A server that drains can still be asked how it is, and be told to stop.
	s.streams.await(s.stopped, drainLimit+drainGrace)
	ln.Close()
	s.people.await(s.stopped)
	s.Stop()
	s.tasks.Wait()
	s.spares.Wait()
	return err
}

// Drain makes the server take no new stream, and end when its streams have ended. That takes some
// ten minutes at most.
func (s *Server) Drain(why string) {
	s.drainOnce.Do(func() {
		s.cfg.Log.Info("the shared connection takes no new stream", "why", why)
		s.why = why
		s.drain()
	})
}

// Stop ends the server and all its streams. It waits for the tunnel.
func (s *Server) Stop() {
	s.Drain("stopped")
	s.stopOnce.Do(func() {
		// A client that knows dials the next connection when it needs one, and not at once.
		s.people.dismiss(s.why)
		close(s.stopped)
		s.clients.close()
		s.left.close()
	})
	s.tunnel.Close()
	s.pool.close()
}

// supervise returns when the server is to take no more streams.
func (s *Server) supervise(failed <-chan error) error {
	pace := supervision
	if s.cfg.Idle > 0 {
		pace = max(time.Millisecond, min(pace, s.cfg.Idle/4))
	}
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		select {
		case err := <-failed:
			s.Drain("the listener has failed")
			return err
		case <-s.drained:
			return nil
		case <-ticker.C:
		}
		s.streams.closeLost()
		switch {
		case s.cfg.Max > 0 && time.Now().Round(0).After(s.endsAt()): // the wall clock: sleep counts
			s.Drain("too old")
		case s.cfg.Idle > 0 && !s.people.waiting() && s.streams.idleFor() >= s.cfg.Idle:
			s.Drain("unused")
		}
	}
}

// endsAt returns when the server drains at the latest; zero if never.
func (s *Server) endsAt() time.Time {
	if s.cfg.Max <= 0 {
		return time.Time{}
	}
	return s.started.Round(0).Add(s.cfg.Max)
}

// accept takes clients until the listener is closed.
func (s *Server) accept(ln net.Listener) error {
	for n := 0; ; {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			n = 0
			s.tasks.Go(func() { s.handle(mux.NewConn(conn)) }) // ends with the client, or at Stop
			continue
		case isDone(s.drained) || errors.Is(err, net.ErrClosed):
			return nil
		}
		if n++; n > 10 {
			return err
		}
		s.cfg.Log.Warn("accept failed", "err", err) // such as too many open files
		select {
		case <-time.After(100 * time.Millisecond):
		case <-s.stopped:
			return nil
		}
	}
}

// handle serves one connection to its end.
func (s *Server) handle(c *mux.Conn) {
	defer s.clients.leave(c)
	if !s.clients.enter(c) {
		return
	}
	c.SetDeadline(time.Now().Add(requestLimit))
	greeting := mux.Greeting{
		Mux: mux.Version, Version: s.cfg.Version, PID: os.Getpid(), Started: s.started, Hops: s.hops, Draining: isDone(s.drained),
	}
	if c.WriteLine(greeting) != nil {
		return
	}
	var req mux.Request
	if err := c.ReadLine(&req); err != nil {
		refuse(c, &mux.Error{Type: mux.TypeBadRequest, Text: "the request is malformed"})
		return
	}
	c.SetDeadline(time.Time{})
	switch req.Op {
	case mux.OpStatus:
		c.WriteLine(mux.Reply{Status: s.status()})
	case mux.OpDrain:
		s.Drain("asked to: " + req.Why)
		c.WriteLine(mux.Reply{OK: &mux.OK{}})
	case mux.OpStop:
		c.WriteLine(mux.Reply{OK: &mux.OK{}})
		go s.Stop() // ends when the tunnel is closed; Serve waits for it
	default:
		s.serve(c, req)
	}
}

// serve serves the operations that belong to one version of the protocol.
func (s *Server) serve(c *mux.Conn, req mux.Request) {
	switch {
	case req.Mux != mux.Version:
		refuse(c, &mux.Error{Type: mux.TypeUnknownVersion, Text: "another version of the protocol", Versions: []int{mux.Version}})
		return
	case req.Op == mux.OpAttach && req.Attach != nil:
		s.attach(c, *req.Attach)
		return
	case req.Op == mux.OpAccept:
		s.handOver(c, req.ID)
		return
	case req.Op == mux.OpWait:
		s.wait(c, req.ID)
		return
	}
	serve := map[string]func(*mux.Conn, mux.Request){mux.OpDial: s.dial, mux.OpListen: s.listen, mux.OpExec: s.exec}[req.Op]
	switch {
	case serve == nil:
		refuse(c, &mux.Error{Type: mux.TypeUnknownOp, Text: "an unknown operation"})
	case isDone(s.drained):
		refuse(c, &mux.Error{Type: mux.TypeDraining, Text: s.why})
	case !s.people.attached():
		refuse(c, &mux.Error{Type: mux.TypeNotAttached, Text: "no client is attached"})
	default:
		defer s.streams.begin()()
		serve(c, req)
	}
}

// refuse answers a request that is not granted.
func refuse(c *mux.Conn, e *mux.Error) {
	c.SetWriteDeadline(time.Now().Add(requestLimit))
	c.WriteLine(mux.Reply{Error: e})
}

// refuseFor answers a request that could not be granted.
func (s *Server) refuseFor(c *mux.Conn, err error) {
	if isDone(s.drained) && (errors.Is(err, errDraining) || errors.Is(err, errSuperseded) || errors.Is(err, ErrClosed)) {
		refuse(c, &mux.Error{Type: mux.TypeDraining, Text: s.why})
		return
	}
	refuse(c, EncodeError(err, s.hops))
}

// opened is the far end of a stream.
type opened struct {
	stream mux.Stream
	ended  func() <-chan struct{}
	// link carries it. It is nil for one that somebody else has opened.
	link *link
}

// directOpener is a hop that can open a stream without the deadlines of a net.Conn, which cost two
// more copies of each byte.
type directOpener interface {
	openDirect(ctx context.Context, network, address string) (mux.Stream, <-chan struct{}, error)
}

// dial serves OpDial.
func (s *Server) dial(c *mux.Conn, req mux.Request) {
	ctx, cancel, done := s.opening(context.Background())
	defer done()
	k := mux.NewCarrier(c, &s.streams.bytes, func() { cancel(errClientGone) })
	far, release, err := s.reach(ctx, req)
	if err != nil {
		s.refuseFor(c, err)
		k.Abort()
		return
	}
	defer release()
	s.streams.carry(c, k, mux.OK{}, far)
}

// reach returns a connection to an address: a spare one, or one that it opens. A Unix socket has no
// spare, because what listens there may do something when it is connected to. The caller must call
// release when the connection has ended.
func (r *serverReach) reach(ctx context.Context, req mux.Request) (far opened, release func(), err error) {
	if req.Network == "unix" {
		return r.open(ctx, req)
	}
	if c := r.spares.Take(ctx, req.Address); c != nil {
		return opened{stream: c.Stream, ended: func() <-chan struct{} { return c.Ended }}, c.Release, nil
	}
	far, release, err = r.open(ctx, req)
	if err != nil {
		if _, refused := errors.AsType[*OpenError](err); refused {
			r.spares.Failed(req.Address)
		}
		return far, nil, err
	}
	far.stream = r.spares.Dialed(req.Address, far.stream, far.link)
	return far, release, nil
}

// open opens a connection to an address.
func (r *serverReach) open(ctx context.Context, req mux.Request) (far opened, release func(), err error) {
	return carry(ctx, r.pool, func(l *link) (opened, error) {
		if direct, ok := l.last().(directOpener); ok {
			stream, ended, err := direct.openDirect(ctx, req.Network, req.Address)
			return opened{stream, func() <-chan struct{} { return ended }, l}, err
		}
		conn, err := l.last().open(ctx, req.Network, req.Address)
		if err != nil {
			return opened{}, err
		}
		far := openedConn(conn)
		far.link = l
		return far, nil
	})
}

// openedConn makes the far end of a connection that a hop has opened or accepted.
func openedConn(conn io.ReadWriteCloser) opened {
	type farStream interface {
		mux.Stream
		Ended() <-chan struct{}
	}
	far, ok := conn.(farStream)
	if plain, isConn := conn.(net.Conn); isConn && !ok {
		far = mux.NewConn(plain) // the ControlMaster's ssh has connected to a socket of ours
	}
	return opened{stream: far, ended: far.Ended}
}

// errClientGone is why a request was taken back.
var errClientGone = errors.New("the client has gone")

// carry says that a stream is open, and carries it to its end.
func (s *streams) carry(c *mux.Conn, k *mux.Carrier, ok mux.OK, far opened) {
	defer s.watch(k)()
	c.WriteLine(mux.Reply{OK: &ok}) // if it fails, so does what follows
	k.Join(far.stream, far.ended)
}

// awaitClient returns a context that ends when the client ends its direction or closes the
// connection. The client must have nothing more to say.
func (s *Server) awaitClient(c *mux.Conn) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.tasks.Go(func() { // ends with the connection, which the caller closes
		io.Copy(io.Discard, c)
		cancel(errClientGone)
	})
	return ctx, cancel
}

// listening is a remote forward on a link.
type listening struct {
	link  *link
	grant *grant
}

// listen serves OpListen.
func (s *Server) listen(c *mux.Conn, req mux.Request) {
	client, leave := s.awaitClient(c)
	defer leave(nil)
	ctx, _, done := s.opening(client)
	defer done()
	at, err := parseListenAddress(req.Network, req.Address)
	arrivals := newBacklog()
	defer arrivals.close()
	var on listening
	if err == nil {
		on, err = withLink(ctx, s.tunnel, func(l *link) (listening, error) {
			g, err := l.last().listen(ctx, at, arrivals)
			return listening{l, g}, err
		})
	}
	if err != nil {
		s.refuseFor(c, err)
		return
	}
	c.WriteLine(mux.Reply{OK: &mux.OK{Port: on.grant.port}})
	for {
		select {
		case conn := <-arrivals.conns:
			remote := ""
			if conn.RemoteAddr() != nil {
				remote = conn.RemoteAddr().String()
			}
			id := s.left.arrived(conn)
			c.WriteLine(mux.Reply{Arrival: &mux.Arrival{ID: id, Remote: remote}})
			continue
		case <-client.Done():
		case <-on.link.life.Done():
		}
		if err := on.grant.cancel(); err != nil {
			s.cfg.Log.Debug("remote forward not cancelled", "addr", req.Address, "err", err)
		}
		return
	}
}

// handOver serves OpAccept.
func (s *Server) handOver(c *mux.Conn, id string) {
	defer s.streams.begin()()
	conn := s.left.take(id)
	if conn == nil {
		refuse(c, &mux.Error{Text: "no such arrival waits"})
		return
	}
	k := mux.NewCarrier(c, &s.streams.bytes, func() {})
	s.streams.carry(c, k, mux.OK{}, openedConn(conn))
}

// exec serves OpExec.
func (s *Server) exec(c *mux.Conn, req mux.Request) {
	ctx, cancel, done := s.opening(context.Background())
	defer done()
	k := mux.NewCarrier(c, &s.streams.bytes, func() { cancel(errClientGone) })
	p, release, err := carry(ctx, s.pool, func(l *link) (io.ReadWriteCloser, error) { return l.last().exec(ctx, req.Command) })
	if err != nil {
		s.refuseFor(c, err)
		k.Abort()
		return
	}
	defer release()
	far := openedConn(p)
	id, e := s.left.started()
	far.stream = &execStream{far.stream, e}
	defer s.left.ended(id, e, mux.Exit{Status: -1}) // unless it has ended by itself
	s.streams.carry(c, k, mux.OK{ID: id}, far)
}

// execStream notes how a command ends.
type execStream struct {
	mux.Stream
	exit *exit
}

// Read reads stdout. It returns io.EOF when the command has ended.
func (e *execStream) Read(b []byte) (int, error) {
	n, err := e.Stream.Read(b)
	if err == nil {
		return n, nil
	}
	how := mux.Exit{Status: -1}
	if status, ok := errors.AsType[*ExitError](err); ok {
		how = mux.Exit{Status: status.Status, Signal: status.Signal, Stderr: status.Stderr}
	} else if err == io.EOF {
		how.Status = 0
	}
	e.exit.tell(how)
	return n, io.EOF
}

// wait serves OpWait.
func (s *Server) wait(c *mux.Conn, id string) {
	e := s.left.exitOf(id)
	if e == nil {
		refuse(c, &mux.Error{Text: "no such command"})
		return
	}
	ctx, cancel := s.awaitClient(c)
	defer cancel(nil)
	select {
	case <-e.done:
		c.WriteLine(mux.Reply{Exit: &e.how})
	case <-ctx.Done():
	}
}

// status describes the server.
func (s *Server) status() *mux.Status {
	st := s.tunnel.current.Load()
	if st.Phase == Up {
		s.measure(measureLimit)
	}
	out := &mux.Status{
		PID: os.Getpid(), Version: s.cfg.Version, Started: s.started, Hops: s.hops, Addresses: s.addresses,
		Phase: st.Phase, Since: st.since, RoundTrip: time.Duration(s.roundTrip.Load()),
		Users: s.people.users(), Term: mux.Term{EndsAt: s.endsAt(), Draining: isDone(s.drained)},
	}
	out.Attached = len(out.Users)
	out.Traffic, out.IdleSince = s.streams.traffic()
	out.Connections, out.Spares = s.pool.connections(), s.spares.Count()
	if s.cfg.Idle > 0 && out.Streams == 0 && !s.people.waiting() {
		out.IdleEndsAt = out.IdleSince.Add(s.cfg.Idle)
	}
	if st.Phase != Up && (st.Hop != "" || st.Err != nil) {
		out.State = s.hops.state(st)
	}
	out.Fit()
	return out
}

// measure asks the last hop for a sign of life, which tells the round-trip time.
func (s *Server) measure(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	l, err := s.tunnel.acquire(ctx, true)
	if err != nil {
		return
	}
	if b := l.last().heartbeat(); b != nil {
		select {
		case <-b.ping(&s.tasks): // ends with the answer, or with the link
		case <-ctx.Done():
		}
	}
}

// streams counts the streams of a Server. Its methods may be called concurrently.
type streams struct {
	bytes mux.Counters
	// none gets a value when the last stream ends. It has room for one.
	none chan struct{}

	mu   sync.Mutex
	open int
	all  int64
	// idle is when the last stream ended.
	idle     time.Time
	carriers map[*mux.Carrier]struct{}
}

func (s *streams) init() {
	s.none, s.idle, s.carriers = make(chan struct{}, 1), time.Now(), map[*mux.Carrier]struct{}{}
}

// begin counts a stream until end is called.
func (s *streams) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.all++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open--; s.open > 0 {
			return
		}
		s.idle = time.Now()
		select {
		case s.none <- struct{}{}:
		default:
		}
	}
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// await returns when no stream is open any more, at stop, or after a time.
func (s *streams) await(stop <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	ticker := time.NewTicker(supervision)
	defer ticker.Stop()
	for s.count() > 0 {
		select {
		case <-s.none:
		case <-ticker.C:
			s.closeLost()
		case <-timer.C:
			return
		case <-stop:
			return
		}
	}
}

// touch begins the time without a stream anew.
func (s *streams) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = time.Now()
}

// idleFor returns how long no stream has been open.
func (s *streams) idleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open > 0 {
		return 0
	}
	return time.Since(s.idle)
}

// watch enters a Carrier for closeLost until end is called.
func (s *streams) watch(k *mux.Carrier) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carriers[k] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.carriers, k)
	}
}

// closeLost closes streams that take no bytes, and whose client is gone.
func (s *streams) closeLost() {
	s.mu.Lock()
	all := make([]*mux.Carrier, 0, len(s.carriers))
	for k := range s.carriers {
		all = append(all, k)
	}
	s.mu.Unlock()
	for _, k := range all {
		k.CloseLost(goodbyeLimit)
	}
}

// traffic returns the figures, and since when no stream has been open.
func (s *streams) traffic() (mux.Traffic, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := mux.Traffic{Streams: s.open, Opened: s.all, BytesIn: s.bytes.In.Load(), BytesOut: s.bytes.Out.Load()}
	if s.open > 0 {
		return t, time.Time{}
	}
	return t, s.idle
}

// leftovers are what one connection of a client leaves for another: arrivals, and the exit status
// of commands. Their methods may be called concurrently.
type leftovers struct {
	mu    sync.Mutex
	last  int
	items map[string]*leftover
	// closed is set by close.
	closed bool
}

// leftover is an arrival or a command.
type leftover struct {
	// conn is the arrival. It is nil for a command.
	conn net.Conn
	// exit is that of the command.
	exit *exit
	// expiry removes the leftover. It is nil for a command that runs.
	expiry *time.Timer
}

// exit says how a command has ended.
type exit struct {
	once sync.Once
	// done is closed when how is set.
	done chan struct{}
	how  mux.Exit
}

// tell sets how the command has ended. The first call counts.
func (e *exit) tell(how mux.Exit) {
	e.once.Do(func() {
		e.how = how
		close(e.done)
	})
}

func (l *leftovers) add(o *leftover) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	id := strconv.Itoa(l.last)
	l.items[id] = o
	return id
}

// arrived keeps an arrival for a short time.
func (l *leftovers) arrived(conn net.Conn) (id string) {
	o := &leftover{conn: conn}
	id = l.add(o)
	l.mu.Lock()
	defer l.mu.Unlock()
	o.expiry = time.AfterFunc(arrivalLimit, func() {
		if late := l.take(id); late != nil {
			late.Close()
		}
	})
	if l.closed {
		conn.Close()
	}
	return id
}

// take removes an arrival. It returns nil if there is none.
func (l *leftovers) take(id string) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.items[id]
	if o == nil || o.conn == nil {
		return nil
	}
	delete(l.items, id)
	o.expiry.Stop()
	return o.conn
}

// started keeps a command until a while after ended is called.
func (l *leftovers) started() (id string, e *exit) {
	e = &exit{done: make(chan struct{})}
	return l.add(&leftover{exit: e}), e
}

// ended notes that a command has ended.
func (l *leftovers) ended(id string, e *exit, how mux.Exit) {
	e.tell(how)
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.items[id]; o != nil && !l.closed {
		o.expiry = time.AfterFunc(exitKept, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.items, id)
		})
	}
}

// exitOf returns that of a command; nil if there is none.
func (l *leftovers) exitOf(id string) *exit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.items[id]; o != nil {
		return o.exit
	}
	return nil
}

// close closes what waits, and forgets the rest.
func (l *leftovers) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for id, o := range l.items {
		if o.expiry != nil {
			o.expiry.Stop()
		}
		if o.conn != nil {
			o.conn.Close()
		}
		delete(l.items, id)
	}
}
