package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
)

// logout revokes the tokens of one upstream where its server can, and forgets them.
func (a *app) logout(ctx context.Context, settings cli.Remote) error {
	s, err := a.openSession(ctx, settings, true)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SignIn.SignOut(ctx); err != nil {
		return err
	}
	a.messages.Say("signed out of %s", session.PlainURL(s.Upstream))
	return nil
}

// logoutAll forgets the tokens and registrations of all upstreams. It asks no server to revoke
// them: the route to each server is in settings that it does not have.
func (a *app) logoutAll(settings cli.Store) error {
	store, err := session.OpenStore(settings, a.env, a.log)
	if err != nil {
		return err
	}
	if store == nil {
		return &cli.UsageError{Text: "--all with --token-store memory: there is nothing to forget"}
	}
	if err := store.ForgetAll(); err != nil {
		return err
	}
	a.messages.Say("all tokens and registrations are forgotten")
	return nil
}
