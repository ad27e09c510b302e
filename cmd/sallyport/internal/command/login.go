package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/session"
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
	// A person waits, so a tunnel that cannot be dialed fails now, and in the words of SSH.
	if err := s.Connect(ctx); err != nil {
		return err
	}
	if err := s.SignIn.SignIn(ctx); err != nil {
		return err
	}
	// SignIn does nothing if the stored token has not expired. It may be revoked all the same.
	answer, err := s.CheckToken(ctx)
	if err != nil {
		return err
	}
	// A token that ends with this process is of no use to the proxy that starts next.
	if err := s.CheckStored(); err != nil {
		return err
	}
	upstream := session.PlainURL(s.Upstream)
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
		a.messages.Say("signed in to %s", upstream)
	}
	return nil
}
