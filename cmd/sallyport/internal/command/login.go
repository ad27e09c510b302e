package command

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/obstacle"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/relay"
)

// login signs in, in the terminal, and leaves the tokens in the store. It succeeds only if the
// upstream answers as an MCP server does, accepts the token, and the token is stored. An upstream
// that asks for no token needs none.
func (a *app) login(ctx context.Context, settings cli.Remote) error {
	s, err := a.openSession(ctx, settings, true)
	if err != nil {
		return err
	}
	defer s.Close()
	// The browser may be on another machine. Then the person pastes the callback into this
	// terminal, or gives it to `sallyport login --paste` in another one.
	pasted := delivery{a, s, settings.Store}
	defer a.serveControl(settings.Store, control.Handlers{Status: loginStatus(a, s, settings), Deliver: pasted.fromProcess})()
	defer pasted.takeTyped(ctx)()
	between, stop := showStages(ctx, a, s)
	defer stop()
	// A person waits, so a tunnel that cannot be dialed fails now, and in the words of SSH.
	if err := s.Connect(ctx); err != nil {
		return err
	}
	upstream := session.PlainURL(s.Upstream)
	between("asking " + upstream)
	if err := s.SignIn.SignIn(ctx); err != nil {
		return err
	}
	between("showing the token to " + upstream)
	// SignIn does nothing if the stored token has not expired. It may be revoked all the same.
	answer, err := s.CheckToken(ctx)
	if err != nil {
		return err
	}
	// A token that ends with this process is of no use to the proxy that starts next.
	if err := s.CheckStored(); err != nil {
		return err
	}
	stop()
	had := relay.NewStatusError(answer.Response)
	switch {
	case !answer.IsMCP && had.HadToken:
		a.messages.Say("the token for %s is stored, but no MCP server answers there", upstream)
		return had
	case !answer.IsMCP:
		return had
	case !had.HadToken:
		a.messages.Say("%s takes requests without a token: no sign-in is needed", upstream)
	default:
		tellSignedIn(a, s, settings)
	}
	return nil
}

// tellSignedIn says where the person is signed in now, as whom, for how long, and where that is
// kept.
func tellSignedIn(a *app, s *session.Session, settings cli.Remote) {
	account, _ := s.SignIn.Stored()
	line := "signed in to " + session.PlainURL(s.Upstream)
	if account.Name != "" {
		line += " as " + account.Name
	}
	if s.Via != "" {
		line += " through " + s.Via
	}
	a.messages.Say("%s", line)
	if account.Saved.IsZero() {
		return
	}
	a.messages.More("%s; stored in %s", tokenLasts(account, time.Now()), session.StateDir(settings.Store, a.env))
}

// tokenLasts says how long a token is good.
func tokenLasts(account oauth.Account, now time.Time) string {
	until := account.Expiry.Local().Format("15:04")
	if account.Expiry.Sub(now) > 12*time.Hour {
		until = account.Expiry.Local().Format("2006-01-02 15:04")
	}
	switch {
	case account.Expiry.IsZero():
		return "the server does not say how long the token is good"
	case account.Refreshable:
		return "token until " + until + ", then renewed without you"
	}
	return "token until " + until + ", then you sign in again"
}

// slowStage is how long a stage of a login lasts before it is told in a line of its own, where
// lines cannot be drawn again.
const slowStage = 2 * time.Second

// loginLine shows at which stage a login is: as the live line of the terminal, or elsewhere in one
// line for each stage that takes its time.
type loginLine struct {
	app     *app
	session *session.Session
	stages  obstacle.Stages
	// between is the stage while neither a tunnel is dialed nor a login is under way.
	between atomic.Value
	// stage is the present one, since begun. It is told once in a line.
	stage  string
	begun  time.Time
	isTold bool
}

// showStages shows the stages of a login until stop is called, which may be called again. The
// function between sets what is done while neither a tunnel is dialed nor a login is under way.
func showStages(ctx context.Context, a *app, s *session.Session) (between func(string), stop func()) {
	l := &loginLine{app: a, session: s, stages: obstacle.Stages{Hops: s.Hops.Via, CallbackHops: s.Hops.Callback}}
	l.between.Store("")
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { l.run(ctx) }) // ends with ctx
	return func(text string) { l.between.Store(text) }, func() {
		cancel()
		done.Wait()
		a.screen.Show("")
	}
}

// run shows the stages until ctx ends.
func (l *loginLine) run(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		states, changes := obstacle.Look(l.session.Tunnel, l.session.CallbackTunnel, l.session.SignIn)
		l.show(states, time.Now())
		select {
		case <-changes.Tunnel:
		case <-changes.Callback:
		case <-changes.SignIn:
		case <-second.C:
		case <-ctx.Done():
			return
		}
	}
}

// show shows the stage of the states.
func (l *loginLine) show(s obstacle.States, now time.Time) {
	text := cmp.Or(l.stages.Now(s, now), l.between.Load().(string))
	if l.session.Hops.RunsProgram(s.Tunnel.Hop) || l.session.Hops.RunsProgram(s.Callback.Hop) {
		text = "" // its ProxyCommand may ask the person on the terminal
	}
	if l.app.screen.Show(text) {
		return
	}
	if s.SignIn.Prompt != (oauth.Prompt{}) {
		return // the link and its hints have said that the browser is waited for
	}
	if text != l.stage {
		l.stage, l.begun, l.isTold = text, now, false
	}
	if text != "" && !l.isTold && now.Sub(l.begun) >= slowStage {
		l.app.messages.Say("%s", text)
		l.isTold = true
	}
}
