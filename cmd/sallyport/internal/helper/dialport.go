package helper

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"sallyport/sshtunnel"
)

// hereDialTimeout bounds a connection to a port of 127.0.0.1.
const hereDialTimeout = 10 * time.Second

// DialPort connects to a port of 127.0.0.1 on HOST, by a sallyport that it starts there. It is for
// a sshd that forwards no TCP. Port 0 is none: the connection is ended at once, which proves that
// this way serves. The errors are those of Join, and a *FarEndError also if nobody listens. The
// caller must close the connection.
func DialPort(ctx context.Context, tunnel *sshtunnel.Tunnel, host string, port int) (net.Conn, error) {
	bounded, cancel := runningTimeout(ctx, greetingTimeout)
	defer cancel()
	process, err := tunnel.Exec(bounded, farCommand(FarCommand+" "+DialFlag+"="+portWord(port)))
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(process, maxFirstLine)
	if _, err := greetingOf(bounded, host, r, process); err != nil {
		process.Close()
		return nil, err
	}
	return newStdioConn(struct{ io.Reader }{r}, process), nil
}

// noPort is the argument of DialFlag that stands for no port: 0 is the flag that is not there.
const noPort = -1

// portWord returns the argument of DialFlag for a port.
func portWord(port int) string {
	if port == 0 {
		port = noPort
	}
	return strconv.Itoa(port)
}

// DialHere connects In and Out to a port of 127.0.0.1, and serves until either ends. A port below 0
// is none. If the port cannot be dialed, the greeting says why.
func (f FarEnd) DialHere(ctx context.Context, port int) error {
	g := greeting{Protocol: Version, Version: f.Version, Program: f.Program}
	if port < 0 {
		return g.write(f.Out)
	}
	dialer := net.Dialer{Timeout: hereDialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		g.Error = err.Error()
		return errors.Join(err, g.write(f.Out))
	}
	defer conn.Close()
	if err := g.write(f.Out); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() { // ends with In, which may be the end of the process
		io.Copy(conn, f.In)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(closing)) // the workstation is gone
	}()
	_, err = io.Copy(f.Out, conn)
	return err
}
