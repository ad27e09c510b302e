package sshtunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
)

// master is the user's live ControlMaster, in place of the hops up to its host: a bastion that wants
// two factors asks nothing, for it has let the user in already (ssh_config(5), ControlPath).
//
// All goes through ssh(1). x/crypto's client of that protocol (NewControlClientConn) can kill the
// user's master: it drops channels that are not confirmed yet.
type master struct {
	cfg  *Config
	host *sshconfig.Host

	mu       sync.Mutex
	closed   bool
	conns    map[*masterConn]struct{}
	forwards map[*listener]*masterForward
}

// masterForward is a remote forward that the master serves, to a socket of ours.
type masterForward struct {
	spec  string // of -R
	dir   string // private, of the socket
	local net.Listener
}

// liveMaster returns the last host of the chain whose ControlMaster answers; -1: none does.
func liveMaster(ctx context.Context, cfg *Config, chain []*sshconfig.Host) (int, *master) {
	for i := len(chain) - 1; i >= 0; i-- {
		if chain[i].ControlPath == "" {
			continue
		}
		m := &master{cfg: cfg, host: chain[i], conns: map[*masterConn]struct{}{}, forwards: map[*listener]*masterForward{}}
		if m.alive(ctx) {
			return i, m
		}
		cfg.Log.Warn("no ControlMaster answers; connecting without", "hop", chain[i].Alias, "path", chain[i].ControlPath)
	}
	return -1, nil
}

// ssh returns the command that asks the master for something. It never connects by itself.
func (m *master) ssh(args ...string) *exec.Cmd {
	path := strings.ReplaceAll(m.host.ControlPath, "%", "%%") // its tokens are expanded already
	fixed := []string{"-F", "none", "-S", path, "-o", "ControlMaster=no", "-o", "BatchMode=yes", "-o", "ProxyCommand=false"}
	cmd := exec.Command("ssh", append(fixed, args...)...)
	ownGroup(cmd)
	return cmd
}

// ask runs such a command to its end, which ctx bounds, and returns its stdout.
func (m *master) ask(ctx context.Context, args ...string) (string, error) {
	cmd := m.ssh(append(args, "--", m.host.Alias)...)
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

func (m *master) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	_, err := m.ask(ctx, "-O", "check")
	return err == nil
}

// lost explains the failure of a command: errLost when the master is gone, else refused.
func (m *master) lost(ctx context.Context, refused error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case m.alive(ctx):
		return refused
	}
	return fmt.Errorf("%w: the ControlMaster at %s does not answer", errLost, m.host.ControlPath)
}

// masterConn is a connection through the master, or a command's stdin and stdout.
type masterConn struct {
	*commandConn
	m     *master
	raddr net.Addr
}

func (c *masterConn) RemoteAddr() net.Addr { return c.raddr }

func (c *masterConn) Close() error {
	c.m.mu.Lock()
	delete(c.m.conns, c)
	c.m.mu.Unlock()
	return c.commandConn.Close()
}

func (m *master) start(cmd *exec.Cmd, stderr io.Writer, raddr net.Addr) (*masterConn, error) {
	conn, err := startCommand(cmd, stderr, func(error) {})
	if err != nil {
		return nil, fmt.Errorf("ControlMaster: %w", err)
	}
	c := &masterConn{commandConn: conn, m: m, raddr: raddr}
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
func (m *master) open(ctx context.Context, network, target string) (net.Conn, error) {
	if network == "unix" {
		return nil, errors.New("a ControlMaster opens no connection to a Unix socket (ssh -W)")
	}
	opened, last := make(chan struct{}), ""
	var once sync.Once
	c, err := m.start(m.ssh("-o", "LogLevel=DEBUG1", "-W", target, "--", m.host.Alias), &lineWriter{line: func(line string) {
		// The one word that ssh has for success; the master gives it when the far side has agreed.
		if strings.Contains(line, "master session id") {
			once.Do(func() { close(opened) })
		} else if line != "" && !strings.HasPrefix(line, "debug") {
			last = line
		}
	}}, farAddr("tcp", target))
	if err != nil {
		return nil, err
	}
	select {
	case <-opened:
		return c, nil
	case <-c.done:
		c.Close()
		return nil, m.lost(ctx, &OpenError{Hop: m.host.Alias, Network: "tcp", Addr: target, Reason: ssh.ConnectionFailed, Msg: display.Cut(last)})
	case <-ctx.Done():
		c.Close()
		return nil, context.Cause(ctx)
	}
}

// masterProcess is a command on the master's host.
type masterProcess struct {
	*masterConn
	stderr *lineWriter
	text   string // the beginning of stderr; to be read after done
}

func (m *master) exec(command string) (io.ReadWriteCloser, error) {
	p := &masterProcess{}
	p.stderr = &lineWriter{line: func(line string) {
		if len(p.text) < maxStderr {
			p.text += line + "\n"
		}
	}}
	var err error
	p.masterConn, err = m.start(m.ssh("-T", "--", m.host.Alias, command), p.stderr, addr{"ssh", m.host.Alias})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Read is process.Read's.
func (p *masterProcess) Read(b []byte) (int, error) {
	n, err := p.masterConn.Read(b)
	if errors.Is(err, io.EOF) {
		<-p.done
		if status := p.cmd.ProcessState.ExitCode(); status != 0 {
			return n, &ExitError{Status: status, Stderr: display.Cut(p.text)}
		}
	}
	return n, err
}

// listen asks the master for a remote forward to a socket of ours.
func (m *master) listen(ctx context.Context, ln *listener) error {
	dir, err := os.MkdirTemp("", "sallyport-") // for us alone
	if err != nil {
		return err
	}
	f := &masterForward{dir: dir}
	path := filepath.Join(dir, "s")
	if f.local, err = net.Listen("unix", path); err != nil {
		os.RemoveAll(dir)
		return err
	}
	f.spec = ln.host + ":" + path
	if ln.network == "tcp" {
		f.spec = strings.TrimPrefix(net.JoinHostPort(ln.host, strconv.Itoa(int(ln.port.Load()))), ":") + ":" + path
	}
	out, err := m.ask(ctx, "-O", "forward", "-R", f.spec)
	if err != nil {
		f.close()
		return m.lost(ctx, &ListenError{Hop: m.host.Alias, Network: ln.network, Addr: ln.Addr().String()})
	}
	if ln.network == "tcp" && ln.port.Load() == 0 {
		port, err := strconv.ParseUint(out, 10, 16)
		if err != nil {
			f.close()
			return fmt.Errorf("ssh -O forward told no port: %q", display.Cut(out))
		}
		ln.port.Store(uint32(port))
	}
	m.mu.Lock()
	m.forwards[ln] = f
	m.mu.Unlock()
	go func() { // ends with f
		for {
			conn, err := f.local.Accept()
			if err != nil {
				return
			}
			ln.enqueue(conn)
		}
	}()
	return nil
}

func (f *masterForward) close() {
	f.local.Close()
	os.RemoveAll(f.dir)
}

// unlisten takes a forward back. The user's master lives on, so it must not keep it.
func (m *master) unlisten(ln *listener) error {
	m.mu.Lock()
	f := m.forwards[ln]
	delete(m.forwards, ln)
	m.mu.Unlock()
	if f == nil {
		return nil
	}
	defer f.close()
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_, err := m.ask(ctx, "-O", "cancel", "-R", f.spec)
	return err
}

// Close ends all that goes through the master, which itself lives on.
func (m *master) Close() error {
	m.mu.Lock()
	m.closed = true
	conns, forwards := m.conns, m.forwards
	m.conns = map[*masterConn]struct{}{}
	m.mu.Unlock()
	for c := range conns {
		c.commandConn.Close()
	}
	for {
		m.mu.Lock()
		var ln *listener
		for ln = range forwards {
			break
		}
		m.mu.Unlock()
		if ln == nil {
			return nil
		}
		if err := m.unlisten(ln); err != nil {
			m.cfg.Log.Debug("remote forward not cancelled", "hop", m.host.Alias, "addr", ln.Addr().String(), "err", err)
		}
	}
}
