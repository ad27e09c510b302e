package subprocess

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
)

// Passing is a command that is to hand over a connected socket.
type Passing struct{ *process }

// StartPassing fails: descriptors cannot be handed over on Windows.
func StartPassing(*exec.Cmd, io.Writer) (*Passing, error) {
	return nil, errors.New("ProxyUseFdpass does not work on Windows")
}

// Receive is never called.
func (p *Passing) Receive(context.Context) (net.Conn, error) { return nil, errors.ErrUnsupported }

// Close is never called.
func (p *Passing) Close() {}
