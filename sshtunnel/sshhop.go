package sshtunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/channel"
	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/netwatch"
)

// sshHop is a hop by an SSH connection of our own.
type sshHop struct {
	where  place
	conn   *netwatch.Conn
	client *ssh.Client
	beat   *heartbeat
	// link is what the hop is a part of.
	link *link

	// life ends with the connection.
	life context.Context
	end  context.CancelCauseFunc

	forwards forwardTable

	// streams counts the open channels.
	streams atomic.Int32
	// idleSince is when the last channel ended, in nanoseconds since start. It is 0 before.
	idleSince atomic.Int64
	// connectsAside says that the server is known to go on with everything while it connects.
	connectsAside bool
	// blocking are the requests to open a channel for whose sake the server may do nothing else.
	blocking blockingOpens
	// unanswered counts the requests to open a channel whose caller has left before the answer.
	unanswered atomic.Int32
}

// newSSHHop makes a hop of a connection that is logged in. It starts a goroutine of the link, which
// ends when the connection does.
func newSSHHop(where place, conn *netwatch.Conn, client *ssh.Client, link *link) *sshHop {
	h := &sshHop{where: where, conn: conn, client: client, link: link, forwards: forwardTable{link: link}}
	h.life, h.end = context.WithCancelCause(context.Background())
	h.connectsAside = connectsAside(string(client.ServerVersion()))
	h.beat = &heartbeat{conn: conn, request: func() error {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		return err
	}, nudge: func() error {
		_, _, err := client.SendRequest("keepalive@openssh.com", false, nil)
		return err
	}, heldBy: h.blocking.at, answers: bytes.Contains(client.ServerVersion(), []byte("OpenSSH"))}
	link.tasks.Go(func() { // ends when the connection does, at the latest by close
		err := client.Wait()
		if err == io.EOF {
			err = errors.New("the server closed the connection")
		}
		h.end(where.error(StageLink, err))
		h.forwards.shut()
	})
	return h
}

func (h *sshHop) place() place           { return h.where }
func (h *sshHop) heartbeat() *heartbeat  { return h.beat }
func (h *sshHop) ended() context.Context { return h.life }

// usedGrace is how long a hop counts as used after its last channel. When a connection is lost, its
// channels end just before the hop does.
const usedGrace = time.Second

func (h *sshHop) used() bool {
	since := h.idleSince.Load()
	return h.streams.Load() > 0 || since > 0 && time.Since(start)-time.Duration(since) < usedGrace
}

// asideServers are parts of the versions of servers that answer requests while they connect to an
// address. They were tried: a libssh server that connects with connect(2) does not.
var asideServers = []string{"OpenSSH", "dropbear", "AsyncSSH", "ssh2js", "-Go"}

// connectsAside reports whether the server of a version goes on with everything while it connects
// to an address.
func connectsAside(version string) bool {
	return slices.ContainsFunc(asideServers, func(part string) bool { return strings.Contains(version, part) })
}

// mayBlock reports whether a request may keep the server from everything else. sshd and dropbear do
// nothing else while they look up a name, which takes long if name servers are silent: 10 s for
// each by the defaults of resolv.conf(5). They go on while they connect, and while they start a
// command.
func (h *sshHop) mayBlock(req channelRequest) bool {
	return req.network == "tcp" && (req.named || !h.connectsAside)
}

// blockingOpens are requests that wait for an answer, in the order in which they were made.
type blockingOpens struct {
	mu   sync.Mutex
	list []*blockingOpen
}

type blockingOpen struct {
	address string
	since   time.Time
}

// add adds a request until done is called.
func (b *blockingOpens) add(address string) (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := &blockingOpen{address, time.Now()}
	b.list = append(b.list, o)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.list = slices.DeleteFunc(b.list, func(other *blockingOpen) bool { return other == o })
	}
}

// at returns the address for whose sake the server may do nothing else since then; "" for none. The
// server has taken the requests in their order.
func (b *blockingOpens) at(then time.Time) string {
	const near = time.Millisecond
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) == 0 || !b.list[0].since.Before(then.Add(near)) {
		return ""
	}
	return b.list[0].address
}

// released notes that a channel of openChannel has ended.
func (h *sshHop) released() {
	h.idleSince.Store(int64(time.Since(start)))
	h.streams.Add(-1)
}

// close closes the connection below. An orderly goodbye could wait for ever for a peer that is
// gone.
func (h *sshHop) close(cause error) {
	h.end(cause)
	h.conn.Close()
}

// openRequest is the payload of direct-tcpip (RFC 4254 section 7.2).
type openRequest struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// openUnixRequest is the payload of direct-streamlocal@openssh.com (OpenSSH's PROTOCOL, 2.4).
type openUnixRequest struct {
	Path      string
	Reserved0 string
	Reserved1 uint32
}

func (h *sshHop) open(ctx context.Context, network, address string) (net.Conn, error) {
	req, err := connectRequest(network, address)
	if err != nil {
		return nil, err
	}
	ch, reqs, err := h.openChannel(ctx, req)
	if err != nil {
		return nil, err
	}
	return newChannelConn(h.link, channel.Setup{
		Channel: ch, Requests: reqs, Serve: h.discard,
		Local: addr{req.network, h.where.alias}, Remote: farAddr(req.network, address),
	}), nil
}

// newChannelConn makes the net.Conn of a channel of a link.
func newChannelConn(l *link, setup channel.Setup) *channel.Conn {
	setup.Link, setup.Dropped, setup.GoodbyeLimit = l.life, ErrClosed, goodbyeLimit
	return channel.New(setup)
}

// openDirect does what open does, for a caller that needs no net.Conn. The returned Go channel is
// closed when the SSH channel has ended on both sides.
func (h *sshHop) openDirect(ctx context.Context, network, address string) (mux.Stream, <-chan struct{}, error) {
	req, err := connectRequest(network, address)
	if err != nil {
		return nil, nil, err
	}
	ch, reqs, err := h.openChannel(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() { // ends with the channel
		defer close(ended)
		h.discard(reqs)
	}()
	return ch, ended, nil
}

// spareOpener is a hop that can open a channel which nobody uses yet.
type spareOpener interface {
	openSpare(ctx context.Context, network, address string) (*spareChannel, error)
}

// spareChannel is a channel of a hop. It does not count as used until claim is called.
type spareChannel struct {
	ssh.Channel
	hop *sshHop
	// ended is closed when the channel has ended on both sides.
	ended chan struct{}
	// settled is set by claim, and by the end of the channel. What comes second has no effect.
	settled atomic.Bool
}

// openSpare does what openDirect does, for a channel that nobody uses yet.
func (h *sshHop) openSpare(ctx context.Context, network, address string) (*spareChannel, error) {
	req, err := connectRequest(network, address)
	if err != nil {
		return nil, err
	}
	ch, reqs, err := h.openChannel(ctx, req)
	if err != nil {
		return nil, err
	}
	h.streams.Add(-1) // claim counts it
	c := &spareChannel{Channel: ch, hop: h, ended: make(chan struct{})}
	go func() { // ends with the channel
		defer close(c.ended)
		ssh.DiscardRequests(reqs)
		if !c.settled.CompareAndSwap(false, true) {
			h.released()
		}
	}()
	return c, nil
}

// claim makes the channel count. It returns false if the channel has ended.
func (c *spareChannel) claim() bool {
	c.hop.streams.Add(1)
	if c.settled.CompareAndSwap(false, true) {
		return true
	}
	c.hop.streams.Add(-1)
	return false
}

// connectRequest asks for a channel to an address.
func connectRequest(network, address string) (channelRequest, error) {
	req := channelRequest{network: network, address: address}
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, port, err := splitHostPort(address)
		if err != nil {
			return req, err
		}
		req.network, req.kind = "tcp", "direct-tcpip"
		_, notAddress := netip.ParseAddr(host)
		req.named = notAddress != nil
		req.payload = ssh.Marshal(openRequest{Host: host, Port: port, OriginHost: "127.0.0.1"})
	case "unix":
		req.kind, req.payload = "direct-streamlocal@openssh.com", ssh.Marshal(openUnixRequest{Path: address})
	default:
		return req, net.UnknownNetworkError(network)
	}
	return req, nil
}

// splitHostPort takes host:port apart. A port may have a name, such as "https".
func splitHostPort(address string) (host string, port uint32, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := net.LookupPort("tcp", text)
	return host, uint32(n), err
}

// discard refuses all requests of a channel until the channel ends. It is for channels of
// openChannel, which counts them.
func (h *sshHop) discard(reqs <-chan *ssh.Request) {
	defer h.released()
	ssh.DiscardRequests(reqs)
}

// maxUnanswered bounds how many requests to open a channel may wait for an answer after their
// callers have left. x/crypto cannot take such a request back, and each costs a goroutine. sshd
// answers when its own connect has ended, which takes minutes if a target swallows packets.
const maxUnanswered = 64

// channelRequest describes a channel that is to be opened.
type channelRequest struct {
	// kind is the type of the channel (RFC 4254 section 5.1).
	kind    string
	payload []byte
	// network and address say where the channel leads, for errors.
	network, address string
	// named says that the server has to look up a name.
	named bool
}

// refused returns the error of a hop that does not open the channel.
func (r channelRequest) refused(where place, reason ssh.RejectionReason, msg string) *OpenError {
	return &OpenError{Hop: where.alias, Network: r.network, Addr: r.address, Reason: reason, Msg: msg}
}

// openChannel waits until the server answers, ctx ends or the connection ends.
//
// If ctx ends first, a goroutine goes on waiting and closes the channel that it may get. It ends
// with the connection at the latest. Whoever gets a channel must pass its requests to discard, or
// must call released when they end.
func (h *sshHop) openChannel(ctx context.Context, req channelRequest) (ssh.Channel, <-chan *ssh.Request, error) {
	if err := h.checkOpen(ctx, req); err != nil {
		return nil, nil, err
	}
	answers := make(chan channelAnswer) // nobody takes the answer once ctx has ended
	go h.requestChannel(ctx, req, answers)
	select {
	case a := <-answers:
		if refused, ok := errors.AsType[*ssh.OpenChannelError](a.err); ok {
			return nil, nil, req.refused(h.where, refused.Reason, display.Cut(refused.Message))
		}
		if a.err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errLost, a.err)
		}
		return a.ch, a.reqs, nil
	case <-h.life.Done(): // x/crypto may leave a request unanswered that the end of the connection overtakes
		return nil, nil, fmt.Errorf("%w: it ended while a channel was being opened", errLost)
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// checkOpen returns why no channel can be requested now.
func (h *sshHop) checkOpen(ctx context.Context, req channelRequest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if h.conn.Failed.Load() { // x/crypto never answers a request that comes after the end of the connection
		return fmt.Errorf("%w: it had ended before a channel could be opened", errLost)
	}
	n := h.unanswered.Load()
	switch {
	case n < maxUnanswered:
		return nil
	case h.streams.Load() == 0: // nobody loses anything by a new connection
		return fmt.Errorf("%w: the server has not answered %d requests", errLost, n)
	}
	e := req.refused(h.where, ssh.ResourceShortage, fmt.Sprintf("%d earlier requests are not answered yet", n))
	e.unasked = true
	return e
}

// channelAnswer is the server's answer to a channelRequest.
type channelAnswer struct {
	ch   ssh.Channel
	reqs <-chan *ssh.Request
	err  error
}

// requestChannel requests a channel and hands the answer to the caller. If the caller has left, it
// closes the channel.
func (h *sshHop) requestChannel(ctx context.Context, req channelRequest, answers chan<- channelAnswer) {
	left := context.AfterFunc(ctx, func() { h.unanswered.Add(1) })
	answered := func() {}
	if h.mayBlock(req) {
		answered = h.blocking.add(req.address)
	}
	ch, reqs, err := h.client.OpenChannel(req.kind, req.payload)
	answered()
	if !left() { // the caller has
		h.unanswered.Add(-1)
	}
	if err == nil {
		h.streams.Add(1)
	}
	select {
	case answers <- channelAnswer{ch, reqs, err}:
	case <-h.life.Done():
	case <-ctx.Done():
		if err == nil {
			go h.discard(reqs) // ends with the channel
			ch.Close()
		}
	}
}

// maxStderr bounds how much of a command's stderr goes into its error, in bytes.
const maxStderr = 512

// process is a command on the server of an sshHop.
type process struct {
	*channel.Conn

	// status says how the command ended. It is nil for status 0, and valid once Ended is.
	status *ExitError
}

// exec starts a command (RFC 4254 section 6.5).
func (h *sshHop) exec(ctx context.Context, command string) (io.ReadWriteCloser, error) {
	req := channelRequest{kind: "session", network: "session"}
	ch, reqs, err := h.openChannel(ctx, req)
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() { // ends with the answer, or with the connection
		ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", errLost, err)
		case !ok:
			err = req.refused(h.where, ssh.Prohibited, "exec request refused")
		}
		started <- err
	}()
	p := &process{}
	at := addr{"ssh", h.where.alias}
	serve := func(reqs <-chan *ssh.Request) {
		defer h.released()
		p.watch(ch, reqs)
	}
	// A command may run on after its stdin has ended. Servers that pass signals on end it.
	hangUp := func() { ch.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{"TERM"})) }
	p.Conn = newChannelConn(h.link, channel.Setup{
		Channel: ch, Requests: reqs, Serve: serve, BeforeClose: hangUp, Local: at, Remote: at,
	})
	select {
	case err = <-started:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		p.Conn.Close()
		return nil, err
	}
	return p, nil
}

// watch takes the exit status and stderr until the channel ends.
func (p *process) watch(ch ssh.Channel, reqs <-chan *ssh.Request) {
	var stderr []byte
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the channel
		stderr, _ = io.ReadAll(io.LimitReader(ch.Stderr(), maxStderr))
		io.Copy(io.Discard, ch.Stderr())
	})
	status := &ExitError{Status: -1}
	for r := range reqs {
		if told := exitOf(r); told != nil {
			status = told
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
	wg.Wait()
	if status.Status != 0 || status.Signal != "" {
		status.Stderr = display.Cut(display.Printable(string(stderr)))
		p.status = status
	}
}

// exitOf returns how a command ended if r tells that (RFC 4254 section 6.10), else nil.
func exitOf(r *ssh.Request) *ExitError {
	switch r.Type {
	case "exit-status":
		var m struct{ Status uint32 }
		if ssh.Unmarshal(r.Payload, &m) == nil {
			return &ExitError{Status: int(m.Status)}
		}
	case "exit-signal":
		var m struct {
			Signal     string
			CoreDumped bool
			Msg, Lang  string
		}
		if ssh.Unmarshal(r.Payload, &m) == nil {
			return &ExitError{Signal: display.Cut(m.Signal)}
		}
	}
	return nil
}

// Read reads stdout. At the end of stdout it waits for the exit status and returns io.EOF for
// status 0, else an *ExitError.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-p.Ended():
	case <-p.Closed():
		if !isDone(p.Ended()) {
			return n, err
		}
	}
	if p.status != nil {
		return n, p.status
	}
	return n, io.EOF
}

// Close ends the command. It closes stdin and stdout, and asks the server for a TERM signal. It
// does not say how the command ended.
func (p *process) Close() error {
	p.Conn.Close()
	return nil
}
