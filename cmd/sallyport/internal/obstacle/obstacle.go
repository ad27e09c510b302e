// Package obstacle finds out what is in the way of the upstream: a tunnel that is down, a login
// that waits for the person, or an error that waiting cannot mend. [Current] is a pure function of
// the libraries' states. [Watcher] follows the states.
package obstacle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/oauth"
	"sallyport/relay"
	"sallyport/sshtunnel"
)

// States are the states of all that lies between the MCP host and one upstream.
type States struct {
	// Tunnel leads to the upstream. It is zero if requests leave directly.
	Tunnel sshtunnel.State
	// Callback is the tunnel to the workstation. It is zero if the callback is accepted here.
	Callback sshtunnel.State
	// SignIn is the sign-in.
	SignIn oauth.State
	// Lent is what helpers show of the login under way.
	Lent helper.Shown
	// Elsewhere says what the person does if the browser is on another machine. It is empty if the
	// browser of this machine serves.
	Elsewhere string
}

// Current returns the first obstacle, the nearest to the MCP host first. It returns nil if nothing
// is in the way. A sign-in that failed is no obstacle, because the next request begins another one.
// Only a wrong setting stays one, such as a file of the sign-in that is not there.
func Current(s States, words explain.Explainer) *relay.Obstacle {
	switch {
	case s.Tunnel.Notice.Text != "":
		return hopWaits(s.Tunnel.Notice)
	case s.Tunnel.Err != nil:
		return words.Error(s.Tunnel.Err).Obstacle()
	case s.Callback.Notice.Text != "" && s.SignIn.Busy:
		return hopWaits(s.Callback.Notice)
	case s.SignIn.Prompt.AuthorizeURL != "":
		return loginWaits(s, words)
	case s.Callback.Err != nil && s.SignIn.Busy: // without a login nobody needs the workstation
		return words.Error(s.Callback.Err).Obstacle()
	case s.SignIn.Err != nil && !errors.Is(s.SignIn.Err, context.Canceled):
		if o := words.Error(s.SignIn.Err).Obstacle(); o.Final != nil {
			return o
		}
	}
	if !s.SignIn.NextPage.IsZero() {
		return pageHeldBack(s.SignIn, words)
	}
	return nil
}

// printable returns o with only those characters that a person may be shown.
func printable(o *relay.Obstacle) *relay.Obstacle {
	if o == nil {
		return nil
	}
	shown := *o
	shown.Text, shown.URL = person.Lines(o.Text), person.Printable(o.URL)
	shown.Code, shown.CodeURL, shown.Elsewhere = person.Printable(o.Code), person.Printable(o.CodeURL), person.Printable(o.Elsewhere)
	shown.Hints = slices.Clone(o.Hints)
	for i, hint := range shown.Hints {
		shown.Hints[i] = person.Printable(hint)
	}
	return &shown
}

// hopWaits is the obstacle of an SSH server that said something before it let us in. It may wait
// for the person, who has to open a link or to confirm a push.
func hopWaits(n sshtunnel.Notice) *relay.Obstacle {
	o := &relay.Obstacle{
		Kind: explain.KindSSHPerson, Text: person.OneLine(fmt.Sprintf("logging in to %s, which says: %s", n.Hop, n.Text)), URL: n.URL,
		Hints: []string{"do what it asks for, if it asks for something; the login then goes on by itself"},
	}
	if n.URL != "" {
		o.Hints = []string{"open this link in your browser: " + person.OneLine(n.URL) + "; the login then goes on by itself"}
	}
	return o
}

// loginWaits is the obstacle of a login that waits for the person. MCP hosts log what they are
// sent, so they get the link without the login's state where the browser can open that: on this
// machine, on that of --callback-via, and on that of a helper. Elsewhere only the login page itself
// can be opened.
func loginWaits(s States, words explain.Explainer) *relay.Obstacle {
	p := s.SignIn.Prompt
	link := cmp.Or(p.StartURL, p.AuthorizeURL)
	o := &relay.Obstacle{Kind: explain.KindSignIn, Text: "a sign-in waits for the person", Code: p.UserCode}
	lent := person.LentTo(s.Lent)
	switch {
	case p.IsDevice(): // any machine will do
	case lent != "":
		o.Elsewhere = lent
	case s.Elsewhere != "":
		o.Elsewhere = s.Elsewhere
		if s.Lent.Trouble != "" {
			o.Elsewhere = "your workstation says: " + person.OneLine(s.Lent.Trouble)
		}
		if s.Callback.Phase != sshtunnel.Up {
			link = p.AuthorizeURL
		}
	}
	o.URL, o.Hints = link, []string{"open this link in your browser: " + link}
	if lent != "" && !p.IsDevice() {
		o.Hints = []string{lent, "or open this link there: " + link}
	}
	if p.UserCode != "" {
		o.Hints = append(o.Hints, person.CodeHint(p))
	}
	if p.HasOtherWay() {
		o.CodeURL = p.VerificationURI
	}
	if o.Elsewhere != "" && lent == "" && !p.Elsewhere {
		o.Hints = append(o.Hints, o.Elsewhere)
	}
	if s.Callback.Err != nil && lent == "" {
		o.Hints = append(o.Hints, "the workstation of --callback-via is not reached: "+words.Error(s.Callback.Err).Text)
	}
	return o
}

// pageHeldBack is the obstacle of a login that may not show its page before s.NextPage. It names
// the failure before it, because that is what a person can do something about.
func pageHeldBack(s oauth.State, words explain.Explainer) *relay.Obstacle {
	why := "a sign-in is wanted, and another login page was opened shortly before"
	o := &relay.Obstacle{Kind: explain.KindSignIn}
	if s.LastFailure != nil {
		e := words.Error(s.LastFailure)
		why, o.Hints = e.Text, e.Hints
	}
	o.Text = why + "; the next login page opens at " + s.NextPage.Local().Format(time.TimeOnly)
	o.Hints = append(slices.Clip(o.Hints), "wait for the link, or type sallyport login URL in a terminal, which opens a page at once")
	return o
}
