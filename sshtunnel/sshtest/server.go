// Package sshtest is an SSH server inside the process, with knobs for what can go wrong. It is for
// tests and demonstrations, and listens on loopback only.
//
// What a Server does for its clients is what its Config gives it: connections go out by Dial,
// remote forwards by Listen, commands by Exec. A chain of hops is made of several Servers whose
// Dial leads to the next.
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
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Stall says where a server falls silent, keeping the connection open.
type Stall int

// The places to fall silent.
const (
	NoStall          Stall = iota
	StallTCP               // accepts TCP, sends nothing
	StallBanner            // sends its version, then nothing
	StallKeyExchange       // sends its part of the key exchange's beginning (RFC 4253 7.1), then nothing
	StallAuth              // never answers a login
	StallOpen              // never answers the opening of a channel
)

// Challenge is one round of keyboard-interactive.
type Challenge struct {
	Name, Instruction string
	Prompts           []string
	Echo              []bool // per prompt; nil: none
	Answers           []string
}

// Config describes a Server. With no means of login set, every login fails.
type Config struct {
	HostKeys []ssh.Signer // nil: one new ed25519 key
	User     string       // "" any

	AuthorizedKeys []ssh.PublicKey
	Password       string      // "" no password login
	Challenges     []Challenge // nil: no keyboard-interactive
	SecondFactor   bool        // a key alone is not enough: keyboard-interactive must follow
	NoAuth         bool        // anybody may come in
	MaxAuthTries   int         // 0: x/crypto's 6

	// Dial opens the connections of direct-tcpip and direct-streamlocal channels; nil: prohibited.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Listen serves remote forwards; nil: denied.
	Listen     func(network, addr string) (net.Listener, error)
	DenyCancel bool // refuse to take remote forwards back, as dropbear does
	// Exec runs a command and returns its exit status; nil: refused. ctx ends with the channel.
	Exec func(ctx context.Context, cmd string, stdin io.Reader, stdout, stderr io.Writer) int

	Stall Stall
	Log   *slog.Logger // nil discards
}

// Server is a running server. Its methods may be called concurrently; the caller must Close it.
type Server struct {
	cfg Config
	ln  net.Listener
	ssh *ssh.ServerConfig

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[*gate]struct{}

	accepted   atomic.Int64
	logins     atomic.Int64
	keepalives atomic.Int64
	asked      atomic.Int64
}

// Start listens on a free port of 127.0.0.1.
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

// NewKey makes an ed25519 key.
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

// Addr is host:port of the server.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// HostKey is the first host key.
func (s *Server) HostKey() ssh.PublicKey { return s.cfg.HostKeys[0].PublicKey() }

// KnownHosts returns lines for a known_hosts file, under host ("" the server's [127.0.0.1]:port).
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

// Accepted counts TCP connections, Asked the attempts to log in, Logins those that did, Keepalives
// the requests of that name.
func (s *Server) Accepted() int   { return int(s.accepted.Load()) }
func (s *Server) Asked() int      { return int(s.asked.Load()) }
func (s *Server) Logins() int     { return int(s.logins.Load()) }
func (s *Server) Keepalives() int { return int(s.keepalives.Load()) }

// Drop closes all connections with a reset and goes on listening.
func (s *Server) Drop() {
	for _, g := range s.gates() {
		g.reset()
	}
}

// Freeze makes all present connections a black hole: nothing is read, sent or closed any more.
func (s *Server) Freeze() {
	for _, g := range s.gates() {
		g.freeze()
	}
}

func (s *Server) gates() []*gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*gate
	for g := range s.conns {
		all = append(all, g)
	}
	return all
}

// Close ends everything and waits for it.
func (s *Server) Close() {
	s.cancel()
	s.ln.Close()
	s.Drop()
	s.wg.Wait()
}

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

var errDenied = errors.New("denied")

func (s *Server) serverConfig() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{ServerVersion: "SSH-2.0-sshtest", MaxAuthTries: s.cfg.MaxAuthTries}
	for _, k := range s.cfg.HostKeys {
		cfg.AddHostKey(k)
	}
	allow := func(c ssh.ConnMetadata) error {
		s.asked.Add(1)
		if s.cfg.Stall == StallAuth {
			for _, g := range s.gates() {
				if g.RemoteAddr() == c.RemoteAddr() {
					io.Copy(io.Discard, g) // until the client goes
				}
			}
			return errDenied
		}
		if s.cfg.User != "" && c.User() != s.cfg.User {
			return errDenied
		}
		return nil
	}
	if s.cfg.NoAuth {
		cfg.NoClientAuth = true
		cfg.NoClientAuthCallback = func(c ssh.ConnMetadata) (*ssh.Permissions, error) { return nil, allow(c) }
		return cfg
	}
	challenge := func(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		if err := allow(c); err != nil {
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
			if strings.Join(got, "\x00") != strings.Join(r.Answers, "\x00") {
				return nil, errDenied
			}
		}
		return nil, nil
	}
	if s.cfg.AuthorizedKeys != nil || s.cfg.Stall == StallAuth {
		cfg.PublicKeyCallback = func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if err := allow(c); err != nil {
				return nil, err
			}
			for _, k := range s.cfg.AuthorizedKeys {
				if bytes.Equal(k.Marshal(), key.Marshal()) {
					if s.cfg.SecondFactor {
						return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: challenge}}
					}
					return nil, nil
				}
			}
			return nil, errDenied
		}
	}
	if s.cfg.Password != "" {
		cfg.PasswordCallback = func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if err := allow(c); err != nil || string(password) != s.cfg.Password {
				return nil, errDenied
			}
			return nil, nil
		}
	}
	if s.cfg.Challenges != nil && !s.cfg.SecondFactor {
		cfg.KeyboardInteractiveCallback = challenge
	}
	if cfg.PublicKeyCallback == nil && cfg.PasswordCallback == nil && cfg.KeyboardInteractiveCallback == nil {
		cfg.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errDenied }
	}
	return cfg
}

// stallingConn sends some writes, and holds back what comes after them until the client goes.
type stallingConn struct {
	*gate
	writes int
}

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
	frozen chan struct{}
	ended  chan struct{}
	once   sync.Once
	end    sync.Once
}

func newGate(c net.Conn) *gate {
	return &gate{Conn: c, frozen: make(chan struct{}), ended: make(chan struct{})}
}

func (g *gate) freeze() { g.once.Do(func() { close(g.frozen) }) }

// pass waits for the end when the gate is frozen.
func (g *gate) pass() error {
	select {
	case <-g.frozen:
		<-g.ended
		return net.ErrClosed
	default:
		return nil
	}
}

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

func (g *gate) Write(p []byte) (int, error) {
	if err := g.pass(); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// Close of a frozen gate is not seen by the client.
func (g *gate) Close() error {
	select {
	case <-g.frozen:
		return nil
	default:
	}
	g.end.Do(func() { close(g.ended) })
	return g.Conn.Close()
}

func (g *gate) reset() {
	if c, ok := g.Conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	g.end.Do(func() { close(g.ended) })
	g.Conn.Close()
}
