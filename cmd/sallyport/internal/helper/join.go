package helper

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"net"

	"sallyport/sshtunnel"
)

// Join connects a login of this machine to the browser of the workstation that a tunnel leads to.
// It starts a sallyport there by a fixed command: the login itself travels over its stdin and
// stdout. The errors are those of the tunnel, a *MissingError, an *OldError, a *FarEndError, or say
// that no command of ours runs there. The caller must close the connection.
func Join(ctx context.Context, tunnel *sshtunnel.Tunnel, host string) (net.Conn, error) {
	if err := tunnel.Connect(ctx); err != nil {
		return nil, err
	}
	bounded, cancel := runningTimeout(ctx, greetingTimeout)
	defer cancel()
	process, err := tunnel.Exec(bounded, farCommand(FarCommand+" "+JoinFlag))
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(process, maxFirstLine)
	if _, err := greetingOf(bounded, cmp.Or(host, "the workstation"), r, process); err != nil {
		process.Close()
		return nil, err
	}
	return newStdioConn(struct{ io.Reader }{r}, process), nil
}

// IsRefusal reports whether an error of Carry or Join says something about what the other machine
// allows, and not that it is away.
func IsRefusal(err error) bool { return isRefusal(err) }
