package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// link is a chain of hops to which we are logged in, the last one at the far end. It ends as a
// whole.
type link struct {
	hops []hop
	// sharedBy is the process that shares the connection. It is 0 for one of this process.
	sharedBy int
	// attended says that a person had a hand in the login, so that another login would bother the
	// person again. It may also say so of a login that only took as long.
	attended bool
	// doubted says that a server which owes an answer is given up before keepalive would: the user
	// has not set how long it may be silent.
	doubted bool

	// life ends with the link. Its cause says why.
	life context.Context
	end  context.CancelCauseFunc

	// tasks counts the goroutines of the link and of its hops.
	tasks sync.WaitGroup

	// closed is closed when the link has ended and none of these goroutines is left.
	closed chan struct{}
}

func newLink() *link {
	l := &link{closed: make(chan struct{})}
	l.life, l.end = context.WithCancelCause(context.Background())
	return l
}

// dialLink dials all hosts of a chain in turn. It calls report before each one, and when a person
// may be at work. What needs no server is done for all hops from the start.
func dialLink(ctx context.Context, cfg *Config, chain []*sshconfig.Host, report func(progress)) (*link, error) {
	if len(chain) == 0 {
		return nil, errors.New("no host to dial")
	}
	if cfg.Shared != nil {
		if l, err := dialShared(ctx, cfg, chain, report); l != nil || err != nil {
			return l, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prepared := make([]*preparation, len(chain))
	for i, h := range chain {
		prepared[i] = prepare(ctx, cfg, h)
		defer prepared[i].end()
	}
	l := newLink()
	reached := 0 // hosts
	if cfg.ControlMaster == MasterAlways {
		if i, m := findMaster(ctx, chain, cfg.Log, &l.tasks); m != nil {
			l.ride(m, cfg, report)
			reached = i + 1
		}
	}
	for reached < len(chain) {
		h := chain[reached]
		report(progress{hop: h.Alias})
		d := &dialer{cfg: cfg, host: h, prepared: prepared[reached], link: l, report: report}
		d.prepared.standIn = newStandIn(cfg, chain[reached:], l)
		if len(l.hops) > 0 {
			d.via = l.last()
		}
		hp, err := d.dial(ctx)
		master, found := errors.AsType[*masterFound](err)
		switch {
		case found:
			l.ride(master.hop, cfg, report)
			reached += master.ahead
		case err != nil:
			cancel() // frees preparations that hang
			l.close(err)
			return nil, err
		default:
			l.hops = append(l.hops, hp)
			l.attended = l.attended || d.patience.attended()
		}
		reached++
	}
	l.begin(cfg, chain[len(chain)-len(l.hops):])
	return l, nil
}

// begin makes the link clean up when it ends, and starts to watch its hops.
func (l *link) begin(cfg *Config, hosts []*sshconfig.Host) {
	l.attend(cfg, hosts)
	context.AfterFunc(l.life, func() {
		l.close(nil)
		close(l.closed)
	})
}

// ride puts the user's ControlMaster in the place of the hops that are there, which end. It is for
// a link that is being dialed.
func (l *link) ride(m *masterHop, cfg *Config, report func(progress)) {
	report(progress{hop: m.where.alias})
	cfg.Trace.connected(ConnectedInfo{m.where.alias, ByControlMaster, m.socket})
	if len(l.hops) > 0 {
		l.hops[0].close(errors.New("a ControlMaster takes the place of this hop"))
	}
	l.hops = []hop{m}
}

// attend makes the link end when one of its hops does, and starts to watch the hops. The hosts are
// those of the hops.
func (l *link) attend(cfg *Config, hosts []*sshconfig.Host) {
	for _, hp := range l.hops {
		context.AfterFunc(hp.ended(), func() { l.fail(context.Cause(hp.ended())) })
	}
	all := aliveOf(hosts, cfg.aliveInterval)
	for i, a := range all {
		if b := l.hops[i].heartbeat(); b != nil && a.interval > 0 {
			l.tasks.Go(func() { l.keepalive(i, a) }) // ends with the link
		}
	}
	if l.last().heartbeat() != nil {
		l.doubted = all[len(l.hops)-1].ours && cfg.aliveInterval > 0
		l.tasks.Go(func() { l.watch(cfg.machine, l.doubted) }) // ends with the link
	}
}

func (l *link) last() hop { return l.hops[len(l.hops)-1] }

// fail ends the link for a reason. The reason of the first call counts. It does not wait.
//
// Only the outermost hop is closed. All others run inside it and end with it. To close an inner one
// first would mean to wait for a peer that may be gone.
func (l *link) fail(cause error) {
	l.end(cause)
	if len(l.hops) > 0 {
		l.hops[0].close(context.Cause(l.life))
	}
}

// close ends the link and waits for its goroutines.
func (l *link) close(cause error) {
	l.fail(cause)
	l.tasks.Wait()
}

// localIP returns the address that the outermost connection leaves the machine by; nil if it is not
// known.
func (l *link) localIP() net.IP {
	if b := l.hops[0].heartbeat(); b != nil {
		return b.localIP()
	}
	return nil
}

// A hop is one server on the way to which we are logged in.
//
// There are three kinds. An sshHop is an SSH connection of our own. A masterHop is the user's
// ControlMaster. A muxHop is a connection that another process shares, and stands for all hops.
// Only their own files know which kind a hop is. All methods may be called
// concurrently.
type hop interface {
	// place says which server this is.
	place() place

	// open opens a connection from the server to an address. The network is "tcp" or "unix". The
	// server resolves names. ctx bounds the call, not the connection. The error is an *OpenError
	// if the server refused. It wraps errLost if the hop ended.
	open(ctx context.Context, network, address string) (net.Conn, error)

	// exec starts a command on the server. ctx bounds the call, not the command. Reading gives the
	// command's stdout, and at its end an *ExitError unless the status is 0.
	exec(ctx context.Context, command string) (io.ReadWriteCloser, error)

	// listen asks the server to listen on an address. The connections that arrive there go to
	// arrivals. ctx bounds the call. The error is a *ListenError if the server refused.
	listen(ctx context.Context, at listenAddress, arrivals *backlog) (*grant, error)

	// heartbeat returns the means to find out whether the server still answers. It is nil if
	// another program watches the connection.
	heartbeat() *heartbeat

	// used reports whether a connection or a command of the hop is open, or was until just now. It
	// may be called when the hop has ended.
	used() bool

	// ended returns a context that ends with the hop. The context's cause says why.
	ended() context.Context

	// close ends the hop for a reason. The reason of the first call counts. close does not wait
	// for goroutines: the link does.
	close(cause error)
}

// errLost marks an error that comes from the end of a hop, not from an answer of its server. The
// call that met it can be made again on the next link.
var errLost = errors.New("link lost")

// place names a hop in errors and logs.
type place struct {
	// alias is the name that the user gave the server.
	alias string
	// addr is the host:port that was dialed. It is empty if a ProxyCommand or a ControlMaster
	// leads to the server.
	addr string
}

// error returns a HopError for this hop.
func (p place) error(stage string, err error) *HopError {
	return &HopError{Hop: p.alias, Addr: p.addr, Stage: stage, Err: err}
}

// grant is a remote forward that a server has agreed to.
type grant struct {
	// port is the TCP port that the server listens on. It is 0 for a Unix socket.
	port uint32
	// cancel asks the server to end the forward. It waits for the answer a few seconds at most.
	cancel func() error
}

// preparation is what one hop needs and no server has a say in. It is made while the hops before
// are dialed.
type preparation struct {
	// ready is closed when the fields below are set.
	ready chan struct{}

	// snapshot delivers what userkeys.Snapshot returns. It is nil without Config.Refusals.
	snapshot chan string

	// standIn is set when the hop is dialed. It is nil without MasterAuto.
	standIn *standIn

	keys *hostkeys.Verifier
	// keysErr is the error of KnownHostsCommand.
	keysErr error

	// agent is nil if there is none to use, or agentErr says why it is not reached.
	agent    *userkeys.Agent
	agentErr error
}

// prepare reads known_hosts and the agent's list of keys for h. ctx bounds the call. The caller
// must call end.
func prepare(ctx context.Context, cfg *Config, h *sshconfig.Host) *preparation {
	p := &preparation{ready: make(chan struct{})}
	if cfg.Refusals != nil {
		p.snapshot = make(chan string, 1)
		go func() { p.snapshot <- userkeys.Snapshot(ctx, h, cfg.Getenv) }() // ends with ctx at the latest
	}
	go func() { // ends with ctx at the latest; end waits for it
		defer close(p.ready)
		p.keys, p.keysErr = hostkeys.New(ctx, hostkeys.Config{Host: h, Getenv: cfg.Getenv, Log: cfg.Log})
		p.agent, p.agentErr = userkeys.OpenAgent(ctx, h, cfg.Getenv)
	}()
	return p
}

// end frees what prepare has opened.
func (p *preparation) end() {
	<-p.ready
	p.agent.Close()
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// addr is a far address that need not be an IP address.
type addr struct{ network, name string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.name }

// farAddr returns a *net.TCPAddr or *net.UnixAddr if name allows, because some callers look at the
// type.
func farAddr(network, name string) net.Addr {
	if network == "unix" {
		return &net.UnixAddr{Net: "unix", Name: name}
	}
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return addr{"tcp", name}
}
