package sshtunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
)

// commandConn is the stdin and stdout of a command.
type commandConn struct {
	cmd  *exec.Cmd
	in   *os.File      // its stdin
	out  *os.File      // its stdout
	done chan struct{} // closed when it has ended
	once sync.Once
}

// SyscallConn is of what the command writes: whether something has come can be asked of it.
func (c *commandConn) SyscallConn() (syscall.RawConn, error) { return c.out.SyscallConn() }

// dialProxyCommand runs the command by the user's shell (ssh_config(5), ProxyCommand). Its stderr
// goes to the log; Close ends it with all that it started.
func dialProxyCommand(cfg *Config, h *sshconfig.Host) (net.Conn, error) {
	log := cfg.Log.With("hop", h.Alias)
	stderr := &lineWriter{line: func(line string) { log.Warn("ProxyCommand says", "text", line) }} // ssh shows it unasked
	conn, err := startCommand(shellCommand(cfg.Getenv("SHELL"), h.ProxyCommand), stderr, func(err error) {
		if err != nil {
			log.Info("ProxyCommand ended", "err", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ProxyCommand: %w", err)
	}
	return conn, nil
}

// startCommand starts a command of ownGroup. ended is told how it ended.
func startCommand(cmd *exec.Cmd, stderr io.Writer, ended func(error)) (*commandConn, error) {
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
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, stderr
	cmd.WaitDelay = time.Second // a grandchild may hold stderr open
	c := &commandConn{cmd: cmd, in: inW, out: outR, done: make(chan struct{})}
	started := make(chan error)
	go func() { // ends with the command, which Close kills
		defer close(c.done)
		// dieWithUs binds the command to the thread that starts it, so that must not end first. Wait
		// would hold a thread all the same.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	err = <-started
	inR.Close()
	outW.Close()
	if err != nil {
		outR.Close()
		inW.Close()
		return nil, err
	}
	return c, nil
}

// ended returns a channel that is closed when the command has ended.
func (c *commandConn) ended() <-chan struct{} { return c.done }

func (c *commandConn) Read(p []byte) (int, error)  { return c.out.Read(p) }
func (c *commandConn) Write(p []byte) (int, error) { return c.in.Write(p) }

func (c *commandConn) Close() error {
	c.once.Do(func() {
		c.in.Close()
		c.out.Close()
		killCommand(c.cmd.Process, c.done)
	})
	return nil
}

// CloseWrite ends the command's stdin.
func (c *commandConn) CloseWrite() error { return c.in.Close() }

func (c *commandConn) LocalAddr() net.Addr                { return addr{"command", ""} }
func (c *commandConn) RemoteAddr() net.Addr               { return addr{"command", ""} }
func (c *commandConn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *commandConn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }
func (c *commandConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// lineWriter passes on each line that is written to it, without what could steer a terminal and cut
// to a limit.
type lineWriter struct {
	line func(string)
	buf  []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			w.line(display.Printable(string(w.buf)))
			w.buf = w.buf[:0]
		} else if len(w.buf) < 1000 {
			w.buf = append(w.buf, b)
		}
	}
	return len(p), nil
}
