package callback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/sshtunnel"
)

// Connect brings the tunnel up, and makes sure that a callback can be carried to a port there: that
// the owner of a listener can be found out, and that sshd forwards to the port, or that a sallyport
// there connects to it. The person answers questions of SSH now, and not when a callback arrives.
// It returns how a callback is carried, or nothing if a tool that listens there already keeps it
// from being tried. The error is that of the tunnel, an *OwnerError or a
// *ForwardError.
func (h *Host) Connect(ctx context.Context, port int) (helper.Way, error) {
	if err := h.Tunnel.Connect(ctx); err != nil {
		return "", err
	}
	_, err := h.ownedSockets(ctx, port)
	if e, ok := errors.AsType[*OwnerError](err); err != nil && (!ok || e.Err != nil) {
		return "", err
	}
	// A tool that listens already may wait for one connection only, and would take a trial for it.
	tried := port
	if !isNobody(err) {
		tried = idlePort
	}
	if err := h.tryForward(ctx, tried); err == nil || !isForbidden(err) {
		return helper.ByForward, err
	}
	conn, err := helper.DialPort(ctx, h.Tunnel, h.Name, 0)
	if err == nil {
		conn.Close()
		return helper.ByExec, nil
	}
	if _, away := errors.AsType[*sshtunnel.HopError](err); away {
		return "", err
	}
	if tried != port {
		return "", nil // PermitOpen may name this port
	}
	return "", &ForwardError{Host: h.Name, Port: port, Err: err}
}

// idlePort is a port on which nobody listens (RFC 1078, tcpmux).
const idlePort = 1

// tryForward asks sshd for a connection to a port on which nobody listens. That this fails because
// nobody listens is no error.
func (h *Host) tryForward(ctx context.Context, port int) error {
	conn, err := h.forward(ctx, port)
	if err == nil {
		conn.Close()
		return nil
	}
	if _, refused := errors.AsType[*sshtunnel.OpenError](err); refused && !isForbidden(err) {
		return nil
	}
	return err
}

// isForbidden reports whether the sshd of a host forbids a connection. A ControlMaster tells that
// in words only.
func isForbidden(err error) bool {
	e, ok := errors.AsType[*sshtunnel.OpenError](err)
	return ok && (e.Prohibited() || strings.Contains(e.Msg, "prohibited"))
}

// isNobody reports whether an error says that nobody listens on a port.
func isNobody(err error) bool {
	e, ok := errors.AsType[*OwnerError](err)
	return ok && e.Err == nil && len(e.Owners) == 0
}

// forward has the sshd of the host connect to a port there.
func (h *Host) forward(ctx context.Context, port int) (net.Conn, error) {
	return h.Tunnel.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// dial connects to a port on the host: through sshd, or by a sallyport there if sshd refuses.
func (h *Host) dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := h.forward(ctx, port)
	if _, refused := errors.AsType[*sshtunnel.OpenError](err); !refused {
		return conn, err
	}
	conn, execErr := helper.DialPort(ctx, h.Tunnel, h.Name, port)
	if execErr != nil && isForbidden(err) {
		return nil, &ForwardError{Host: h.Name, Port: port, Err: execErr}
	}
	if execErr != nil {
		return nil, err
	}
	return conn, nil
}

// ForwardError says that nothing leads to a port on a host: its sshd forbids the connection, and no
// sallyport there makes it.
type ForwardError struct {
	// Host is the host as the person named it.
	Host string
	// Port is the port there.
	Port int
	// Err says why no sallyport makes the connection. It is that of helper.DialPort.
	Err error
}

// Error names the host and the port.
func (e *ForwardError) Error() string {
	return fmt.Sprintf("nothing is carried to port %d of %s: its sshd forbids the connection, and no sallyport there can make it (%v)", e.Port, e.Host, e.Err)
}

// Unwrap returns Err.
func (e *ForwardError) Unwrap() error { return e.Err }
