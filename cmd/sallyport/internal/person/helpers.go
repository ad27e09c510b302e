package person

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
)

// IsRemote reports whether the person's browser is on another machine, as far as that can be told.
// The argument browser is the command of --browser: a person who names one has thought of that.
func IsRemote(env environment.Environment, browser string) bool {
	return browser == "" && (env.Getenv("SSH_CONNECTION") != "" || len(systemBrowsers(env)) == 0)
}

// IsHere reports whether the person seems to sit at this machine, at the system's browser or one of
// BROWSER. The helper of an editor opens the browser of another machine.
func IsHere(env environment.Environment, browser string) bool {
	return env.Getenv("SSH_CONNECTION") == "" && len(systemBrowsers(env)) > 0 && !isEditors(env, browser)
}

// lent tells the person what the helpers show of one login, each thing once.
type lent struct {
	login Login
	last  helper.Shown
}

// LentTo says where the person goes on when a helper shows the login. It is empty if none does. The
// hosts are the helpers' words.
func LentTo(s helper.Shown) string {
	if s.Holding == 0 {
		return ""
	}
	where := "the browser of your workstation"
	if len(s.Hosts) > 0 {
		where += fmt.Sprintf(" (where you typed sallyport callback %s)", OneLine(strings.Join(s.Hosts, ", ")))
	}
	switch s.How {
	case helper.HowNowhere:
		return "no browser could be started on your workstation; open the link there yourself, or type sallyport callback there, in a terminal of its desktop"
	case helper.HowOpened:
		return "the login page is open in " + where
	case helper.HowByHand:
		return "only this machine reaches the login server: a page in " + where + " says how to go there"
	case helper.HowUnreached:
		return "the login page is not open: neither your workstation nor this machine on its behalf reaches the login server; a page in " + where + " says more"
	case helper.HowWaiting:
		return "go on in " + where + ", where the page of another login is open first"
	}
	return "go on in " + where + ", which asks before it opens the login page"
}

// report tells the person what has changed.
func (l *lent) report(s helper.Shown) {
	if words := LentTo(s); words != "" && s.How != "" && (l.last.How == "" || words != LentTo(l.last)) {
		l.login.Messages.hint("%s", words)
	}
	if s.Trouble != "" && s.Trouble != l.last.Trouble {
		l.login.Messages.hint("your workstation says: %s", OneLine(s.Trouble))
	}
	if s.OpenSocket != "" && s.OpenSocket != l.last.OpenSocket {
		l.login.Messages.hint("%s leads to your workstation and is not used, because other users of this machine may connect to it: "+
			"the sshd here needs StreamLocalBindMask 0177, its default", s.OpenSocket)
	}
	if s.Refused && !l.last.Refused {
		l.login.Messages.hint("the login was refused on your workstation")
	}
	l.last = s
}

// Offer shows a login until ctx ends. The function lend shows it to the helpers until then, and
// tells what they show: first what is known before the login page, and then each change.
func (l Login) Offer(ctx context.Context, p oauth.Prompt, lend func(report func(helper.Shown))) {
	told := lent{login: l}
	first := true
	var following sync.WaitGroup
	lend(func(s helper.Shown) {
		if first {
			first = false
			l.offer(ctx, p, s)
			if l.State != nil && p.RedirectURI != "" {
				following.Go(func() { l.followCode(ctx, p) }) // ends with ctx
			}
		}
		told.report(s)
	})
	following.Wait()
}
