package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// defaultConnectTimeout bounds a hop whose ConnectTimeout is not set.
	defaultConnectTimeout = 30 * time.Second
	// attemptPause lies between two of ConnectionAttempts, as with ssh.
	attemptPause = time.Second
	// clientVersion is our identification (RFC 4253 4.2).
	clientVersion = "SSH-2.0-sallyport"
)

func parseAddrPort(s string) (netip.AddrPort, error) { return netip.ParseAddrPort(s) }

// hop is one SSH connection of a link.
type hop struct {
	host   *Host
	addr   string // host:port; "" with a ProxyCommand
	conn   *countedConn
	client *ssh.Client
}

func (h *hop) error(stage string, err error) *HopError {
	return &HopError{Hop: h.host.Alias, Addr: h.addr, Stage: stage, Err: err}
}

// dialHop connects and logs in to one host. via is the hop before, nil for the first. The context
// and ConnectTimeout bound TCP, key exchange and authentication together; ConnectTimeout stands
// still while a person is asked. On failure everything is closed, and the error is a *HopError or
// the cause of ctx.
func dialHop(ctx context.Context, cfg *Config, h *Host, via *hop) (*hop, error) {
	hp := &hop{host: h}
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
		if cause := context.Cause(outer); outer.Err() != nil {
			return cause
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx) // our own timeout
		}
		return hp.error(stage.Load().(string), err)
	}

	raw, err := dialTransport(ctx, cfg, h, hp.addr, via)
	if err != nil {
		return nil, fail(err)
	}
	hp.conn = &countedConn{Conn: &readAheadConn{Conn: raw}}
	stop := context.AfterFunc(ctx, func() { hp.conn.Close() })
	stage.Store(StageHandshake)

	ask := func(q Question) (string, error) {
		if cfg.Ask == nil || h.BatchMode {
			return "", ErrNoPerson
		}
		defer clk.pause()()
		return cfg.Ask(ctx, q)
	}
	var remote net.Addr // where it is ours to tell
	if hp.addr != "" && via == nil {
		remote = raw.RemoteAddr()
	}
	keys, err := newHostKeyCheck(ctx, cfg, h, ask, remote)
	if err != nil {
		stop()
		hp.conn.Close()
		return nil, fail(err)
	}
	ag, agentConn, agentErr := openAgent(ctx, h, cfg.Getenv)
	if agentConn != nil {
		// The agent may ask a person too, and is then not to hold us after the timeout.
		stopAgent := context.AfterFunc(ctx, func() { agentConn.Close() })
		defer agentConn.Close()
		defer stopAgent()
	}
	auth := newAuthenticator(h, ask, cfg.Log, ag, agentErr)

	var keyErr error
	config := &ssh.ClientConfig{
		User:          h.User,
		ClientVersion: clientVersion,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if keyErr = keys.check(key); keyErr == nil {
				stage.CompareAndSwap(StageHandshake, StageAuth)
			}
			return keyErr
		},
		HostKeyAlgorithms: keys.algorithms(),
		AuthCallback:      auth.choose,
		BannerCallback: func(text string) error {
			cfg.Log.Info("banner", "hop", h.Alias, "text", clip(printable(text)))
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
		} else if ctx.Err() == nil && stage.Load() == StageAuth {
			if refused := auth.finish(err); refused != nil {
				err = refused
			}
		}
		return nil, fail(trimHandshake(err))
	}
	hp.client = ssh.NewClient(conn, chans, keys.watchUpdates(conn, reqs, cfg.Ask))
	return hp, nil
}

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
func setAlgorithms(c *ssh.ClientConfig, h *Host) error {
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

// dialTransport opens what the SSH protocol of h runs over.
func dialTransport(ctx context.Context, cfg *Config, h *Host, addr string, via *hop) (net.Conn, error) {
	if via != nil {
		return via.open(ctx, "tcp", addr)
	}
	if h.ProxyCommand != "" {
		return dialProxyCommand(cfg, h)
	}
	network := "tcp"
	switch h.AddressFamily {
	case "inet":
		network = "tcp4"
	case "inet6":
		network = "tcp6"
	}
	var d net.Dialer // happy eyeballs included (RFC 6555)
	if !h.TCPKeepAlive {
		d.KeepAlive = -1
	}
	if h.BindAddress != "" && h.BindAddress != "*" {
		local, err := net.ResolveTCPAddr(network, net.JoinHostPort(h.BindAddress, "0"))
		if err != nil {
			return nil, fmt.Errorf("BindAddress: %w", err)
		}
		d.LocalAddr = local
	}
	for attempt := 1; ; attempt++ {
		conn, err := d.DialContext(ctx, network, addr)
		if err == nil || attempt >= h.ConnectionAttempts {
			return conn, err
		}
		select {
		case <-time.After(attemptPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// openRequest is the payload of direct-tcpip (RFC 4254 7.2).
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

// open opens a connection from the hop; names are resolved there.
func (h *hop) open(ctx context.Context, network, target string) (net.Conn, error) {
	kind, payload := "direct-streamlocal@openssh.com", ssh.Marshal(openUnixRequest{Path: target})
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, portText, err := net.SplitHostPort(target)
		if err != nil {
			return nil, err
		}
		port, err := net.LookupPort("tcp", portText)
		if err != nil {
			return nil, err
		}
		kind, payload = "direct-tcpip", ssh.Marshal(openRequest{Host: host, Port: uint32(port), OriginHost: "127.0.0.1"})
	case "unix":
	default:
		return nil, net.UnknownNetworkError(network)
	}
	ch, reqs, err := h.openChannel(ctx, kind, payload, target)
	if err != nil {
		return nil, err
	}
	return newChannelConn(ch, reqs, ssh.DiscardRequests, addr{network, h.host.Alias}, farAddr(network, target)), nil
}

// openChannel waits for the peer's answer, ctx or the end of the connection. x/crypto cannot take
// an open request back: when ctx ends first, a goroutine waits on and closes what comes of it. It
// ends with the connection at the latest.
func (h *hop) openChannel(ctx context.Context, kind string, payload []byte, target string) (ssh.Channel, <-chan *ssh.Request, error) {
	type answer struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	answers := make(chan answer) // taken by us or, after ctx, by nobody
	go func() {
		ch, reqs, err := h.client.OpenChannel(kind, payload)
		select {
		case answers <- answer{ch, reqs, err}:
		case <-ctx.Done():
			if err == nil {
				go ssh.DiscardRequests(reqs) // ends with the channel
				ch.Close()
			}
		}
	}()
	select {
	case a := <-answers:
		if refused, ok := errors.AsType[*ssh.OpenChannelError](a.err); ok {
			return nil, nil, &OpenError{Hop: h.host.Alias, Addr: target, Reason: refused.Reason, Msg: clip(refused.Message)}
		}
		if a.err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errLost, a.err)
		}
		return a.ch, a.reqs, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// countedConn counts what arrives, so that any byte is a sign of life.
type countedConn struct {
	net.Conn
	received atomic.Int64 // bytes
	at       atomic.Int64 // when the last ones came, since start
}

// start is a base for monotonic times.
var start = time.Now()

// last returns when bytes last arrived.
func (c *countedConn) last() time.Time { return start.Add(time.Duration(c.at.Load())) }

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.at.Store(int64(time.Since(start)))
	c.received.Add(int64(n))
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

// commandConn is the stdin and stdout of a ProxyCommand.
type commandConn struct {
	in   *os.File // its stdin
	out  *os.File // its stdout
	kill func()
	once sync.Once
}

// dialProxyCommand runs the command by the user's shell (ssh_config(5), ProxyCommand). Its stderr
// goes to the log; Close ends it with all that it started.
func dialProxyCommand(cfg *Config, h *Host) (net.Conn, error) {
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		outR.Close()
		outW.Close()
		return nil, err
	}
	cmd := shellCommand(cfg.Getenv("SHELL"), h.ProxyCommand)
	cmd.Stdin, cmd.Stdout = inR, outW
	cmd.Stderr = &logWriter{log: cfg.Log.With("hop", h.Alias)}
	cmd.WaitDelay = time.Second // a grandchild may hold stderr open
	err = cmd.Start()
	inR.Close()
	outW.Close()
	if err != nil {
		outR.Close()
		inW.Close()
		return nil, fmt.Errorf("ProxyCommand: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the command, which Close kills
		defer close(done)
		if err := cmd.Wait(); err != nil {
			cfg.Log.Info("ProxyCommand ended", "hop", h.Alias, "err", err)
		}
	}()
	return &commandConn{in: inW, out: outR, kill: func() { killCommand(cmd.Process, done) }}, nil
}

func (c *commandConn) Read(p []byte) (int, error)  { return c.out.Read(p) }
func (c *commandConn) Write(p []byte) (int, error) { return c.in.Write(p) }

func (c *commandConn) Close() error {
	c.once.Do(func() {
		c.in.Close()
		c.out.Close()
		c.kill()
	})
	return nil
}

func (c *commandConn) LocalAddr() net.Addr                { return addr{"command", ""} }
func (c *commandConn) RemoteAddr() net.Addr               { return addr{"command", ""} }
func (c *commandConn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *commandConn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }
func (c *commandConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// logWriter logs each line that is written to it, cut to a limit.
type logWriter struct {
	log  *slog.Logger
	line []byte
}

func (w *logWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			w.log.Info("ProxyCommand: " + printable(string(w.line)))
			w.line = w.line[:0]
		} else if len(w.line) < 1000 {
			w.line = append(w.line, b)
		}
	}
	return len(p), nil
}
