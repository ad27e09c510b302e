package userkeys

import (
	"context"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
)

// defaultAgent is the pipe of Windows' own ssh-agent service.
const defaultAgent = `\\.\pipe\openssh-ssh-agent`

// dialAgent opens a named pipe. Some agents on Windows have a Unix socket instead.
func dialAgent(ctx context.Context, path string) (net.Conn, error) {
	// Windows accepts both kinds of slashes in the name of a pipe, and so does ssh_config.
	slashed := strings.ReplaceAll(path, "/", `\`)
	if !strings.HasPrefix(slashed, `\\.\pipe\`) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return winio.DialPipeContext(ctx, slashed)
}
