package sshtunnel

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/cleartext"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

const (
	// defaultConnectTimeout bounds a hop whose ConnectTimeout is not set.
	defaultConnectTimeout = 30 * time.Second
	// noTimeout is longer than any process lives.
	noTimeout = 100 * 365 * 24 * time.Hour
	// clientVersion is our identification (RFC 4253 section 4.2).
	clientVersion = "SSH-2.0-sallyport"
)

// dialer connects and logs in to one host. It is used once.
type dialer struct {
	cfg      *Config
	host     *sshconfig.Host
	prepared *preparation
	// via is the hop before. It is nil for the first hop.
	via hop
	// link is what the hop will be a part of.
	link *link

	where place
	// report tells how far the dial has come.
	report func(progress)
	// patience has the clock of ConnectTimeout, and stops it while a person may be at work.
	patience *patience
	// stage is one of the Stage constants.
	stage atomic.Value
	// proxy is the ProxyCommand. It is nil if there is none.
	proxy *proxyCommand
	// conn is nil until StageHandshake.
	conn *netwatch.Conn
	// witness has the proof of the session for the agent.
	witness *cleartext.Witness
	auth    *authenticator
	// keyErr is why the host key was refused.
	keyErr error
	// kexTraced is set when Trace.KeyExchanged has been called.
	kexTraced bool
}

// dial returns a hop that is logged in. ctx and ConnectTimeout bound TCP, key exchange and
// authentication together. The clock of ConnectTimeout stands still while a person is asked. On
// failure everything is closed, and the error is a *HopError or the cause of ctx.
func (d *dialer) dial(ctx context.Context) (hop, error) {
	d.where = place{alias: d.host.Alias}
	if d.host.ProxyCommand != "" && d.via == nil {
		d.proxy = d.newProxyCommand()
	} else {
		d.where.addr = net.JoinHostPort(d.host.HostName, strconv.Itoa(d.host.Port))
	}
	try, err := d.agree(ctx)
	defer try.Abandon()
	if needsPerson(err) || try.PersonExpected() {
		// The server is not disturbed by one more login that would not be completed.
		err = cmp.Or(d.prepared.standIn.look(ctx), err)
	}
	if err != nil {
		return nil, err
	}
	timeout := connectTimeout(d.host)
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.patience = newPatience(d, try, cancel)
	d.patience.clock = newClock(timeout, func() { cancel(d.timeoutError(timeout)) })
	defer d.patience.end()

	d.stage.Store(StageConnect)
	h, err := d.login(limited)
	if needsPerson(err) {
		err = cmp.Or(d.spare(limited, true), err)
	}
	d.record(limited, try, err)
	if err == nil {
		return h, nil
	}
	if d.conn != nil {
		d.conn.Close()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if found := d.prepared.standIn.taken(); found != nil {
		return nil, found
	}
	if limited.Err() != nil {
		err = context.Cause(limited) // our own timeout
	}
	if d.proxy != nil && !d.proxy.heardServer() {
		d.stage.Store(StageConnect)
	}
	return nil, d.where.error(d.stage.Load().(string), err)
}

// timeoutError is the cause of an end by ConnectTimeout.
func (d *dialer) timeoutError(limit time.Duration) error {
	err := &TimeoutError{After: limit.String()}
	if d.proxy != nil {
		err.Program, err.Said = d.proxy.program, d.proxy.said()
	}
	return err
}

// connectTimeout returns how long a login at h may take as long as no person is at work on it.
func connectTimeout(h *sshconfig.Host) time.Duration {
	switch {
	case h.ConnectTimeout > 0:
		return h.ConnectTimeout
	case h.ConnectTimeoutSet: // 0 and none set no limit
		return noTimeout
	}
	return defaultConnectTimeout
}

// login connects, and does key exchange and authentication.
func (d *dialer) login(ctx context.Context) (*sshHop, error) {
	raw, err := d.dialTransport(ctx)
	if err != nil {
		return nil, err
	}
	d.cfg.Trace.connected(d.connected(raw))
	d.witness = cleartext.NewWitness(netwatch.AckAtOnce(raw))
	d.conn = &netwatch.Conn{Conn: &readAheadConn{Conn: d.witness}, Raw: raw}
	stop := context.AfterFunc(ctx, func() { d.conn.Close() })
	defer stop()
	d.stage.Store(StageHandshake)

	select {
	case <-d.prepared.ready:
	case <-ctx.Done(): // the agent does not answer
		return nil, context.Cause(ctx)
	}
	if d.prepared.keysErr != nil {
		return nil, d.prepared.keysErr
	}
	if d.where.addr != "" && d.via == nil {
		d.prepared.keys.DialedDirectly(raw.RemoteAddr())
	}
	// The agent may ask a person too. It must not hold us after the timeout.
	defer context.AfterFunc(ctx, d.prepared.agent.Close)()
	config, err := d.clientConfig(ctx)
	if err != nil {
		return nil, err
	}
	conn, chans, reqs, err := ssh.NewClientConn(d.conn, d.where.addr, config)
	if !stop() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, d.explain(ctx, err)
	}
	if m, ok := conn.(ssh.AlgorithmsConnMetadata); ok {
		d.traceKeyExchange(m.Algorithms()) // the server let us in without asking for anything
	}
	d.auth.accepted()
	client := ssh.NewClient(conn, chans, d.prepared.keys.HandleUpdates(conn, reqs, d.askAboutUpdates()))
	h := newSSHHop(d.where, d.conn, client, d.link)
	h.beat.answered = func(took time.Duration) { d.cfg.Trace.roundTrip(RoundTripInfo{d.where.alias, took}) }
	return h, nil
}

// connected says what was opened to run the SSH protocol over.
func (d *dialer) connected(conn net.Conn) ConnectedInfo {
	switch {
	case d.via != nil:
		return ConnectedInfo{d.where.alias, ByHop, d.where.addr}
	case d.host.ProxyCommand != "":
		return ConnectedInfo{Hop: d.where.alias, By: ByProxyCommand}
	}
	return ConnectedInfo{d.where.alias, ByTCP, conn.RemoteAddr().String()}
}

// traceKeyExchange calls Trace.KeyExchanged the first time.
func (d *dialer) traceKeyExchange(a ssh.NegotiatedAlgorithms) {
	if !d.kexTraced {
		d.kexTraced = true
		d.cfg.Trace.keyExchanged(d.where.alias, a)
	}
}

// clientConfig says how x/crypto is to do the handshake.
func (d *dialer) clientConfig(ctx context.Context) (*ssh.ClientConfig, error) {
	d.auth = newAuthenticator(ctx, d)
	config := &ssh.ClientConfig{
		User:              d.host.User,
		ClientVersion:     clientVersion,
		HostKeyCallback:   func(_ string, _ net.Addr, key ssh.PublicKey) error { return d.checkHostKey(ctx, key) },
		HostKeyAlgorithms: d.prepared.keys.Algorithms(),
		AuthCallback:      d.chooseMethod,
		BannerCallback:    d.banner,
	}
	return config, setAlgorithms(config, d.host)
}

// banner takes a banner of the server (RFC 4252 section 5.4). It may hold a link that has to be
// opened before the login goes on, or the reason of a refusal.
func (d *dialer) banner(text string) error {
	d.auth.said(text)
	d.tell(text)
	return nil
}

// tell shows a text to the person, and lets the login take as long as a person may need. It may be
// called from any goroutine.
func (d *dialer) tell(text string) { d.patience.tell(text) }

// spare is called when the login cannot go on without a person. If it returns an error, the user's
// ControlMaster takes the place of this login, which has to end. Whether the next login will need a
// person too is noted for it.
func (d *dialer) spare(ctx context.Context, nextToo bool) error {
	if nextToo {
		d.patience.needed()
	}
	defer d.patience.clock.pause()()
	return d.prepared.standIn.look(ctx)
}

// ask puts a question to the person. The clock of ConnectTimeout stands still meanwhile.
func (d *dialer) ask(ctx context.Context, q Question) (string, error) {
	if q.Kind != "add-key" { // the login has got on without the answer
		if err := d.spare(ctx, q.Kind != "host-key"); err != nil {
			return "", err
		}
	}
	if d.cfg.Ask == nil || d.host.BatchMode {
		return "", ErrNoPerson
	}
	defer d.patience.ask(q.Prompt)()
	answer, err := d.cfg.Ask(ctx, q)
	if err == nil {
		d.patience.tookPart()
	}
	return answer, err
}

// wait is told that a signature may wait for the person. The clock of ConnectTimeout stands still
// meanwhile.
func (d *dialer) wait(w userkeys.Wait) (over func()) {
	if w.Certain {
		d.patience.tookPart()
		d.tell(w.Text)
	}
	return d.patience.hold()
}

// hostKeyQuestion is a question of package hostkeys.
func (d *dialer) hostKeyQuestion(prompt string) Question {
	return Question{Hop: d.where.alias, Kind: "host-key", Prompt: prompt, Echo: true}
}

func (d *dialer) checkHostKey(ctx context.Context, key ssh.PublicKey) error {
	var voucher hostkeys.Voucher
	voucher, d.keyErr = d.prepared.keys.Verify(ctx, key, func(ctx context.Context, prompt string) (string, error) {
		return d.ask(ctx, d.hostKeyQuestion(prompt))
	})
	if d.keyErr == nil && d.stage.CompareAndSwap(StageHandshake, StageAuth) {
		d.cfg.Trace.hostKeyAccepted(HostKeyInfo{d.where.alias, voucher})
	}
	return d.keyErr
}

// askAboutUpdates returns how package hostkeys asks about UpdateHostKeys, which happens after the
// login; nil if nobody can be asked.
func (d *dialer) askAboutUpdates() hostkeys.Asker {
	if d.cfg.Ask == nil {
		return nil
	}
	return func(ctx context.Context, prompt string) (string, error) {
		return d.cfg.Ask(ctx, d.hostKeyQuestion(prompt))
	}
}

// chooseMethod returns what to offer the server next.
//
// x/crypto takes a connection that ends during a login for a refusal, and asks for the next method.
// But a server that refuses leaves the connection open, or says so in a disconnect message, after
// which x/crypto does not ask. An end without either may pass, so it must not count as a refusal.
func (d *dialer) chooseMethod(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	d.traceKeyExchange(c.Algorithms)
	if d.conn.Failed.Load() {
		return nil, errCut
	}
	if err := d.cfg.host.admit(); err != nil {
		return nil, err
	}
	d.beginAuth(c.Metadata)
	method, err := d.auth.choose(c)
	return method, cmp.Or(d.prepared.standIn.taken(), err)
}

// beginAuth tells, the first time, who the server is: to the agent for what session this connection
// is, so that it lets keys be used that are limited to this server, and to the authenticator what
// release the server is of.
func (d *dialer) beginAuth(server ssh.ConnMetadata) {
	if d.auth.source.ServerVersion != "" {
		return
	}
	d.auth.source.ServerVersion = string(server.ServerVersion())
	if b, ok := d.witness.Binding(server.SessionID()); ok {
		d.prepared.agent.Bind(b)
	}
}

// errCut ends a login whose connection has ended before the answer.
var errCut = errors.New("the connection ended during the login")

// explain returns why a handshake has failed.
func (d *dialer) explain(ctx context.Context, err error) error {
	switch found := d.prepared.standIn.taken(); {
	case found != nil:
		d.auth.conclude(AuthFailed, found)
		return found
	case d.keyErr != nil:
		return d.keyErr
	case mismatch(err) != nil:
		return mismatch(err)
	case d.unreadableKey() != nil:
		return d.unreadableKey()
	case errors.Is(err, errCut):
		err = errCut
	case ctx.Err() == nil && d.stage.Load() == StageAuth:
		if refused := d.auth.refusal(err); refused != nil {
			d.auth.conclude(AuthRefused, nil)
			return refused
		}
	}
	err = trimHandshake(err)
	d.auth.conclude(AuthFailed, cmp.Or(context.Cause(ctx), err))
	return err
}

// unreadableKey returns an error if the server's key is of a type that is not known.
func (d *dialer) unreadableKey() error {
	keyType, err := d.witness.UnreadableKey()
	if err == nil {
		return nil
	}
	return &hostkeys.Error{Hop: d.where.alias, Host: d.where.addr, Type: keyType, Unknown: true, Err: err}
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

// clock calls a function when a time has run. It can be paused.
type clock struct {
	mu sync.Mutex
	// left is the time that was left when the clock last began to run, at since.
	left    time.Duration
	since   time.Time
	pauses  int
	timer   *time.Timer
	stopped bool
}

func newClock(d time.Duration, expire func()) *clock {
	return &clock{left: d, since: time.Now(), timer: time.AfterFunc(d, expire)}
}

// pause halts the clock until the returned function is called. Pauses may overlap.
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
