package sshtunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/muxstream"
	"sallyport/sshtunnel/served"
	"sallyport/sshtunnel/spare"
)

const (
	// requestLimit is how long a client may take for its request.
	requestLimit = 10 * time.Second
	// supervision is the longest time between two looks at whether the server is still needed.
	supervision = time.Second
	// measureLimit is how long a status waits for the round-trip time.
	measureLimit = 500 * time.Millisecond
	// drainGrace is by how much longer than muxstream.DrainLimit the streams of a server that
	// drains may go on. Clients end theirs before.
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
	streams *served.Streams
	left    *served.Leftovers

	// tasks counts the goroutines.
	tasks sync.WaitGroup
	// roundTrip is how long the last hop took to answer, in nanoseconds. It is 0 before.
	roundTrip atomic.Int64

	serverEnd

	clients *served.Clients
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
		streams: served.NewStreams(goodbyeLimit),
		left:    served.NewLeftovers(),
		clients: served.NewClients(),
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.drained, s.stopped = s.draining.Done(), make(chan struct{})
	s.people.init()
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
	s.streams.Await(s.stopped, muxstream.DrainLimit+drainGrace, supervision)
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
		s.clients.Close()
		s.left.Close()
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
		s.streams.CloseLost()
		switch {
		case s.cfg.Max > 0 && time.Now().Round(0).After(s.endsAt()): // the wall clock: sleep counts
			s.Drain("too old")
		case s.cfg.Idle > 0 && !s.people.waiting() && s.streams.IdleFor() >= s.cfg.Idle:
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
	defer s.clients.Leave(c)
	if !s.clients.Enter(c) {
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
		defer s.streams.Begin()()
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
