package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
)

// logout revokes the tokens of one upstream if its server can do that, and forgets them. With
// enterprise_managed it also ends the sign-in at the identity provider: after a logout nobody gets
// at the upstream from here without a person. It names the other upstreams that share the sign-in.
func (a *app) logout(ctx context.Context, settings cli.Remote) error {
	s, err := a.openSession(ctx, settings, true)
	if err != nil {
		return err
	}
	defer s.Close()
	provider, signedIn, err := s.SignIn.ProviderAccount(ctx)
	if err != nil {
		return err
	}
	upstream := session.PlainURL(s.Upstream)
	if err := forgetTrust(a, settings.Store, func(t callback.Trusted) bool { return t.Upstream == upstream }); err != nil {
		return err
	}
	if err := s.SignIn.SignOut(ctx); err != nil {
		return err
	}
	a.messages.Say("signed out of %s", upstream)
	if signedIn {
		a.messages.Say("signed out of the identity provider %s", provider.Upstream)
	}
	for _, other := range provider.UsedBy {
		if other != upstream {
			a.messages.Say("%s used that sign-in too, and asks for a new one when its token expires", other)
		}
	}
	return nil
}

// logoutAll forgets the tokens and registrations of all upstreams. It asks no server to revoke
// them: the route to each server is in settings that it does not have. The sign-ins at identity
// providers are revoked where that takes no setting, because each opens many upstreams. Shared
// connections to bastions end, too.
func (a *app) logoutAll(ctx context.Context, settings cli.Store) error {
	store, err := session.OpenStore(settings, a.env, a.log)
	if err != nil {
		return err
	}
	if store == nil {
		return &cli.UsageError{Text: "--all with --token-store memory: there is nothing to forget"}
	}
	send := session.DirectTransport(a.env)
	defer send.CloseIdleConnections()
	if err := oauth.RevokeProviders(ctx, store, send); err != nil {
		a.messages.Report(err.Error(), []string{"end the session at the identity provider itself"})
	}
	if err := store.ForgetAll(); err != nil {
		return err
	}
	a.messages.Say("all tokens and registrations are forgotten")
	if err := forgetTrust(a, settings, nil); err != nil {
		return err
	}
	// Whoever leaves this machine leaves no way into another one open.
	if sockets := a.sharedSockets(settings); len(sockets) > 0 {
		return a.stopShares(ctx, sockets)
	}
	return nil
}

// forgetTrust forgets which hosts may open a login page here without asking: those for which which
// returns true, or all of them.
func forgetTrust(a *app, settings cli.Store, which func(callback.Trusted) bool) error {
	removed, err := callback.NewTrust(session.StateDir(settings, a.env)).Forget(which)
	if removed > 0 {
		a.messages.Say("logins elsewhere ask again before they open this browser (%d forgotten)", removed)
	}
	return err
}
