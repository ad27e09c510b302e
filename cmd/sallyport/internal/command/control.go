package command

import (
	"context"
	"errors"
	"os"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/obstacle"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/relay"
	"sallyport/sshtunnel"
)

// controlDirs returns the directories of control sockets.
func (a *app) controlDirs(settings cli.Store) []string {
	return control.Dirs(a.env.Getenv("XDG_RUNTIME_DIR"), session.StateDir(settings, a.env))
}

// serveControl answers other sallyport processes until stop is called. The session does not wait
// for the socket, and works without if there can be none.
func (a *app) serveControl(settings cli.Store, handlers control.Handlers) (stop func()) {
	served := make(chan *control.Server, 1)
	go func() { // ends when the socket is there or has failed; the buffer of served takes the result
		server, err := control.Serve(a.controlDirs(settings), handlers)
		if err != nil {
			a.log.Warn("no control socket, sallyport status will not show this process", "err", err)
		}
		served <- server
	}()
	// A Serve that is still under way is waited for, so that no socket stays behind.
	return func() {
		if server := <-served; server != nil {
			server.Close()
		}
	}
}

// proxyStatus returns the function that tells the status of a proxy.
func proxyStatus(a *app, s *session.Session, watcher *obstacle.Watcher, c *cli.ProxyCommand) control.StatusFunc {
	started := time.Now()
	// The watcher looks at the tunnels and the sign-in, so its channel closes when the status may
	// have changed.
	return func() (control.Status, <-chan struct{}) {
		o, changed := watcher.Obstacle()
		out := a.statusOf(s)
		if o != nil && o.Kind == relay.KindSignIn && out.Link != "" {
			out.Link = o.URL // the one that the person can open
		}
		if p := watcher.Problem(); p != nil {
			out.Problem = &control.Problem{Kind: p.Kind, Text: p.Text, Hints: p.Hints}
		} else if err := s.CheckStored(); err != nil {
			e := a.words.Error(err)
			out.Problem = &control.Problem{Kind: e.Kind, Text: e.Text, Hints: e.Hints}
		}
		out.Started, out.Profile = started, c.Profile
		return out, changed
	}
}

// loginStatus returns the function that tells the status of `sallyport login`.
func loginStatus(a *app, s *session.Session, settings cli.Remote) control.StatusFunc {
	started := time.Now()
	return func() (control.Status, <-chan struct{}) {
		_, changed := s.SignIn.State()
		out := a.statusOf(s)
		out.Command, out.Started, out.Profile = "login", started, settings.Profile
		return out, changed
	}
}

// statusOf returns what is known of the session.
func (a *app) statusOf(s *session.Session) control.Status {
	out := control.Status{
		PID: os.Getpid(), Upstream: session.PlainURL(s.Upstream), Via: s.Via,
		Tunnel: tunnelStatus(s.Tunnel), Callback: tunnelStatus(s.CallbackTunnel),
	}
	// A sign-in is cancelled only when this process ends, so that is no failure to show.
	if state, _ := s.SignIn.State(); state.Busy {
		out.SignIn = control.SignInPending
		if p := state.Prompt; p != (oauth.Prompt{}) {
			out.Link, out.UserCode, out.LinkExpires = p.StartURL, p.UserCode, p.Expires
			if p.IsDevice() {
				out.Link = p.VerificationURI
			} else {
				out.CodeURL = p.VerificationURI
			}
		}
	} else if state.Err != nil && !errors.Is(state.Err, context.Canceled) {
		out.SignIn = a.words.Error(state.Err).Text
	}
	return out
}

// tunnelStatus returns nil for a tunnel that does not exist. The error may quote a server, so it is
// made one printable line.
func tunnelStatus(t *sshtunnel.Tunnel) *control.Tunnel {
	if t == nil {
		return nil
	}
	state, _ := t.State()
	out := &control.Tunnel{Phase: state.Phase, Hop: state.Hop, SharedBy: state.SharedBy}
	if state.Err != nil {
		out.Error = person.OneLine(state.Err.Error())
	}
	return out
}
