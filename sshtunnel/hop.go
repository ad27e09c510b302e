package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
)

// A hop is one server on the way to which we are logged in.
//
// There are two kinds. An sshHop is an SSH connection of our own. A masterHop is the user's
// ControlMaster. Only their own files know which kind a hop is. All methods may be called
// concurrently.
type hop interface {
	// place says which server this is.
	place() place

	// open opens a connection from the server to an address. The network is "tcp" or "unix". The
	// server resolves names. ctx bounds the call, not the connection. The error is an *OpenError
	// if the server refused. It wraps errLost if the hop ended.
	open(ctx context.Context, network, address string) (net.Conn, error)

	// exec starts a command on the server. ctx bounds the call, not the command. Reading gives the
	// command's stdout, and at its end an *ExitError unless the status is 0.
	exec(ctx context.Context, command string) (io.ReadWriteCloser, error)

	// listen asks the server to listen on an address. The connections that arrive there go to
	// arrivals. ctx bounds the call. The error is a *ListenError if the server refused.
	listen(ctx context.Context, at listenAddress, arrivals *backlog) (*grant, error)

	// heartbeat returns the means to find out whether the server still answers. It is nil if
	// another program watches the connection.
	heartbeat() *heartbeat

	// used reports whether a connection or a command of the hop is open, or was until just now. It
	// may be called when the hop has ended.
	used() bool

	// ended returns a context that ends with the hop. The context's cause says why.
	ended() context.Context

	// close ends the hop for a reason. The reason of the first call counts. close does not wait
	// for goroutines: the link does.
	close(cause error)
}

// errLost marks an error that comes from the end of a hop, not from an answer of its server. The
// call that met it can be made again on the next link.
var errLost = errors.New("link lost")

// place names a hop in errors and logs.
type place struct {
	// alias is the name that the user gave the server.
	alias string
	// addr is the host:port that was dialed. It is empty if a ProxyCommand or a ControlMaster
	// leads to the server.
	addr string
}

// error returns a HopError for this hop.
func (p place) error(stage string, err error) *HopError {
	return &HopError{Hop: p.alias, Addr: p.addr, Stage: stage, Err: err}
}

// grant is a remote forward that a server has agreed to.
type grant struct {
	// port is the TCP port that the server listens on. It is 0 for a Unix socket.
	port uint32
	// cancel asks the server to end the forward. It waits for the answer a few seconds at most.
	cancel func() error
}
