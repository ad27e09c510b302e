package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/sshtunnel"
)

// logout signs out of one account, or with --all of all accounts at the URL. Logins elsewhere to
// that URL ask again before they open this machine's browser.
func (a *app) logout(ctx context.Context, c *cli.LogoutCommand) error {
	accounts, err := accountsToSignOut(ctx, a, c)
	if err != nil {
		return err
	}
	var errs []error
	for _, settings := range accounts {
		errs = append(errs, signOut(ctx, a, settings, c.Force))
	}
	upstream := session.BeforeQuery(cmp.Or(c.URL, c.UpstreamURL))
	errs = append(errs, forgetTrust(a, c.Store, func(t callback.Trusted) bool { return t.Upstream == upstream }))
	return errors.Join(errs...)
}

// accountsToSignOut returns the settings of each account that a logout is for. The account of
// exactly these settings comes first. If it is not stored, another one of the same URL and profile
// is meant, which was signed in with another --via or the like. If there are several, the person
// has to say which.
func accountsToSignOut(ctx context.Context, a *app, c *cli.LogoutCommand) ([]cli.Remote, error) {
	s, err := a.openSession(ctx, c.Remote, true)
	if err != nil {
		return nil, err
	}
	stored, err := s.IsStored()
	if err == nil && !stored {
		_, stored, err = s.SignIn.ProviderAccount(ctx) // an upstream whose own tokens are not stored
	}
	s.Close()
	if err != nil || stored && !c.All {
		return []cli.Remote{c.Remote}, err
	}
	list, err := a.storedAccounts(c.Store)
	if err != nil {
		return nil, err
	}
	var found []cli.Remote
	var commands, others []string
	for _, account := range list {
		if account.IdentityProvider || account.Upstream != session.BeforeQuery(s.Upstream.String()) {
			continue
		}
		remark := session.RemarkOf(account.Account)
		command := signOutCommand(account.Upstream, remark.Flags())
		if !c.All && remark.Profile != c.Profile {
			others = append(others, account.SignOut)
			continue
		}
		found = append(found, remark.Settings(c.Remote, s.Upstream.String()))
		commands = append(commands, command)
	}
	if len(found) == 0 {
		if err := storeFault(a, c.Store); err != nil {
			return nil, err
		}
		a.messages.Say("nothing is stored for %s, profile %s", session.PlainURL(s.Upstream), c.Profile)
		for _, command := range others {
			a.messages.Say("there is another profile: %s", command)
		}
	}
	if len(found) < 2 || c.All {
		return found, nil
	}
	return chooseAccount(ctx, a, found, commands)
}

// storeFault says why the token store is there and cannot be used. It returns nil if there is none.
func storeFault(a *app, settings cli.Store) error {
	_, err := session.LookAtStore(settings, a.env, slog.New(slog.DiscardHandler))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &cli.UsageError{Text: "the token store cannot be used: " + err.Error(),
		Hints: []string{"chmod and chown the directory so that it is yours alone, or name the right one: --state-dir DIR"}}
}

// signOutCommand returns the command that signs out of the account at upstream that flags name.
func signOutCommand(upstream, flags string) string {
	return strings.Join(strings.Fields("sallyport logout "+flags+" "+session.ShellWord(upstream)), " ")
}

// chooseAccount asks the person which of several accounts is meant. The commands name them.
func chooseAccount(ctx context.Context, a *app, found []cli.Remote, commands []string) ([]cli.Remote, error) {
	upstream := session.BeforeQuery(found[0].URL)
	a.messages.Say("several accounts are stored for %s:", upstream)
	for i, command := range commands {
		a.messages.Say("  %d  %s", i+1, command)
	}
	answer, err := person.NewAsker(a.env, a.screen, true).Ask(ctx, sshtunnel.Question{
		Prompt: fmt.Sprintf("Sign out of which? A number from 1 to %d, or all: ", len(found)), Echo: true,
	})
	number, _ := strconv.Atoi(strings.TrimSpace(answer))
	switch {
	case err == nil && strings.TrimSpace(answer) == "all":
		return found, nil
	case err == nil && 0 < number && number <= len(found):
		return found[number-1 : number], nil
	case err != nil && !errors.Is(err, sshtunnel.ErrNoPerson):
		return nil, err
	}
	return nil, &cli.UsageError{Text: "several accounts are stored for " + upstream + ": say which",
		Hints: append(commands, "sallyport logout --all "+session.ShellWord(upstream)+" signs out of all of them")}
}

// signOut revokes the tokens of one account if its server can do that, and forgets them. With
// enterprise_managed it also ends the sign-in at the identity provider: after a logout nobody gets
// at the upstream from here without a person. It names the other upstreams that share the sign-in.
func signOut(ctx context.Context, a *app, settings cli.Remote, force bool) error {
	s, err := a.openSession(ctx, settings, true)
	if err != nil {
		return err
	}
	defer s.Close()
	provider, signedIn, err := s.SignIn.ProviderAccount(ctx)
	if err != nil {
		return err
	}
	if err := s.SignIn.SignOut(ctx, force); err != nil {
		return err
	}
	upstream := session.PlainURL(s.Upstream)
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

// logoutAll signs out of all accounts. What a server did not revoke is told, and forgotten all the
// same. Shared connections to bastions end, too.
func (a *app) logoutAll(ctx context.Context, c *cli.LogoutCommand) error {
	store, err := session.OpenStore(c.Store, a.env, a.log)
	if err != nil {
		return err
	}
	if store == nil {
		return &cli.UsageError{Text: "--all with --token-store memory: there is nothing to forget"}
	}
	unrevoked, err := revokeAll(ctx, a, c)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // nothing is forgotten that could still be revoked
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
	var status error
	for _, u := range unrevoked {
		e := a.words.Error(&oauth.RevocationError{Err: u.err})
		a.messages.Report(u.upstream+": "+e.Text, e.Hints)
		status = &statusError{e.Status}
	}
	if err := forgetTrust(a, c.Store, nil); err != nil {
		return err
	}
	// Whoever leaves this machine leaves no way into another one open.
	if sockets := a.sharedSockets(c.Store); len(sockets) > 0 {
		err = a.stopShares(ctx, sockets)
	}
	return cmp.Or(err, status)
}

// revokeTimeout bounds how long logoutAll waits for the servers. The ways to them may begin with a
// question to the person.
const revokeTimeout = 30 * time.Second

// unrevoked is an account whose server was not brought to revoke its tokens.
type unrevoked struct {
	upstream string
	err      error
}

// revokeAll signs out of all accounts at once, each by the settings of its sign-in. It returns
// those whose tokens were not revoked within revokeTimeout.
func revokeAll(ctx context.Context, a *app, c *cli.LogoutCommand) ([]unrevoked, error) {
	accounts, err := a.storedAccounts(c.Store)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	all := make([]unrevoked, len(accounts))
	var signingOut sync.WaitGroup
	for i, account := range accounts {
		all[i].upstream = account.Upstream
		if account.IdentityProvider {
			continue // by the accounts that use it, or by oauth.RevokeProviders
		}
		s, err := a.openSession(ctx, session.RemarkOf(account.Account).Settings(c.Remote, account.Upstream), true)
		if err != nil {
			all[i].err = err
			continue
		}
		defer s.Close()
		signingOut.Go(func() { // ends with ctx
			err := s.SignIn.SignOut(ctx, false)
			if r, ok := errors.AsType[*oauth.RevocationError](err); ok {
				err = r.Err // without its word of what is kept
			}
			all[i].err = err
		})
	}
	signingOut.Wait()
	return slices.DeleteFunc(all, func(u unrevoked) bool { return u.err == nil }), nil
}

// forgetTrust forgets which hosts may open a login page here without asking: those for which which
// returns true, or all of them, and then the callbacks that are kept for hosts as well.
func forgetTrust(a *app, settings cli.Store, which func(callback.Trusted) bool) error {
	dir := session.StateDir(settings, a.env)
	if which == nil {
		callback.NewKept(dir).Forget()
	}
	removed, err := callback.NewTrust(dir).Forget(which)
	if removed > 0 {
		a.messages.Say("logins elsewhere ask again before they open this browser (%d forgotten)", removed)
	}
	return err
}
