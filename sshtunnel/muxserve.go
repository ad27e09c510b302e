package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/served"
)

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
	k := mux.NewCarrier(c, &s.streams.Bytes, func() { cancel(errClientGone) })
	far, release, err := s.reach(ctx, req)
	if err != nil {
		s.refuseFor(c, err)
		k.Abort()
		return
	}
	defer release()
	s.carry(c, k, mux.OK{}, far)
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
	return r.pool.open(ctx, req.Address, func(ctx context.Context, l *link) (opened, error) {
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
func (s *Server) carry(c *mux.Conn, k *mux.Carrier, ok mux.OK, far opened) {
	defer s.streams.Watch(k)()
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
			id := s.left.Arrived(conn)
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
	defer s.streams.Begin()()
	conn := s.left.Take(id)
	if conn == nil {
		refuse(c, &mux.Error{Text: "no such arrival waits"})
		return
	}
	k := mux.NewCarrier(c, &s.streams.Bytes, func() {})
	s.carry(c, k, mux.OK{}, openedConn(conn))
}

// exec serves OpExec.
func (s *Server) exec(c *mux.Conn, req mux.Request) {
	ctx, cancel, done := s.opening(context.Background())
	defer done()
	k := mux.NewCarrier(c, &s.streams.Bytes, func() { cancel(errClientGone) })
	p, release, err := carry(ctx, s.pool, func(l *link) (io.ReadWriteCloser, error) { return l.last().exec(ctx, req.Command) })
	if err != nil {
		s.refuseFor(c, err)
		k.Abort()
		return
	}
	defer release()
	far := openedConn(p)
	id, e := s.left.Started()
	far.stream = &execStream{far.stream, e}
	defer s.left.Ended(id, e, mux.Exit{Status: -1}) // unless it has ended by itself
	s.carry(c, k, mux.OK{ID: id}, far)
}

// execStream notes how a command ends.
type execStream struct {
	mux.Stream
	exit *served.Exit
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
	e.exit.Tell(how)
	return n, io.EOF
}

// wait serves OpWait.
func (s *Server) wait(c *mux.Conn, id string) {
	e := s.left.ExitOf(id)
	if e == nil {
		refuse(c, &mux.Error{Text: "no such command"})
		return
	}
	ctx, cancel := s.awaitClient(c)
	defer cancel(nil)
	select {
	case <-e.Done:
		c.WriteLine(mux.Reply{Exit: &e.How})
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
	out.Traffic, out.IdleSince = s.streams.Traffic()
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
