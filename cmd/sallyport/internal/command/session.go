package command

import (
	"context"
	"net"
	"strings"
	"sync"

	"sallyport/cmd/sallyport/internal/agents"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/farbrowser"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/sshtunnel"
)

// openSession builds a session. The argument atTerminal says that a person typed the command. The
// caller closes the session.
func (a *app) openSession(ctx context.Context, settings cli.Remote, atTerminal bool) (*session.Session, error) {
	s, err := session.Open(ctx, session.Config{
		Settings: settings, Env: a.env, AtTerminal: atTerminal, Log: a.log,
		Ask:       person.NewAsker(a.env, a.screen, atTerminal).Ask,
		Notice:    a.noticeOf(atTerminal),
		Printable: person.Lines,
		Explain:   func(err error) string { return a.words.Error(err).Text },
		Report:    func(err error) { a.explain(err) },
		Adjust:    func(c *sshtunnel.Config) { c.Busy = func() bool { return a.inFlight.Load() > 0 } },
		// A shared connection logs where the process does that has started it.
		SocketDirs: a.controlDirs(settings.Store), LogFile: a.logSettings.LogFile, LogLevel: a.logSettings.LogLevel,
		Logins: session.Logins{
			Offer:            func(s *session.Session) session.Offer { return a.offer(s, settings, atTerminal) },
			Exit:             func(s *session.Session) helper.DialFunc { return exitOf(a, s, settings) },
			BrowserElsewhere: settings.NoBrowser || settings.CallbackVia != "" || person.IsRemote(a.env, settings.Browser.Browser),
		},
	})
	if err == nil {
		a.words.AgentWay = agentWay(ctx, s, atTerminal)
	}
	return s, err
}

// offer returns what shows the logins of s to the person.
func (a *app) offer(s *session.Session, settings cli.Remote, atTerminal bool) session.Offer {
	login := person.Login{
		Messages: a.messages, Env: a.env, Upstream: session.PlainURL(s.Upstream),
		CallbackVia: settings.CallbackVia, Forwarded: s.Forwarded, Published: session.IsEverywhere(settings.CallbackHost),
		Browser: settings.Browser.Browser, NoBrowser: settings.NoBrowser,
		Screen: a.screen, TakesPaste: atTerminal && person.CanPaste(a.std.In),
	}
	return func(ctx context.Context, p oauth.Prompt, lend func(func(helper.Shown))) {
		// Stderr shows the link. The log must not have it, because it holds the login's state.
		a.fileLog.Info("sign-in offered", "host", s.Upstream.Host)
		if s.Logins != nil && p.RedirectURI != "" && !p.Elsewhere && isAtBrowser(a, settings) {
			s.Logins.ListenHere(ctx)
		}
		shown := login // two prompts may be shown at once
		shown.Far, shown.State = farSide(a, s, settings), s.SignIn.State
		shown.Offer(ctx, p, lend)
	}
}

// isAtBrowser reports whether the browser of this machine is to open, whoever lends another.
func isAtBrowser(a *app, settings cli.Remote) bool {
	return !settings.NoBrowser && settings.CallbackVia == "" && person.IsHere(a.env, settings.Browser.Browser)
}

// agentWay returns what says how the agent gets into this process, if it is missing in s.
func agentWay(ctx context.Context, s *session.Session, atTerminal bool) func() string {
	way := sync.OnceValue(func() string {
		if atTerminal {
			return `start one and load the key: eval "$(ssh-agent)" && ssh-add`
		}
		return agents.Way(ctx)
	})
	return func() string {
		if s.AgentMissing == nil || !s.AgentMissing() {
			return ""
		}
		return way()
	}
}

// farSide returns the way through --via to a login server that this machine does not reach. It is
// nil if there is none, or if the settings keep the sign-in out of it.
func farSide(a *app, s *session.Session, settings cli.Remote) *person.FarSide {
	if s.Tunnel == nil || settings.OAuthRoute == "direct" {
		return nil
	}
	return &person.FarSide{
		Name: s.Via, Key: s.Realm.String(), Dial: s.Tunnel.DialContext,
		StateDir: session.StateDir(settings.Store, a.env), Log: a.log,
	}
}

// exitOf returns what makes connections for the browser of another machine, on the way on which the
// login server is reached from here.
func exitOf(a *app, s *session.Session, settings cli.Remote) helper.DialFunc {
	var through func(ctx context.Context, network, addr string) (net.Conn, error)
	if far := farSide(a, s, settings); far != nil {
		through = far.Dial
	}
	return farbrowser.NewExit(through, a.env, a.log).Dial
}

// noticeOf returns what shows a person at the terminal what an SSH server says. A proxy shows it as
// the obstacle in its way.
func (a *app) noticeOf(atTerminal bool) func(sshtunnel.Notice) {
	if !atTerminal {
		return nil
	}
	return func(n sshtunnel.Notice) {
		for line := range strings.Lines(n.Text) {
			a.messages.Say("%s: %s", n.Hop, strings.TrimSpace(line))
		}
	}
}
