//go:build !windows

package subprocess

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// Passing is a command that is to hand over a connected socket. The caller must Close it.
type Passing struct {
	*process
	// pair is our end of what the command has as stdin and stdout.
	pair *net.UnixConn
}

// StartPassing starts a command as ssh does with ProxyUseFdpass: its stdin and stdout are a Unix
// socket, on which it sends one byte and the descriptor of its connection (SCM_RIGHTS of unix(7)).
func StartPassing(cmd *exec.Cmd, stderr io.Writer) (*Passing, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "socketpair"), os.NewFile(uintptr(fds[1]), "socketpair")
	defer ours.Close() // net.FileConn has a copy
	defer theirs.Close()
	pair, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, stderr
	p, err := startProcess(cmd)
	if err != nil {
		pair.Close()
		return nil, err
	}
	return &Passing{p, pair.(*net.UnixConn)}, nil
}

// Receive waits for the connection. It is called once. The error is io.EOF if the command has
// closed its stdout, which it does at its end. The caller must close the connection.
func (p *Passing) Receive(ctx context.Context) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { p.pair.Close() })
	conn, err := receive(p.pair)
	if !stop() {
		if err == nil {
			conn.Close()
		}
		return nil, context.Cause(ctx)
	}
	p.pair.Close()
	return conn, err
}

// receive reads one descriptor.
func receive(pair *net.UnixConn) (net.Conn, error) {
	control := make([]byte, syscall.CmsgSpace(4))
	n, controlLen, _, _, err := pair.ReadMsgUnix(make([]byte, 1), control)
	switch {
	case err != nil:
		return nil, err
	case n == 0 && controlLen == 0:
		return nil, io.EOF
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) == 0 {
		return nil, errors.New("the command has written something, but no descriptor came with it")
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fds[0])
	syscall.SetNonblock(fds[0], true)
	f := os.NewFile(uintptr(fds[0]), "passed")
	conn, err := net.FileConn(f)
	if err != nil { // it is not a socket that package net knows
		return fileConn{f}, nil
	}
	f.Close()
	return conn, nil
}

// Close hangs up on the command and its children, as Conn.Close does.
func (p *Passing) Close() {
	p.pair.Close()
	p.end()
}

// fileConn is a descriptor that is read and written.
type fileConn struct{ *os.File }

func (fileConn) LocalAddr() net.Addr  { return addr{} }
func (fileConn) RemoteAddr() net.Addr { return addr{} }
