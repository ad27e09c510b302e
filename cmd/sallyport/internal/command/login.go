package command

import (
	"context"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
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
	between, stop := a.showStages(ctx, s)
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
		a.tellSignedIn(s, settings)
	}
	return nil
}

// tellSignedIn says where the person is signed in now, as whom, for how long, and where that is
// kept.
func (a *app) tellSignedIn(s *session.Session, settings cli.Remote) {
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
