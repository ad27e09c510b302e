//go:build !windows

package sshtunnel

import (
	"context"
	"net"
)

// defaultAgent is the agent where SSH_AUTH_SOCK is not set: none.
const defaultAgent = ""

func dialAgent(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
