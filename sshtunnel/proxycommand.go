package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/subprocess"
)

const (
	// proxyEndGrace is how long the end of a ProxyCommand is waited for once its output has ended,
	// because its status says more than that.
	proxyEndGrace = 2 * time.Second
	// proxyPatience is how long a ProxyCommand that may be asking the person something has, until
	// the server's first byte. It counts only if the user sets no ConnectTimeout. It is sshd's
	// default for a login (sshd_config(5), LoginGraceTime).
	proxyPatience = 2 * time.Minute
	// proxyLines is how many lines of stderr are kept for an error.
	proxyLines = 3
)

// ProxyCommandError says that the ProxyCommand of a hop has ended, and how.
type ProxyCommandError struct {
	// Program is the name of the program. Its arguments are left out, as they may hold a secret.
	Program string `json:"program"`
	// Status is the exit status. It is -1 if a signal ended the command or Err is set.
	Status int `json:"status,omitempty"`
	// Signal is the name of the signal that ended the command. It is empty if none did.
	Signal string `json:"signal,omitempty"`
	// Stderr is the last lines that the command wrote there, cut to a limit.
	Stderr string `json:"stderr,omitempty"`
	// Err is why the command could not be started, or what it did wrong. It may be nil.
	Err error `json:"-"`
}

// NotFound reports whether the shell did not find the program, or could not run it. By POSIX its
// status is 127 or 126 then.
func (e *ProxyCommandError) NotFound() bool {
	return e.Status == 126 || e.Status == 127 || errors.Is(e.Err, syscall.ENOENT)
}

// Unwrap returns Err.
func (e *ProxyCommandError) Unwrap() error { return e.Err }

// Error says how the command ended, and quotes the end of its stderr.
func (e *ProxyCommandError) Error() string {
	s := "ProxyCommand " + e.Program
	switch {
	case e.Signal != "":
		s += fmt.Sprintf(" was ended by signal %q", e.Signal)
	case e.Err != nil:
		s += ": " + e.Err.Error()
	case e.Status == 127:
		s += ": command not found (status 127)"
	case e.Status == 126:
		s += ": the command cannot be executed (status 126)"
	default:
		s += fmt.Sprintf(" ended with status %d", e.Status)
	}
	if e.Stderr != "" {
		s += fmt.Sprintf(": %q", e.Stderr)
	}
	return s
}

// proxyCommand is the ProxyCommand of a hop, while the hop is dialed and afterwards.
type proxyCommand struct {
	// program is that of ProxyCommandError.
	program string
	// log gets each line of stderr.
	log func(line string)
	// tell shows a line with a link to the person.
	tell func(line string)
	// halt stops the clock of ConnectTimeout until the returned function is called.
	halt func() (resume func())

	mu sync.Mutex
	// lines are the last ones of stderr.
	lines []string
	// resume is what halt has returned. It is nil while the clock runs.
	resume func()
	// spoken is set when the server has sent something.
	spoken bool
	// flush adds the last line of stderr, once.
	flush sync.Once
}

// newProxyCommand returns the ProxyCommand of the host, which has not been started.
func (d *dialer) newProxyCommand() *proxyCommand {
	log := d.cfg.Log.With("hop", d.host.Alias)
	return &proxyCommand{
		program: programOf(d.host.ProxyCommand),
		log:     func(line string) { log.Warn("ProxyCommand says", "text", line) },
		tell:    d.tell,
		halt:    d.haltForProxy,
	}
}

// startProxyCommand runs the ProxyCommand of the host by the user's shell, as ssh_config(5) says.
// ctx bounds the start. Only with Config.Terminal may the command use the terminal.
func (d *dialer) startProxyCommand(ctx context.Context) (net.Conn, error) {
	p, command := d.proxy, subprocess.Command
	if d.cfg.Terminal {
		command = subprocess.Interactive
		p.wait()
	}
	cmd := subprocess.Shell(command, d.cfg.Getenv("SHELL"), d.host.ProxyCommand)
	stderr := &subprocess.LineWriter{Line: p.say}
	if d.host.ProxyUseFdpass {
		return p.passed(ctx, cmd, stderr)
	}
	conn, err := subprocess.Start(cmd, stderr)
	if err != nil {
		return nil, &ProxyCommandError{Program: p.program, Status: -1, Err: err}
	}
	return &proxyConn{conn, p, stderr}, nil
}

// haltForProxy stops the clock of ConnectTimeout until the returned function is called, for
// proxyPatience at most. If the user has set ConnectTimeout, it does nothing.
func (d *dialer) haltForProxy() (resume func()) {
	if d.host.ConnectTimeout > 0 {
		return func() {}
	}
	once := sync.OnceFunc(d.patience.clock.pause())
	timer := time.AfterFunc(proxyPatience, once)
	return func() {
		timer.Stop()
		once()
	}
}

// programOf returns the name of the program in a command line, as far as that can be told.
func programOf(line string) string {
	for word := range strings.FieldsSeq(line) {
		name := filepath.Base(strings.Trim(word, `"'`))
		if name != "exec" && name != "env" && !strings.Contains(word, "=") {
			return display.Cut(display.Printable(name))
		}
	}
	return "command"
}

// say takes a line of stderr. Who says something may be asking the person something: to open a
// link, to touch a key. A link is shown as those of a server are.
func (p *proxyCommand) say(line string) {
	line = withoutUserinfo().ReplaceAllString(line, "//")
	p.mu.Lock()
	p.lines = append(p.lines, line)
	p.lines = p.lines[max(0, len(p.lines)-proxyLines):]
	p.mu.Unlock()
	p.log(line)
	if linkPattern().MatchString(line) {
		p.tell(line)
	}
	p.wait()
}

// withoutUserinfo matches the user and the password of a URL.
var withoutUserinfo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`//[^/@\s]*@`) })

// wait stops the clock of ConnectTimeout until the server has sent something.
func (p *proxyCommand) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resume == nil && !p.spoken {
		p.resume = p.halt()
	}
}

// heard notes that the server has sent something.
func (p *proxyCommand) heard() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spoken = true; p.resume != nil {
		p.resume()
		p.resume = nil
	}
}

// heardServer reports whether the server has sent something.
func (p *proxyCommand) heardServer() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spoken
}

// said returns the end of stderr, cut to a limit.
func (p *proxyCommand) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return display.Cut(strings.Join(p.lines, "; "))
}

// passed returns the connection that a command hands over (ssh_config(5), ProxyUseFdpass).
func (p *proxyCommand) passed(ctx context.Context, cmd *exec.Cmd, stderr *subprocess.LineWriter) (net.Conn, error) {
	passing, err := subprocess.StartPassing(cmd, stderr)
	if err != nil {
		return nil, &ProxyCommandError{Program: p.program, Status: -1, Err: err}
	}
	conn, err := passing.Receive(ctx)
	if err == nil {
		p.heard()
		return &passedConn{conn, passing}, nil
	}
	defer passing.Close()
	if ctx.Err() != nil {
		return nil, err
	}
	if why := p.ending(passing, stderr); why != nil && why.Status != 0 {
		return nil, why
	}
	if err == io.EOF {
		err = errors.New("it has handed no connection over, as ProxyUseFdpass wants")
	}
	return nil, &ProxyCommandError{Program: p.program, Status: -1, Stderr: p.said(), Err: err}
}

// command is what subprocess has started.
type command interface {
	Ended() <-chan struct{}
	ExitCode() int
	Signal() string
}

// ending returns how a command has ended whose output has. It is nil if the command runs on.
func (p *proxyCommand) ending(c command, stderr *subprocess.LineWriter) *ProxyCommandError {
	timer := time.NewTimer(proxyEndGrace)
	defer timer.Stop()
	select {
	case <-c.Ended():
		p.flush.Do(stderr.Flush)
		return &ProxyCommandError{Program: p.program, Status: c.ExitCode(), Signal: c.Signal(), Stderr: p.said()}
	case <-timer.C:
		return nil
	}
}

// proxyConn is the stdin and stdout of a ProxyCommand. At their end its errors say how the command
// has ended.
type proxyConn struct {
	*subprocess.Conn
	p      *proxyCommand
	stderr *subprocess.LineWriter
}

func (c *proxyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.p.heard()
	}
	return n, c.explain(err)
}

func (c *proxyConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

// explain returns err, or in its place how the command has ended. A command that ends silently with
// status 0 has done its work: then the server has ended the connection.
func (c *proxyConn) explain(err error) error {
	if err != io.EOF && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	if why := c.p.ending(c.Conn, c.stderr); why != nil && (why.Status != 0 || why.Stderr != "") {
		return why
	}
	return io.EOF
}

// passedConn is a connection that a ProxyCommand has handed over.
type passedConn struct {
	net.Conn
	passing *subprocess.Passing
}

// Close also ends the command, if it still runs.
func (c *passedConn) Close() error {
	err := c.Conn.Close()
	c.passing.Close()
	return err
}
