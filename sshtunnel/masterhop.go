package sshtunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/subprocess"
)

// MasterUse says when a tunnel goes through the user's live ControlMaster.
type MasterUse int

const (
	// MasterNever dials every host.
	MasterNever MasterUse = iota
	// MasterAuto goes through a master only where that spares the person something: a passphrase, a
	// password, a code, a push, a touch, or the question whether a host key is known.
	MasterAuto
	// MasterAlways goes through a master that answers, and dials nothing that it stands for.
	MasterAlways
)

// masterHop is a hop by the user's ControlMaster (ssh_config(5), ControlPath). A bastion that wants
// two factors asks nothing then, because it has let the user in already.
//
// Everything goes through ssh(1). x/crypto has a client of the master's protocol
// (NewControlClientConn), but that can kill the user's master: it drops channels that are not
// confirmed yet.
type masterHop struct {
	where place
	// socket is the ControlPath.
	socket string
	log    *slog.Logger
	// tasks counts the link's goroutines.
	tasks *sync.WaitGroup

	// life ends when the hop is closed. That the master has gone is noticed by the next call.
	life context.Context
	end  context.CancelCauseFunc
	once sync.Once

	mu       sync.Mutex
	closed   bool
	conns    map[*masterConn]struct{}
	forwards map[*masterForward]struct{}
}

func newMasterHop(h *sshconfig.Host, log *slog.Logger, tasks *sync.WaitGroup) *masterHop {
	m := &masterHop{
		where:    place{alias: h.Alias},
		socket:   h.ControlPath,
		log:      log,
		tasks:    tasks,
		conns:    map[*masterConn]struct{}{},
		forwards: map[*masterForward]struct{}{},
	}
	m.life, m.end = context.WithCancelCause(context.Background())
	return m
}

// findMaster returns the last host of a chain whose ControlMaster answers, and its index. The hop
// is nil if none answers.
func findMaster(ctx context.Context, chain []*sshconfig.Host, log *slog.Logger, tasks *sync.WaitGroup) (int, *masterHop) {
	for i := len(chain) - 1; i >= 0; i-- {
		if chain[i].ControlPath == "" {
			continue
		}
		m := newMasterHop(chain[i], log, tasks)
		if m.answers(ctx) {
			return i, m
		}
		log.Warn("no ControlMaster answers; connecting without", "hop", chain[i].Alias, "path", chain[i].ControlPath)
	}
	return -1, nil
}

// standIn finds the ControlMaster that takes the place of one login, where that login would need a
// person. It looks once: a person who has been asked is not disturbed any more.
type standIn struct {
	// hosts are the host of the login and those behind it, whose master would do as well.
	hosts []*sshconfig.Host
	// link is what the hop will be a part of.
	link *link
	log  *slog.Logger

	mu     sync.Mutex // guards what follows
	looked bool
	// found is nil if there is no master.
	found *masterFound
}

// newStandIn returns that of a login at the first of hosts. It is nil if no master is wanted.
func newStandIn(cfg *Config, hosts []*sshconfig.Host, l *link) *standIn {
	if cfg.ControlMaster != MasterAuto {
		return nil
	}
	return &standIn{hosts: hosts, link: l, log: cfg.Log}
}

// masterFound ends a login whose place a ControlMaster takes.
type masterFound struct {
	hop *masterHop
	// ahead is how many hosts lie between the host of the login and that of the master.
	ahead int
}

// Error says what takes the place of the login.
func (f *masterFound) Error() string {
	return "the ControlMaster at " + f.hop.socket + " takes the place of this login"
}

// look returns a *masterFound if a master answers, else nil. Only sockets of this user count: who
// may put one at the path could else take over what was not meant to go there. A process is started
// only where there is such a socket.
func (s *standIn) look(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.hosts) - 1; i >= 0 && !s.looked; i-- {
		h := s.hosts[i]
		if h.ControlPath == "" || !subprocess.OwnSocket(h.ControlPath) {
			continue
		}
		m := newMasterHop(h, s.log, &s.link.tasks)
		if m.answers(ctx) {
			s.log.Info("riding the ControlMaster, which spares a question", "hop", h.Alias, "path", h.ControlPath)
			s.found = &masterFound{m, i}
			break
		}
		s.log.Debug("the ControlMaster does not answer", "hop", h.Alias, "path", h.ControlPath)
	}
	s.looked = true
	return s.errLocked()
}

// taken returns the *masterFound of an earlier look, or nil.
func (s *standIn) taken() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errLocked()
}

func (s *standIn) errLocked() error {
	if s.found == nil {
		return nil // not a nil *masterFound
	}
	return s.found
}

func (m *masterHop) place() place           { return m.where }
func (m *masterHop) heartbeat() *heartbeat  { return nil }  // the master has a keepalive of its own
func (m *masterHop) used() bool             { return true } // its end is noticed when it is used
func (m *masterHop) ended() context.Context { return m.life }

// command returns an ssh command that asks the master for something. It never connects by itself.
func (m *masterHop) command(args ...string) *exec.Cmd {
	path := strings.ReplaceAll(m.socket, "%", "%%") // its tokens are expanded already
	fixed := []string{"-F", "none", "-S", path, "-o", "ControlMaster=no", "-o", "BatchMode=yes"}
	fixed = append(fixed, "-o", "ProxyCommand=false") // without a master, ssh must fail
	return subprocess.Command("ssh", append(fixed, args...)...)
}

// ask runs such a command to its end, which ctx bounds, and returns its stdout.
func (m *masterHop) ask(ctx context.Context, args ...string) (string, error) {
	cmd := m.command(append(args, "--", m.where.alias)...)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends with the command, which is killed below
	select {
	case err := <-done:
		return strings.TrimSpace(out.String()), err
	case <-ctx.Done():
		cmd.Process.Kill()
		<-done
		return "", context.Cause(ctx)
	}
}

// masterLimit is how long a master may take to say that it is there.
const masterLimit = 5 * time.Second

// answers reports whether the master is there.
func (m *masterHop) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, masterLimit)
	defer cancel()
	_, err := m.ask(ctx, "-O", "check")
	return err == nil
}

// explain returns why a command has failed: refused if the master still answers, else an errLost.
func (m *masterHop) explain(ctx context.Context, refused error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case m.answers(ctx):
		return refused
	}
	return fmt.Errorf("%w: the ControlMaster at %s does not answer", errLost, m.socket)
}

// masterConn is a connection through the master, or the stdin and stdout of a command there.
type masterConn struct {
	*subprocess.Conn
	m     *masterHop
	raddr net.Addr
}

func (c *masterConn) RemoteAddr() net.Addr { return c.raddr }

func (c *masterConn) Close() error {
	c.m.mu.Lock()
	delete(c.m.conns, c)
	c.m.mu.Unlock()
	return c.Conn.Close()
}

func (m *masterHop) start(cmd *exec.Cmd, stderr io.Writer, raddr net.Addr) (*masterConn, error) {
	conn, err := subprocess.Start(cmd, stderr)
	if err != nil {
		return nil, fmt.Errorf("ControlMaster: %w", err)
	}
	c := &masterConn{Conn: conn, m: m, raddr: raddr}
	m.mu.Lock()
	closed := m.closed
	m.conns[c] = struct{}{}
	m.mu.Unlock()
	if closed {
		c.Close()
		return nil, errLost
	}
	return c, nil
}

// open opens a connection from the master's host (ssh(1), -W).
func (m *masterHop) open(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		return nil, errors.New("a ControlMaster cannot open a connection to a Unix socket (ssh -W)")
	}
	opened, last := make(chan struct{}), ""
	var once sync.Once
	stderr := &subprocess.LineWriter{Line: func(line string) {
		// ssh has no other word for success. The master gives it when the far side has agreed.
		if strings.Contains(line, "master session id") {
			once.Do(func() { close(opened) })
		} else if line != "" && !strings.HasPrefix(line, "debug") {
			last = line
		}
	}}
	cmd := m.command("-o", "LogLevel=DEBUG1", "-W", address, "--", m.where.alias)
	c, err := m.start(cmd, stderr, farAddr("tcp", address))
	if err != nil {
		return nil, err
	}
	select {
	case <-opened:
		return c, nil
	case <-c.Ended():
		c.Close()
		return nil, m.explain(ctx, &OpenError{
			Hop: m.where.alias, Network: "tcp", Addr: address,
			Reason: ssh.ConnectionFailed, Msg: display.Cut(last),
		})
	case <-ctx.Done():
		c.Close()
		return nil, context.Cause(ctx)
	}
}

// masterProcess is a command on the master's host.
type masterProcess struct {
	*masterConn
	// text is the beginning of stderr. It is valid once the command has ended.
	text string
}

func (m *masterHop) exec(_ context.Context, command string) (io.ReadWriteCloser, error) {
	p := &masterProcess{}
	stderr := &subprocess.LineWriter{Line: func(line string) {
		if len(p.text) < maxStderr {
			p.text += line + "\n"
		}
	}}
	var err error
	p.masterConn, err = m.start(m.command("-T", "--", m.where.alias, command), stderr, addr{"ssh", m.where.alias})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Read reads stdout. At the end of stdout it waits for the exit status and returns io.EOF for
// status 0, else an *ExitError.
func (p *masterProcess) Read(b []byte) (int, error) {
	n, err := p.masterConn.Read(b)
	if errors.Is(err, io.EOF) {
		<-p.Ended()
		if status := p.ExitCode(); status != 0 {
			return n, &ExitError{Status: status, Stderr: display.Cut(p.text)}
		}
	}
	return n, err
}

// masterForward is a remote forward that the master serves. It leads to a socket of ours.
type masterForward struct {
	// spec is the argument of -R.
	spec string
	// dir is the directory of the socket. Nobody else may enter it.
	dir string
	// local listens on the socket.
	local net.Listener
}

func newMasterForward(at listenAddress) (*masterForward, error) {
	dir, err := os.MkdirTemp("", "sallyport-") // for us alone
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "s")
	local, err := net.Listen("unix", path)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	spec := at.host + ":" + path
	if at.network == "tcp" {
		spec = strings.TrimPrefix(at.String(), ":") + ":" + path
	}
	return &masterForward{spec: spec, dir: dir, local: local}, nil
}

func (f *masterForward) close() {
	f.local.Close()
	os.RemoveAll(f.dir)
}

// serve hands connections on until the forward is closed.
func (f *masterForward) serve(arrivals *backlog) {
	for {
		conn, err := f.local.Accept()
		if err != nil {
			return
		}
		arrivals.add(conn)
	}
}

// listen asks the master for a remote forward to a socket of ours.
func (m *masterHop) listen(ctx context.Context, at listenAddress, arrivals *backlog) (*grant, error) {
	f, err := newMasterForward(at)
	if err != nil {
		return nil, err
	}
	out, err := m.ask(ctx, "-O", "forward", "-R", f.spec)
	if err != nil {
		f.close()
		return nil, m.explain(ctx, &ListenError{Hop: m.where.alias, Network: at.network, Addr: at.String()})
	}
	if at.network == "tcp" && at.port == 0 {
		port, err := strconv.ParseUint(out, 10, 16)
		if err != nil {
			f.close()
			return nil, fmt.Errorf("ssh -O forward printed no port: %q", display.Cut(out))
		}
		at.port = uint32(port)
	}
	m.mu.Lock()
	closed := m.closed
	m.forwards[f] = struct{}{}
	m.mu.Unlock()
	if closed {
		return nil, errors.Join(errLost, m.cancelForward(f))
	}
	go f.serve(arrivals) // ends when f is closed
	return &grant{port: at.port, cancel: func() error { return m.cancelForward(f) }}, nil
}

// cancelForward takes a forward back, because the user's master lives on and would keep it.
func (m *masterHop) cancelForward(f *masterForward) error {
	m.mu.Lock()
	_, there := m.forwards[f]
	delete(m.forwards, f)
	m.mu.Unlock()
	if !there {
		return nil
	}
	defer f.close()
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeLimit)
	defer cancel()
	_, err := m.ask(ctx, "-O", "cancel", "-R", f.spec)
	return err
}

// close ends everything that goes through the master. The master itself lives on.
func (m *masterHop) close(cause error) {
	m.once.Do(func() {
		m.end(cause)
		m.tasks.Go(m.shutDown) // ends with the last command, each of which is killed or bounded
	})
}

func (m *masterHop) shutDown() {
	m.mu.Lock()
	m.closed = true
	conns := m.conns
	m.conns = map[*masterConn]struct{}{}
	m.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
	for {
		m.mu.Lock()
		var f *masterForward
		for f = range m.forwards {
			break
		}
		m.mu.Unlock()
		if f == nil {
			return
		}
		if err := m.cancelForward(f); err != nil {
			m.log.Debug("remote forward not cancelled", "hop", m.where.alias, "forward", f.spec, "err", err)
		}
	}
}
