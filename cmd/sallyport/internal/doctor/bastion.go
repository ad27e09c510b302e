package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sallyport/cmd/sallyport/internal/share"
	"sallyport/oauth/asclient"
	"sallyport/sshtunnel"
)

// lastHopRows makes the rows of what the last hop permits, and of the round-trip times.
type lastHopRows struct {
	*walk
	c *chain
}

// askLimit bounds one request to the last hop.
const askLimit = 10 * time.Second

// sharedBy returns the process of the shared connection that is up through the hosts of a chain.
func (w *walk) sharedBy(ctx context.Context, c *chain) int {
	if w.Command.Share != "auto" {
		return 0
	}
	for _, shown := range share.AskAll(ctx, w.s.Parts.SharedSockets(ctx, c.hosts)) {
		if shown.Err == nil && shown.Status.Phase == sshtunnel.Up && !shown.Status.Draining {
			return shown.Status.PID
		}
	}
	return 0
}

// takeShared goes through the shared connection of the chain, if that is up and a login of our own
// is not possible.
func (w lastHopRows) takeShared(ctx context.Context) {
	if w.c.sharedBy == 0 || !w.c.needsPerson {
		return
	}
	w.viaShared = true
	s, err := w.openSession(ctx)
	if err != nil {
		return
	}
	w.s.Close()
	w.s = s
	w.c.tunnel = s.Tunnel
	if last := w.chains[len(w.chains)-1]; last != w.c {
		last.tunnel = s.CallbackTunnel
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	w.c.up = w.c.tunnel.Connect(ctx) == nil
}

// tell makes the rows of what the last hop permits, and of the upstream as it is seen from
// there.
func (w lastHopRows) tell(ctx context.Context) {
	if !w.c.up {
		w.skipAll("the last hop is not reached", idOpen, idListen, idExec, idName, idTCP)
		return
	}
	w.begin(idOpen)
	w.tellOpen(ctx)
	w.begin(idListen)
	w.tellListen(ctx)
	w.begin(idExec)
	w.tellExec(ctx)
}

// tellOpen opens a forward to the upstream.
func (w lastHopRows) tellOpen(ctx context.Context) {
	u := w.s.Upstream
	addr := net.JoinHostPort(u.Hostname(), asclient.Port(u))
	last := w.c.hosts[len(w.c.hosts)-1].Alias
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	conn, err := w.c.tunnel.DialContext(ctx, "tcp", addr)
	open, refused := errors.AsType[*sshtunnel.OpenError](err)
	if refused && open.Prohibited() {
		w.fail(idOpen, err)
		w.skipAll(last+" forbids the forward", idName, idTCP)
		return
	}
	if err != nil && !refused && ctx.Err() == nil {
		w.fail(idOpen, err)
		w.skipAll("the connection to "+last+" was lost", idName, idTCP)
		return
	}
	if err == nil || refused {
		w.ok(idOpen, last+" permits forwards to "+addr)
	} else {
		w.skip(idOpen, last+" has not decided in time")
	}
	switch {
	case isAddress(u.Hostname()):
		w.skip(idName, u.Hostname()+" is an address")
	case refused && isNameRefusal(open):
		w.fail(idName, err)
		w.skip(idTCP, last+" cannot resolve the name")
		return
	case err != nil && !refused:
		w.skip(idName, "nobody told whether "+last+" resolves "+u.Hostname())
	default:
		w.ok(idName, last+" resolves "+u.Hostname())
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%s: no answer within %v from %s: %w", addr, askLimit, last, err)
		}
		w.fail(idTCP, err)
		return
	}
	conn.Close()
	w.ok(idTCP, last+" has connected to "+addr)
}

// tellListen asks for a remote forward and gives it back. Nothing needs it on the way to the
// upstream.
func (w lastHopRows) tellListen(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	ln, err := w.c.tunnel.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		w.skip(idListen, fmt.Sprintf("forbidden or not known, and not needed here: %v", err))
		return
	}
	ln.Close()
	w.ok(idListen, "remote forwards are permitted")
}

// tellExec runs the command true on the last hop. Nothing needs it on the way to the upstream.
func (w lastHopRows) tellExec(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	command, err := w.c.tunnel.Exec(ctx, "true")
	if err == nil {
		stop := context.AfterFunc(ctx, func() { command.Close() })
		_, err = io.Copy(io.Discard, io.LimitReader(command, 64<<10))
		stop()
		command.Close()
	}
	if err != nil {
		w.skip(idExec, fmt.Sprintf("commands are not run, and not needed here: %v", err))
		return
	}
	w.ok(idExec, "commands are run")
}

// tellTrips makes the rows of the round-trip times.
func (w lastHopRows) tellTrips(ctx context.Context) {
	w.begin(w.c.id(0, rowTrip))
	trips := w.c.awaitTrips(ctx)
	before := time.Duration(0)
	for i, h := range w.c.hosts {
		took, ok := trips[h.Alias]
		if !ok {
			w.skip(w.c.id(i, rowTrip), h.Alias+" answers no request for a sign of life, or stands behind another connection")
			continue
		}
		summary := fmt.Sprintf("%v to %s and back", took.Round(100*time.Microsecond), h.Alias)
		if i > 0 && took > before {
			summary += fmt.Sprintf(", of which %v behind %s", (took - before).Round(100*time.Microsecond), w.c.hosts[i-1].Alias)
		}
		before = took
		w.ok(w.c.id(i, rowTrip), summary)
	}
}
