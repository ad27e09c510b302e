package command

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/oauth"
)

// status prints what is stored, which proxies run here, and what they share. A socket that nobody
// answers on may be left over from a process that was killed, so it is only logged. A shared
// connection that does not answer is named: it may be stopped, and it holds a login.
func (a *app) status(ctx context.Context, settings cli.Store, asJSON bool) error {
	report, err := newStatusReport(ctx, a, settings)
	if err != nil {
		return err
	}
	if asJSON {
		return person.WriteJSON(a.std.Out, report)
	}
	return report.write(a.std.Out, time.Now())
}

// newStatusReport collects what status shows. A socket of somebody else is reported on stderr.
func newStatusReport(ctx context.Context, a *app, settings cli.Store) (statusReport, error) {
	// Empty slices become [] in JSON. Nil ones would become null.
	report := statusReport{dir: session.StateDir(settings, a.env), Version: statusVersion, Accounts: []storedAccount{}, Proxies: []control.Status{}, Shared: []sharedConnection{}, Trusted: []callback.Trusted{}}
	report.Trusted = append(report.Trusted, callback.NewTrust(session.StateDir(settings, a.env)).List()...)
	accounts, err := a.storedAccounts(settings)
	if err != nil {
		return report, err
	}
	report.Accounts = append(report.Accounts, accounts...)
	dirs := a.controlDirs(settings)
	sockets, refused := control.Sockets(dirs)
	shares, refusedShares := share.Sockets(share.Dirs(dirs))
	reportEach(a, append(refused, refusedShares...))
	var asking sync.WaitGroup
	asking.Go(func() { report.Shared = a.sharedConnections(ctx, shares) }) // ends within sharedTimeout
	for _, answer := range control.AskAll(ctx, sockets) {
		if _, foreign := errors.AsType[*localsock.PeerError](answer.Err); foreign {
			a.log.Warn("a control socket is not used", "path", answer.Path, "err", answer.Err)
		} else if answer.Err != nil {
			a.log.Debug("a control socket does not answer", "path", answer.Path, "err", answer.Err)
		} else {
			report.Proxies = append(report.Proxies, answer.Status)
		}
	}
	asking.Wait()
	slices.SortFunc(report.Accounts, func(a, b storedAccount) int {
		return cmp.Or(cmp.Compare(a.Upstream, b.Upstream), cmp.Compare(a.Profile+a.Route, b.Profile+b.Route))
	})
	slices.SortFunc(report.Proxies, func(a, b control.Status) int { return a.Started.Compare(b.Started) })
	return report, nil
}

// reportEach reports errors on stderr. Those that say the same are reported once.
func reportEach(a *app, errs []error) {
	told := map[string]bool{}
	for _, err := range errs {
		if e := a.words.Error(err); !told[e.Text] {
			told[e.Text] = true
			a.messages.Report(e.Text, e.Hints)
		}
	}
}

// storedAccounts lists the accounts in the store. It looks for the directory first, because
// OpenStore would make it. A record that cannot be read is logged and left out.
func (a *app) storedAccounts(settings cli.Store) ([]storedAccount, error) {
	if fi, err := os.Stat(session.StateDir(settings, a.env)); err != nil || !fi.IsDir() {
		return nil, nil
	}
	store, err := session.OpenStore(settings, a.env, a.log)
	if err != nil || store == nil {
		return nil, err
	}
	list, err := oauth.Accounts(store)
	if err != nil {
		a.log.Warn("not all of the store can be read", "err", err)
	}
	var accounts []storedAccount
	for _, account := range list {
		accounts = append(accounts, newStoredAccount(account))
	}
	nameSignOuts(accounts, settings.StateDir)
	return accounts, nil
}
