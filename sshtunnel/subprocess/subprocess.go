// Package subprocess runs commands that are a connection: a ProxyCommand, or an ssh that goes
// through a ControlMaster. The connection is the command's stdin and stdout, or a socket that the
// command hands over.
//
// A command of [Command] leads a session of its own. So it has no terminal to ask on, no signal of
// a terminal reaches it, and it can be ended with its children. A command of [Interactive] shares
// the terminal and the process group of this process, as the commands of ssh do. On Linux both end
// when this process is killed.
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
	*process
	// in and out are the command's stdin and stdout.
	in, out *os.File
}

// Start starts a command of Command, Interactive or Shell. Each piece of its stderr is written to
// stderr.
func Start(cmd *exec.Cmd, stderr io.Writer) (*Conn, error) {
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
	p, err := startProcess(cmd)
	inR.Close()
	outW.Close()
	if err != nil {
		outR.Close()
		inW.Close()
		return nil, err
	}
	return &Conn{process: p, in: inW, out: outR}, nil
}

// process is a command that runs.
type process struct {
	cmd *exec.Cmd
	// done is closed when the command has ended.
	done chan struct{}
	once sync.Once
}

// startProcess starts a command. The caller must call end.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.WaitDelay = time.Second // a grandchild may hold stderr open
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() { // ends with the command, which end kills
		defer close(p.done)
		// dieWithUs binds the command to the thread that starts it, so the thread must not end
		// before the command. Wait would occupy a thread anyway.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // ProcessState has what it says
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Ended returns a channel that is closed when the command has ended and its stderr has been read.
func (p *process) Ended() <-chan struct{} { return p.done }

// ExitCode returns the status of a command that has ended, or -1 if a signal ended it.
func (p *process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// end hangs up on the command and its children, and waits for the command. The first call counts.
func (p *process) end() { p.once.Do(func() { kill(p.cmd, p.done) }) }

// Read reads the command's stdout.
func (c *Conn) Read(p []byte) (int, error) { return c.out.Read(p) }

// Write writes to the command's stdin.
func (c *Conn) Write(p []byte) (int, error) { return c.in.Write(p) }

// Close hangs up on the command and its children, kills those that do not go, and waits for the
// command. That takes half a second at most. Further calls do nothing.
func (c *Conn) Close() error {
	c.in.Close()
	c.out.Close()
	c.end()
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

// Flush calls Line with what has come since the last newline, if anything has. It must not be
// called before the command has ended.
func (w *LineWriter) Flush() {
	if len(w.buf) > 0 {
		w.Write([]byte{'\n'})
	}
}
