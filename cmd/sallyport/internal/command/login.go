package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
)

// login signs in, in the terminal, and leaves the tokens in the store.
func (a *app) login(ctx context.Context, settings cli.Remote) error {
	s, err := a.openSession(ctx, settings, true)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Connect(ctx); err != nil {
		return err
	}
	if err := s.SignIn.SignIn(ctx); err != nil {
		return err
	}
	if err := s.CheckToken(ctx); err != nil {
		return err
	}
	if err := s.CheckStored(); err != nil {
		return err
	}
	a.messages.Say("signed in to %s", session.PlainURL(s.Upstream))
	return nil
}
