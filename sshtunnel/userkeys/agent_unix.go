//go:build !windows

package userkeys

import (
	"context"
	"net"
)

// defaultAgent is the agent to use if SSH_AUTH_SOCK is not set. There is none.
const defaultAgent = ""

// dialAgent connects to the agent's Unix socket.
func dialAgent(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
