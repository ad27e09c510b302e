package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// defaultConnectTimeout bounds a hop whose ConnectTimeout is not set.
	defaultConnectTimeout = 30 * time.Second
	// clientVersion is our identification (RFC 4253 4.2).
	clientVersion = "SSH-2.0-sallyport"
)

// hop is one SSH connection of a link.
type hop struct {
	host   *sshconfig.Host
	addr   string // host:port; "" with a ProxyCommand
	conn   *countedConn
	gather *gatherConn // of conn
	client *ssh.Client
	master *master       // stands for conn and client where the link rides a ControlMaster
	ended  chan struct{} // closed when client has ended

	pinging    pinging
	streams    atomic.Int32 // channels that are open
	unanswered atomic.Int32 // opens whose caller has left before the answer
}

func (h *hop) error(stage string, err error) *HopError {
	return &HopError{Hop: h.host.Alias, Addr: h.addr, Stage: stage, Err: err}
}

// close closes what the hop runs over.
func (h *hop) close() {
	if h.master != nil {
		h.master.Close()
		return
	}
	h.conn.Close()
}

// preparation is what one hop needs and no server has a say in: it is made while the hops before
// are dialed.
type preparation struct {
	ready chan struct{} // closed when the fields below are set
	keys  *hostkeys.Verifier

	keysErr error // of KnownHostsCommand

	agent     agent.ExtendedAgent // nil: none, or agentErr
	agentErr  error
	agentConn io.Closer // nil where agent is
}

// prepare reads known_hosts and the agent's list of keys for h. ctx bounds the call; the caller must
// call end.
func prepare(ctx context.Context, cfg *Config, h *sshconfig.Host) *preparation {
	p := &preparation{ready: make(chan struct{})}
	go func() { // ends with ctx at the latest; end waits for it
		defer close(p.ready)
		p.keys, p.keysErr = hostkeys.New(ctx, hostkeys.Config{Host: h, Getenv: cfg.Getenv, Log: cfg.Log})
		ag, conn, err := openAgent(ctx, h, cfg.Getenv)
		p.agentErr = err
		if conn != nil {
			p.agent, p.agentConn = listEarly(ag), conn
		}
	}()
	return p
}

// end frees what prepare has opened.
func (p *preparation) end() {
	<-p.ready
	if p.agentConn != nil {
		p.agentConn.Close()
	}
}

// earlyAgent answers List with what it asked for when it was made: most often before the server
// wants the first key.
type earlyAgent struct {
	agent.ExtendedAgent
	listed chan struct{} // closed when the next two are set
	keys   []*agent.Key
	err    error
}

func listEarly(a agent.ExtendedAgent) *earlyAgent {
	e := &earlyAgent{ExtendedAgent: a, listed: make(chan struct{})}
	go func() { // ends with the answer, or when the connection to the agent is closed
		defer close(e.listed)
		e.keys, e.err = a.List()
	}()
	return e
}

func (e *earlyAgent) List() ([]*agent.Key, error) {
	<-e.listed
	return e.keys, e.err
}

// dialHop connects and logs in to one host. via is the hop before, nil for the first. The context
// and ConnectTimeout bound TCP, key exchange and authentication together; ConnectTimeout stands
// still while a person is asked. On failure everything is closed, and the error is a *HopError or
// the cause of ctx.
func dialHop(ctx context.Context, cfg *Config, h *sshconfig.Host, prepared *preparation, via *hop) (*hop, error) {
	hp := &hop{host: h, ended: make(chan struct{})}
	if h.ProxyCommand == "" || via != nil {
		hp.addr = net.JoinHostPort(h.HostName, strconv.Itoa(h.Port))
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := h.ConnectTimeout
	if timeout <= 0 {
		timeout = defaultConnectTimeout
	}
	clk := newClock(timeout, func() { cancel(&TimeoutError{After: timeout.String()}) })
	defer clk.stop()

	var stage atomic.Value
	stage.Store(StageConnect)
	fail := func(err error) error {
		if outer.Err() != nil {
			return context.Cause(outer)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx) // our own timeout
		}
		return hp.error(stage.Load().(string), err)
	}

	raw, err := dialTransport(ctx, cfg, h, via)
	if err != nil {
		return nil, fail(err)
	}
	hp.gather = newGatherConn(&readAheadConn{Conn: raw})
	hp.conn = &countedConn{Conn: hp.gather}
	stop := context.AfterFunc(ctx, func() { hp.conn.Close() })
	stage.Store(StageHandshake)

	ask := func(q Question) (string, error) {
		if cfg.Ask == nil || h.BatchMode {
			return "", ErrNoPerson
		}
		defer clk.pause()()
		return cfg.Ask(ctx, q)
	}
	select {
	case <-prepared.ready:
	case <-ctx.Done(): // an agent that does not let us in
		stop()
		hp.conn.Close()
		return nil, fail(nil)
	}
	if prepared.keysErr != nil {
		stop()
		hp.conn.Close()
		return nil, fail(prepared.keysErr)
	}
	keys := prepared.keys
	if hp.addr != "" && via == nil {
		keys.DialedDirectly(raw.RemoteAddr())
	}
	auth := newAuthenticator(h, ask, cfg.Log, prepared.agent, prepared.agentErr)
	if prepared.agentConn != nil {
		// The agent may ask a person too, and is then not to hold us after the timeout.
		defer context.AfterFunc(ctx, func() { prepared.agentConn.Close() })()
	}

	// x/crypto takes a connection that ends within a login for a refusal, and asks for the next
	// method. A server that refuses leaves it open, or says so in a disconnect message, after which
	// choose is not called: an end without that may pass.
	choose := func(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
		if hp.conn.ended.Load() {
			return nil, errCut
		}
		return auth.choose(c)
	}

	askHostKey := func(_ context.Context, prompt string) (string, error) { return ask(hostKeyQuestion(h, prompt)) }
	var keyErr error
	config := &ssh.ClientConfig{
		User:          h.User,
		ClientVersion: clientVersion,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if _, keyErr = keys.Verify(ctx, key, askHostKey); keyErr == nil {
				stage.CompareAndSwap(StageHandshake, StageAuth)
			}
			return keyErr
		},
		HostKeyAlgorithms: keys.Algorithms(),
		AuthCallback:      choose,
		BannerCallback: func(text string) error {
			cfg.Log.Info("banner", "hop", h.Alias, "text", display.Cut(display.Printable(text)))
			return nil
		},
	}
	if err := setAlgorithms(config, h); err != nil {
		stop()
		hp.conn.Close()
		return nil, fail(err)
	}
	conn, chans, reqs, err := ssh.NewClientConn(hp.conn, hp.addr, config)
	if !stop() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		hp.conn.Close()
		if keyErr != nil {
			err = keyErr
		} else if errors.Is(err, errCut) {
			err = errCut
		} else if ctx.Err() == nil && stage.Load() == StageAuth {
			if refused := auth.finish(err); refused != nil {
				err = refused
			}
		}
		return nil, fail(trimHandshake(err))
	}
	var askUpdate hostkeys.Asker
	if cfg.Ask != nil {
		askUpdate = func(ctx context.Context, prompt string) (string, error) {
			return cfg.Ask(ctx, hostKeyQuestion(h, prompt))
		}
	}
	hp.client = ssh.NewClient(conn, chans, keys.HandleUpdates(conn, reqs, askUpdate))
	return hp, nil
}

// hostKeyQuestion is what hostkeys wants to know of the person.
func hostKeyQuestion(h *sshconfig.Host, prompt string) Question {
	return Question{Hop: h.Alias, Kind: "host-key", Prompt: prompt, Echo: true}
}

// supported keeps of list what x/crypto implements, in the user's order.
func supported(list []string, have ...[]string) []string {
	all := slices.Concat(have...)
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !slices.Contains(all, s) })
}

// errCut ends a login whose connection has ended before the answer.
var errCut = errors.New("the connection ended during the login")

// trimHandshake cuts x/crypto's "ssh: handshake failed: " and names a bare end of the stream.
func trimHandshake(err error) error {
	if !strings.HasPrefix(err.Error(), "ssh: handshake failed: ") {
		return err
	}
	inner := errors.Unwrap(err)
	if inner == io.EOF {
		return errors.New("the server closed the connection")
	}
	return inner
}

// setAlgorithms applies Ciphers, MACs and KexAlgorithms. Left alone, x/crypto's order stands: it
// has aes128-gcm first, and no fast code for chacha20.
func setAlgorithms(c *ssh.ClientConfig, h *sshconfig.Host) error {
	if len(c.HostKeyAlgorithms) == 0 {
		return fmt.Errorf("none of HostKeyAlgorithms %s is implemented", strings.Join(h.HostKeyAlgorithms, ","))
	}
	good, old := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	for _, l := range []struct {
		keyword   string
		want      []string
		good, old []string
		set       *[]string
	}{
		{"Ciphers", h.Ciphers, good.Ciphers, old.Ciphers, &c.Ciphers},
		{"MACs", h.MACs, good.MACs, old.MACs, &c.MACs},
		{"KexAlgorithms", h.KexAlgorithms, good.KeyExchanges, old.KeyExchanges, &c.KeyExchanges},
	} {
		if l.want == nil {
			continue
		}
		if *l.set = supported(l.want, l.good, l.old); len(*l.set) == 0 {
			return fmt.Errorf("none of %s %s is implemented", l.keyword, strings.Join(l.want, ","))
		}
	}
	return nil
}

// countedConn counts what arrives, so that any byte is a sign of life.
type countedConn struct {
	net.Conn
	received atomic.Int64 // bytes
	at       atomic.Int64 // when the last ones came, since start
	ended    atomic.Bool  // a Read or Write has failed
}

// start is a base for monotonic times.
var start = time.Now()

// last returns when bytes last arrived.
func (c *countedConn) last() time.Time { return start.Add(time.Duration(c.at.Load())) }

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.at.Store(int64(time.Since(start)))
	c.received.Add(int64(n))
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

// clock calls expire when a time has run, not counting pauses.
type clock struct {
	mu      sync.Mutex
	left    time.Duration
	since   time.Time
	pauses  int
	timer   *time.Timer
	stopped bool
}

func newClock(d time.Duration, expire func()) *clock {
	return &clock{left: d, since: time.Now(), timer: time.AfterFunc(d, expire)}
}

// pause halts the clock until the returned function is called.
func (c *clock) pause() (resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pauses++; c.pauses == 1 {
		c.timer.Stop()
		c.left -= time.Since(c.since)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pauses--; c.pauses == 0 && !c.stopped {
			c.since = time.Now()
			c.timer.Reset(c.left)
		}
	}
}

func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.timer.Stop()
}
