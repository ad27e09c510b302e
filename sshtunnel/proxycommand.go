package sshtunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

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
