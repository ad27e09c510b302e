package command

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/hostio"
	"sallyport/cmd/sallyport/internal/obstacle"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/relay"
	"sallyport/sshtunnel"
)

// closeTimeout bounds how long a proxy that ends waits for its parts. MCP hosts kill a server that
// lingers, and one that does not read stderr must not delay the end.
const closeTimeout = time.Second

// proxy carries one MCP session. It ends with stdin, with ctx (a signal), with the parent process,
// or with an obstacle that is final.
func (a *app) proxy(ctx context.Context, c *cli.ProxyCommand) error {
	hostio.OneProcessor(a.std.In)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Another process may hold the MCP host's end of stdin. Then stdin stays open after the host
	// has ended, so the parent is watched as well. The deferred call ends the watching.
	defer hostio.OnParentExit(cancel)()
	if c.PinTools && c.TokenStore == "memory" {
		return errPinsNeedStore
	}
	calls, err := openAudit(a, c.AuditLog)
	if err != nil {
		return err
	}
	s, err := a.openSession(ctx, c.Remote, false)
	if err != nil {
		calls.Close()
		return err
	}
	watched := obstacle.Config{
		Tunnel: s.Tunnel, Via: s.Via, Callback: s.CallbackTunnel, SignIn: s.SignIn,
		Hops: s.Hops.Via, CallbackHops: s.Hops.Callback,
		Words: a.words, Report: a.messages.Report, Lent: s.Logins.Shown,
	}
	if person.IsRemote(a.env, c.Browser.Browser) || c.CallbackVia != "" {
		watched.Elsewhere = sync.OnceValue(func() string { return person.CallbackHint(a.env) })
	}
	watcher := obstacle.NewWatcher(watched)
	pasted := delivery{a, s, c.Store}
	stopControl := a.serveControl(c.Store, control.Handlers{Status: proxyStatus(a, s, watcher, c), Deliver: pasted.fromProcess})
	// The watcher ends before the session is closed. Otherwise it would report the end of the
	// tunnels to the person.
	watching, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { watcher.Run(watching) }) // ends with watching
	if s.Early != nil {
		done.Go(func() { s.Early(watching) }) // ends with the process that it waits for, or with watching
	}
	// The socket goes first: whoever asks for the status never meets a proxy that is half closed.
	defer within(closeTimeout, func() {
		stopControl()
		stop()
		done.Wait()
		s.Close()
		calls.Close()
	})

	cfg := relayConfig(a, s, watcher, c)
	cfg.Deliver, cfg.Audit = pasted.text, auditTo(calls, s)
	err = relay.Run(ctx, cfg)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		a.log.Info("the MCP host stopped reading", "err", err)
		return nil // some MCP hosts end a server this way
	}
	return err
}

// relayConfig returns the settings of the MCP session.
func relayConfig(a *app, s *session.Session, watcher *obstacle.Watcher, c *cli.ProxyCommand) relay.Config {
	return relay.Config{
		In: a.std.In, Out: a.toHost,
		URL: s.Upstream, Header: s.Header,
		Send: s.SignIn, InSession: s.SignIn.InSession(), Background: s.SignIn.Background(),
		Transport: c.Transport, IgnoreTools: c.IgnoreTool,
		PinTools: c.PinTools, PinHints: toolsHints(s, c.Remote, c.Common),
		ProtocolVersion: c.ProtocolVersion, NoServerStream: !c.ServerStream,
		Timeout: time.Duration(c.Timeout), KeepAlive: time.Duration(c.KeepAlive),
		MayLeave: func() bool { return isUp(s.Tunnel) },
		Obstacle: watcher.Obstacle, Stage: func() string { return person.Printable(watcher.Stage()) },
		Idle: hostio.TrimMemory(), InFlight: &a.inFlight,
		Explain:  watcher.Explain,
		Answered: watcher.Answered,
		SignIn:   s.SignIn.SignIn,
		Load:     s.Load, Save: s.Save, Update: s.Update,
		Mask:    func(text string) string { return person.Lines(s.Mask(text)) },
		Version: a.env.Version,
		Log:     a.log,
	}
}

// within runs f and returns when it has ended, or after the time. If f takes longer, it runs on
// until the process ends.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() { // ends with f, or with the process
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// isUp reports whether requests need no new connection to a bastion. A nil tunnel needs none.
func isUp(t *sshtunnel.Tunnel) bool {
	if t == nil {
		return true
	}
	state, _ := t.State()
	return state.Phase == sshtunnel.Up
}
