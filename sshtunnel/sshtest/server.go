// Package sshtest is an SSH server inside the process that can be made to misbehave. It is for
// tests and demonstrations, and listens on loopback only.
//
// A Server does for its clients what its Config gives it: Dial opens connections, Listen serves
// remote forwards, Exec runs commands. To make a chain of hops, start several Servers with a Dial
// that can reach the others.
package sshtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Stall says where a server falls silent. It keeps the connection open.
type Stall int

const (
	// NoStall is a server that does not fall silent.
	NoStall Stall = iota
	// StallTCP accepts TCP connections and sends nothing.
	StallTCP
	// StallBanner sends its version and nothing more.
	StallBanner
	// StallKeyExchange sends the first message of the key exchange (RFC 4253 section 7.1) and
	// nothing more.
	StallKeyExchange
	// StallAuth never answers a login.
	StallAuth
	// StallOpen never answers a request for a channel.
	StallOpen
	// StallRequest never answers a global request that the server does not know, against RFC 4254
	// section 4. Keepalives are among them.
	StallRequest
)

// Challenge is one round of keyboard-interactive (RFC 4256).
type Challenge struct {
	// Name and Instruction introduce the round.
	Name, Instruction string
	// Prompts are the questions.
	Prompts []string
	// Echo says for each prompt whether the answer may be shown. If it is nil, none may.
	Echo []bool
	// Answers are the right ones.
	Answers []string
}

// Config describes a Server. If no means of login is set, every login fails.
type Config struct {
	// HostKeys are the server's keys. If it is nil, the server makes one ed25519 key.
	HostKeys []ssh.Signer
	// User is the only one who may log in. If it is empty, everybody may.
	User string

	// AuthorizedKeys may log in by public key.
	AuthorizedKeys []ssh.PublicKey
	// Password may log in. If it is empty, there is no login by password.
	Password string
	// Challenges are the rounds of a login by keyboard-interactive. If it is nil, there is none.
	Challenges []Challenge
	// SecondFactor makes the Challenges follow a login by key.
	SecondFactor bool
	// NoAuth lets everybody in.
	NoAuth bool
	// Banners are sent before the login (RFC 4252 section 5.4).
	Banners []string
	// Confirm is called when the right key or answer has come. It stands for what a person does
	// elsewhere, such as confirming a push. The login fails if it returns false. ctx ends at Close.
	// If it is nil, nobody is waited for.
	Confirm func(ctx context.Context) bool
	// MaxAuthTries bounds the tries of one connection. 0 means x/crypto's default, which is 6.
	MaxAuthTries int

	// Dial opens the connections of direct-tcpip and direct-streamlocal channels. If it is nil,
	// such channels are prohibited.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Listen serves remote forwards. If it is nil, they are refused.
	Listen func(network, addr string) (net.Listener, error)
	// DenyCancel makes the server refuse to take remote forwards back, as dropbear does.
	DenyCancel bool
	// Exec runs a command and returns its exit status. ctx ends with the channel. If Exec is nil,
	// commands are refused.
	Exec func(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) int

	// Stall is where the server falls silent.
	Stall Stall
	// Log gets the ends of connections. If it is nil, they are dropped.
	Log *slog.Logger
}

// Server is a server that runs. Its methods may be called concurrently. The caller must Close it.
type Server struct {
	// cfg is what Start got, with its defaults.
	cfg Config
	// ln accepts the TCP connections.
	ln net.Listener
	// ssh is what x/crypto does with them.
	ssh *ssh.ServerConfig

	// ctx ends at Close.
	ctx    context.Context
	cancel context.CancelFunc
	// wg counts serve and the connections, for Close.
	wg sync.WaitGroup

	// mu guards conns.
	mu sync.Mutex
	// conns holds the connections that are open, or frozen.
	conns map[*gate]struct{}

	// These four are what Accepted, Logins, Keepalives and Asked return.
	accepted   atomic.Int64
	logins     atomic.Int64
	keepalives atomic.Int64
	asked      atomic.Int64
}

// Start listens on a free port of 127.0.0.1. The caller must close the server.
func Start(cfg Config) (*Server, error) {
	if cfg.HostKeys == nil {
		cfg.HostKeys = []ssh.Signer{NewKey()}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, ln: ln, conns: map[*gate]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ssh = s.serverConfig()
	s.wg.Go(s.serve) // ends at Close
	return s, nil
}

// NewKey makes an ed25519 key. It is for host keys as well as for users.
func NewKey() ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		panic(err)
	}
	return signer
}

// Addr returns host:port of the server.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// HostKey returns the first host key.
func (s *Server) HostKey() ssh.PublicKey { return s.cfg.HostKeys[0].PublicKey() }

// KnownHosts returns lines for a known_hosts file. If host is empty, they are for the server's
// [127.0.0.1]:port.
func (s *Server) KnownHosts(host string) string {
	if host == "" {
		a := s.ln.Addr().(*net.TCPAddr)
		host = fmt.Sprintf("[%s]:%d", a.IP, a.Port)
	}
	var b strings.Builder
	for _, k := range s.cfg.HostKeys {
		b.WriteString(host + " " + string(ssh.MarshalAuthorizedKey(k.PublicKey())))
	}
	return b.String()
}

// Accepted counts the TCP connections.
func (s *Server) Accepted() int { return int(s.accepted.Load()) }

// Asked counts the tries to log in.
func (s *Server) Asked() int { return int(s.asked.Load()) }

// Logins counts the tries to log in that have succeeded.
func (s *Server) Logins() int { return int(s.logins.Load()) }

// Keepalives counts the requests of that name.
func (s *Server) Keepalives() int { return int(s.keepalives.Load()) }

// Drop resets all connections. The server goes on listening.
func (s *Server) Drop() {
	for _, g := range s.gates() {
		g.reset()
	}
}

// Freeze makes all present connections black holes: nothing is read, sent or closed any more.
func (s *Server) Freeze() {
	for _, g := range s.gates() {
		g.freeze()
	}
}

// gates returns the connections of this moment.
func (s *Server) gates() []*gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*gate
	for g := range s.conns {
		all = append(all, g)
	}
	return all
}

// Close ends the server and all connections, and waits for that.
func (s *Server) Close() {
	s.cancel()
	s.ln.Close()
	s.Drop()
	s.wg.Wait()
}

// serve accepts connections until Close.
func (s *Server) serve() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.accepted.Add(1)
		g := newGate(conn)
		s.mu.Lock()
		s.conns[g] = struct{}{}
		s.mu.Unlock()
		// Close may have dropped the others just before this one was noted.
		if s.ctx.Err() != nil {
			g.reset()
		}
		s.wg.Go(func() { // ends with the connection
			defer func() {
				g.Close()
				s.mu.Lock()
				delete(s.conns, g)
				s.mu.Unlock()
			}()
			if err := s.handle(g); err != nil {
				s.cfg.Log.Debug("connection ended", "err", err)
			}
		})
	}
}

// handle serves one connection until it ends.
func (s *Server) handle(g *gate) error {
	switch s.cfg.Stall {
	case StallBanner:
		io.WriteString(g, "SSH-2.0-sshtest\r\n")
		fallthrough
	case StallTCP:
		_, err := io.Copy(io.Discard, g) // until the client goes
		return err
	}
	var transport net.Conn = g
	if s.cfg.Stall == StallKeyExchange {
		transport = &stallingConn{gate: g, writes: 2} // the version and SSH_MSG_KEXINIT
	}
	conn, chans, reqs, err := ssh.NewServerConn(transport, s.ssh)
	if err != nil {
		return err
	}
	s.logins.Add(1)
	c := &session{s: s, conn: conn, forwards: map[string]net.Listener{}}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	c.wg.Go(func() { c.requests(reqs) }) // ends with the connection
	for nc := range chans {
		if s.cfg.Stall == StallOpen {
			continue
		}
		c.wg.Go(func() { c.channel(nc) }) // ends with the channel
	}
	c.cancel()
	c.closeForwards()
	c.wg.Wait()
	return nil
}

// errDenied makes x/crypto refuse a try to log in.
var errDenied = errors.New("denied")

// serverConfig says how x/crypto is to log clients in.
func (s *Server) serverConfig() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{ServerVersion: "SSH-2.0-sshtest", MaxAuthTries: s.cfg.MaxAuthTries}
	for _, k := range s.cfg.HostKeys {
		cfg.AddHostKey(k)
	}
	cfg.PreAuthConnCallback = func(c ssh.ServerPreAuthConn) {
		for _, text := range s.cfg.Banners {
			c.SendAuthBanner(text)
		}
	}
	if s.cfg.NoAuth {
		cfg.NoClientAuth = true
		cfg.NoClientAuthCallback = func(c ssh.ConnMetadata) (*ssh.Permissions, error) {
			if err := s.admit(c); err != nil {
				return nil, err
			}
			return nil, s.confirm()
		}
		return cfg
	}
	if s.cfg.AuthorizedKeys != nil || s.cfg.Stall == StallAuth {
		cfg.PublicKeyCallback = s.publicKey
	}
	if s.cfg.Password != "" {
		cfg.PasswordCallback = func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if err := s.admit(c); err != nil || string(password) != s.cfg.Password {
				return nil, errDenied
			}
			return nil, s.confirm()
		}
	}
	if s.cfg.Challenges != nil && !s.cfg.SecondFactor {
		cfg.KeyboardInteractiveCallback = s.challenge
	}
	// x/crypto refuses to start a server without any means of login.
	if cfg.PublicKeyCallback == nil && cfg.PasswordCallback == nil && cfg.KeyboardInteractiveCallback == nil {
		cfg.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errDenied }
	}
	return cfg
}

// admit counts a try to log in. It refuses the wrong user. With StallAuth it waits until the client
// goes.
func (s *Server) admit(c ssh.ConnMetadata) error {
	s.asked.Add(1)
	if s.cfg.Stall == StallAuth {
		for _, g := range s.gates() {
			if g.RemoteAddr() == c.RemoteAddr() {
				io.Copy(io.Discard, g)
			}
		}
		return errDenied
	}
	if s.cfg.User != "" && c.User() != s.cfg.User {
		return errDenied
	}
	return nil
}

// publicKey decides about a key. x/crypto also calls it for a client that only asks whether the key
// would do (RFC 4252 section 7).
func (s *Server) publicKey(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if err := s.admit(c); err != nil {
		return nil, err
	}
	for _, k := range s.cfg.AuthorizedKeys {
		if !bytes.Equal(k.Marshal(), key.Marshal()) {
			continue
		}
		if s.cfg.SecondFactor {
			return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: s.challenge}}
		}
		return nil, nil
	}
	return nil, errDenied
}

// challenge puts all rounds of Challenges to the client.
func (s *Server) challenge(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	if err := s.admit(c); err != nil {
		return nil, err
	}
	for _, r := range s.cfg.Challenges {
		echo := r.Echo
		if echo == nil {
			echo = make([]bool, len(r.Prompts))
		}
		got, err := ask(r.Name, r.Instruction, r.Prompts, echo)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(got, r.Answers) {
			return nil, errDenied
		}
	}
	return nil, s.confirm()
}

// confirm waits for the person whom Config.Confirm stands for.
func (s *Server) confirm() error {
	if s.cfg.Confirm != nil && !s.cfg.Confirm(s.ctx) {
		return errDenied
	}
	return nil
}

// stallingConn passes on a number of writes. Later ones wait until the client goes, and then fail.
type stallingConn struct {
	*gate
	// writes is how many more are passed on.
	writes int
}

// Write implements net.Conn. Each call of x/crypto writes one whole packet.
func (c *stallingConn) Write(p []byte) (int, error) {
	if c.writes == 0 {
		_, err := io.Copy(io.Discard, c.gate)
		return 0, errors.Join(net.ErrClosed, err)
	}
	c.writes--
	return c.gate.Write(p)
}

// gate is a connection that can be made a black hole.
type gate struct {
	net.Conn
	// frozen is closed when the connection becomes a black hole.
	frozen chan struct{}
	// freezeOnce closes frozen, and endOnce closes ended.
	freezeOnce sync.Once
	// ended is closed when the connection is closed.
	ended   chan struct{}
	endOnce sync.Once
}

// newGate returns a gate that is open.
func newGate(c net.Conn) *gate {
	return &gate{Conn: c, frozen: make(chan struct{}), ended: make(chan struct{})}
}

// freeze makes the connection a black hole. Only reset ends it then.
func (g *gate) freeze() { g.freezeOnce.Do(func() { close(g.frozen) }) }

// pass returns at once, unless the gate is frozen. Then it waits for the end of the connection.
func (g *gate) pass() error {
	select {
	case <-g.frozen:
		<-g.ended
		return net.ErrClosed
	default:
		return nil
	}
}

// Read implements net.Conn. What arrives after the freeze is lost.
func (g *gate) Read(p []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(p)
	if gone := g.pass(); gone != nil { // frozen while it read
		return 0, gone
	}
	return n, err
}

// Write implements net.Conn.
func (g *gate) Write(p []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// Close closes the connection. The client of a frozen gate must not see that, so Close does
// nothing.
func (g *gate) Close() error {
	select {
	case <-g.frozen:
		return nil
	default:
	}
	g.endOnce.Do(func() { close(g.ended) })
	return g.Conn.Close()
}

// reset ends the connection, also a frozen one. A linger of 0 makes the kernel send RST in place of
// FIN, so the client sees a failure and no orderly end.
func (g *gate) reset() {
	if c, ok := g.Conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	g.endOnce.Do(func() { close(g.ended) })
	g.Conn.Close()
}
