package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth/procnet"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/netwatch"
)

const (
	// workstationTimeout bounds one question to the workstation about a port.
	workstationTimeout = 15 * time.Second
	// maxTable is how many bytes the table of sockets of a busy machine may have.
	maxTable = 16 << 20
)

// workstation is the machine of --callback-via. This machine dials it.
type workstation struct {
	// host is how the person named it, and address is what is dialed for it.
	host, address string
	tunnel        *sshtunnel.Tunnel
	session       *Session
	report        func(error)
	log           *slog.Logger

	// asked says that a question of SSH was put to the person.
	asked atomic.Bool

	// mu guards what follows.
	mu sync.Mutex
	// refuses is why no sallyport there takes a login. It is nil as long as that is not known.
	refuses error
	// late is the address at which this machine listens, because the workstation could not be
	// reached when the login began. It is empty otherwise.
	late string
	// forwarded says that the sshd there listens for the login under way.
	forwarded bool
	// reported is the last error that the person was told of.
	reported string
}

// openWorkstation returns the workstation, which was not dialed yet.
func openWorkstation(ctx context.Context, s *Session, cfg Config, host string) (*workstation, error) {
	ssh := cfg.ssh()
	w := &workstation{host: host, session: s, report: cfg.Report, log: cfg.Log}
	if ask := ssh.Ask; ask != nil {
		ssh.Ask = func(ctx context.Context, q sshtunnel.Question) (string, error) {
			w.asked.Store(true)
			return ask(ctx, q)
		}
	}
	ssh.Purpose = "the callback of " + PlainURL(s.Upstream)
	if s.Via != "" { // then -J and -o are those of --via
		ssh.Settings.Jump, ssh.Settings.SSHOption = "", nil
	}
	tunnel, hops, err := ssh.Tunnel(ctx, host)
	if err != nil {
		return nil, err
	}
	s.CallbackTunnel, s.Hops.Callback = tunnel, s.Hops.namesOf(hops)
	s.closers = append(s.closers, tunnel.Close)
	w.tunnel, w.address = tunnel, hops[len(hops)-1].HostName
	return w, nil
}

// silentTime is how long a login waits for a workstation that says nothing.
const silentTime = 3 * time.Second

// connect dials the workstation before a login, so that the person answers the questions of SSH
// now. If it cannot be dialed, the person is told, and that is no error. One that says nothing is
// dialed on, while the login goes on.
func (w *workstation) connect(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- w.tunnel.Connect(ctx) }() // ends with ctx, or with the tunnel
	silent := time.NewTimer(silentTime)
	defer silent.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil || err == nil || isHostKey(err) {
				return err
			}
			w.tell(err)
			return nil
		case <-silent.C:
			if !w.asked.Load() {
				return nil
			}
		}
	}
}

// isHostKey reports whether an error may say that another machine answers in place of the host.
func isHostKey(err error) bool {
	hop, ok := errors.AsType[*sshtunnel.HopError](err)
	_, late := errors.AsType[*sshtunnel.TimeoutError](err)
	return ok && hop.Stage == sshtunnel.StageHandshake && !late
}

// join connects a login to a sallyport on the workstation.
func (w *workstation) join(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	err := w.refuses
	w.mu.Unlock()
	if err == nil {
		var conn net.Conn
		if conn, err = helper.Join(ctx, w.tunnel, w.host); err == nil {
			return conn, nil
		}
		w.log.Info("no sallyport on the workstation takes the login", "host", w.host, "err", err)
	} else if err := w.tunnel.Connect(ctx); err != nil {
		return nil, err
	}
	if ctx.Err() != nil || !helper.IsRefusal(err) {
		w.tell(err)
		return nil, err
	}
	w.mu.Lock()
	late := w.late
	w.refuses, w.late = err, ""
	w.mu.Unlock()
	if late != "" { // its sshd listens as well, now that it is reached
		if l, err := w.forward(ctx, late); err == nil {
			w.session.Logins.Feed(l)
		} else if ctx.Err() == nil {
			w.tell(err)
		}
	}
	return nil, err
}

// listen has the workstation's sshd listen for the callback, at the first address that is free. If
// the workstation cannot be reached, or does not do that in a safe way, the person is told, and
// this machine listens: there are other ways to bring a callback here. That other programs of the
// workstation have all the ports is an error: a link with such a port would lead the code there.
func (w *workstation) listen(ctx context.Context, addr string, more []string) (net.Listener, error) {
	w.setForwarded(false)
	state, _ := w.tunnel.State()
	if state.Phase != sshtunnel.Up {
		l, err := listenHere(ctx, addr)
		if err == nil {
			w.mu.Lock()
			w.late = l.Addr().String()
			w.mu.Unlock()
		}
		return l, err
	}
	var first error
	for _, one := range append([]string{addr}, more...) {
		l, err := w.forward(ctx, one)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		first = cmp.Or(first, err)
		if _, refused := errors.AsType[*sshtunnel.ListenError](err); !refused {
			break // another port would not be any better
		}
	}
	if refused, ok := errors.AsType[*sshtunnel.ListenError](first); ok && w.isTaken(ctx, addr) {
		w.log.Info("a program of the workstation has the port", "host", w.host, "addr", addr)
		return nil, refused
	}
	w.tell(first)
	return listenHere(ctx, addr)
}

// isTaken reports whether a program of the workstation listens at the port of addr, as far as that
// can be told: by its table of sockets, or else by a connection.
func (w *workstation) isTaken(ctx context.Context, addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	number, err := strconv.Atoi(port)
	if err != nil || number == 0 {
		return false
	}
	ctx, cancel := netwatch.WithRunningTimeout(ctx, workstationTimeout)
	defer cancel()
	if table, err := w.socketTable(ctx); err == nil && len(procnet.Listening(table, number)) > 0 {
		return true
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		if conn, err := w.tunnel.DialContext(ctx, "tcp", net.JoinHostPort(host, port)); err == nil {
			conn.Close()
			return true
		}
	}
	return false
}

// forward has the workstation's sshd listen, and makes sure that no other machine reaches the port.
func (w *workstation) forward(ctx context.Context, addr string) (net.Listener, error) {
	l, err := w.tunnel.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := w.checkOpen(ctx, l); err != nil {
		l.Close()
		return nil, err
	}
	w.setForwarded(true)
	return l, nil
}

func (w *workstation) setForwarded(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forwarded = is
}

// tell reports an error to the person, unless that was the last one.
func (w *workstation) tell(err error) {
	w.mu.Lock()
	known := w.reported == err.Error()
	w.reported = err.Error()
	w.mu.Unlock()
	if !known {
		w.report(err)
	}
}

// GatewayError says that the sshd of the workstation opens the port of a callback to other
// machines.
type GatewayError struct {
	// Host is the workstation as the person named it.
	Host string
	// Addr is where it listens.
	Addr string
}

// Error names the setting of sshd.
func (e *GatewayError) Error() string {
	return fmt.Sprintf("%s opens port %s of the callback to other machines (GatewayPorts), so it is not used", e.Host, e.Addr)
}

// checkOpen returns a *GatewayError if machines other than the workstation reach the port of l
// there. The table of sockets tells. Where it cannot be read, the address by which we reach the
// workstation is tried, from the workstation itself.
func (w *workstation) checkOpen(ctx context.Context, l net.Listener) error {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	ctx, cancel := netwatch.WithRunningTimeout(ctx, workstationTimeout)
	defer cancel()
	open := &GatewayError{Host: w.host, Addr: port}
	if table, err := w.socketTable(ctx); err == nil {
		if sockets := procnet.Listening(table, number); len(sockets) > 0 {
			for _, one := range sockets {
				if !one.IsLoopback() {
					return open
				}
			}
			return nil
		}
	}
	if IsLoopback(w.address) {
		return nil // it says nothing: a listener on loopback answers there, too
	}
	conn, err := w.tunnel.DialContext(ctx, "tcp", net.JoinHostPort(w.address, port))
	if err != nil {
		return nil // nobody answers there, or sshd does not let us ask
	}
	conn.Close()
	return open
}

// socketTable returns the workstation's table of TCP sockets, as Linux prints it.
func (w *workstation) socketTable(ctx context.Context) (string, error) {
	process, err := w.tunnel.Exec(ctx, "cat /proc/net/tcp /proc/net/tcp6")
	if err != nil {
		return "", err
	}
	defer process.Close()
	defer context.AfterFunc(ctx, func() { process.Close() })()
	text, err := io.ReadAll(io.LimitReader(process, maxTable))
	if len(text) > 0 {
		return string(text), nil // one of the files may be missing
	}
	return "", err
}
