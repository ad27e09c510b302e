package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
)

// login signs in, in the terminal, and leaves the tokens in the store. It succeeds only if the
// upstream accepts the token and the token is stored.
func (a *app) login(ctx context.Context, settings cli.Remote) error {
	s, err := a.openSession(ctx, settings, true)
	if err != nil {
		return err
	}
	defer s.Close()
	// A person waits, so a tunnel that cannot be dialed fails now, and in the words of SSH.
	if err := s.Connect(ctx); err != nil {
		return err
	}
	if err := s.SignIn.SignIn(ctx); err != nil {
		return err
	}
	// SignIn does nothing if the stored token has not expired. It may be revoked all the same.
	if err := s.CheckToken(ctx); err != nil {
		return err
	}
	// A token that ends with this process is of no use to the proxy that starts next.
	if err := s.CheckStored(); err != nil {
		return err
	}
	a.messages.Say("signed in to %s", session.PlainURL(s.Upstream))
	return nil
}
