// Package subprocess runs commands whose stdin and stdout are a connection: a ProxyCommand, or an
// ssh that goes through a ControlMaster.
//
// A command leads a process group of its own, so that it can be ended with its children and no
// signal of a terminal reaches it. On Linux it ends when this process is killed.
package subprocess

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"sallyport/sshtunnel/display"
)

// Conn is the stdin and stdout of a command that runs. Its methods may be called concurrently. The
// caller must Close it.
type Conn struct {
	cmd *exec.Cmd
	// in and out are the command's stdin and stdout.
	in, out *os.File
	// ended is closed when the command has ended.
	ended chan struct{}
	once  sync.Once
}

// Start starts a command of Command or Shell. Each piece of its stderr is written to stderr. When
// the command has ended, ended is called with how it ended, as exec.Cmd.Wait says; it may be nil.
func Start(cmd *exec.Cmd, stderr io.Writer, ended func(error)) (*Conn, error) {
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
	c := &Conn{cmd: cmd, in: inW, out: outR, ended: make(chan struct{})}
	started := make(chan error)
	go func() { // ends with the command, which Close kills
		defer close(c.ended)
		// dieWithUs binds the command to the thread that starts it, so the thread must not end
		// before the command. Wait would occupy a thread anyway.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			if err := cmd.Wait(); ended != nil {
				ended(err)
			}
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

// Command returns a command for Start.
func Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	ownGroup(cmd)
	return cmd
}

// Ended returns a channel that is closed when the command has ended.
func (c *Conn) Ended() <-chan struct{} { return c.ended }

// ExitCode returns the status of a command that has ended, or -1 if a signal ended it.
func (c *Conn) ExitCode() int { return c.cmd.ProcessState.ExitCode() }

// Read reads the command's stdout.
func (c *Conn) Read(p []byte) (int, error) { return c.out.Read(p) }

// Write writes to the command's stdin.
func (c *Conn) Write(p []byte) (int, error) { return c.in.Write(p) }

// Close hangs up on the command and its children, kills those that do not go, and waits for the
// command. That takes half a second at most. Further calls do nothing.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.in.Close()
		c.out.Close()
		kill(c.cmd.Process, c.ended)
	})
	return nil
}

// CloseWrite ends the command's stdin.
func (c *Conn) CloseWrite() error { return c.in.Close() }

func (c *Conn) LocalAddr() net.Addr                { return addr{} }
func (c *Conn) RemoteAddr() net.Addr               { return addr{} }
func (c *Conn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// addr is the address of a command, which has none.
type addr struct{}

func (addr) Network() string { return "command" }
func (addr) String() string  { return "" }

// maxLine bounds a line of a LineWriter, in bytes. What exceeds it is left out.
const maxLine = 1000

// LineWriter calls Line with each line that is written to it, without what could steer a terminal.
type LineWriter struct {
	Line func(string)
	buf  []byte
}

// Write never fails.
func (w *LineWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			w.Line(display.Printable(string(w.buf)))
			w.buf = w.buf[:0]
		} else if len(w.buf) < maxLine {
			w.buf = append(w.buf, b)
		}
	}
	return len(p), nil
}
