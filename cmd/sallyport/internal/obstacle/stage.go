package obstacle

import (
	"fmt"
	"slices"
	"time"

	"sallyport/cmd/sallyport/internal/person"
	"sallyport/oauth"
	"sallyport/sshtunnel"
)

// Stages says what a sign-in, and the way to the upstream, are at. It remembers what it has seen,
// so it is asked at each change. It must not be used concurrently.
type Stages struct {
	// Hops and CallbackHops are the aliases of the hosts that the tunnels pass, in order.
	Hops, CallbackHops []string

	// prompt is what was shown last in the login under way, since begun. It is zero if nothing was.
	prompt oauth.Prompt
	begun  time.Time
}

// Now returns the stage in a few words, such as "hop 2 of 3: logging in to inner". It is empty if
// nothing is under way.
func (g *Stages) Now(s States, now time.Time) string {
	signIn := g.signIn(s.SignIn, now)
	if text := hopStage(s.Tunnel, g.Hops); text != "" {
		return text
	}
	if text := hopStage(s.Callback, g.CallbackHops); text != "" {
		return "workstation: " + text
	}
	return signIn
}

// hopStage is the stage of a tunnel that is dialed.
func hopStage(s sshtunnel.State, hops []string) string {
	if s.Phase != sshtunnel.Dialing || s.Hop == "" {
		return ""
	}
	if i := slices.Index(hops, s.Hop); i >= 0 {
		return fmt.Sprintf("hop %d of %d: logging in to %s", i+1, len(hops), s.Hop)
	}
	return "logging in to " + s.Hop
}

// signIn is the stage of the sign-in.
func (g *Stages) signIn(s oauth.State, now time.Time) string {
	if !s.Busy {
		g.prompt = oauth.Prompt{}
		return ""
	}
	if p := s.Prompt; p != (oauth.Prompt{}) {
		if p.Expires != g.prompt.Expires {
			g.begun = now
		}
		g.prompt = p
		return g.waiting(now)
	}
	switch {
	case g.prompt.Elsewhere:
		return "waiting for the sign-in of another process"
	case g.prompt != (oauth.Prompt{}):
		return "exchanging the code for a token"
	case !s.NextPage.IsZero():
		return "the next login page opens at " + s.NextPage.Local().Format(time.TimeOnly)
	}
	return "asking the login server how to sign in"
}

// waiting says for what a shown prompt waits, and how long.
func (g *Stages) waiting(now time.Time) string {
	what := "waiting for the browser"
	switch p := g.prompt; {
	case p.IsDevice():
		what = fmt.Sprintf("enter the code %s at %s, waiting", p.UserCode, p.VerificationURI)
	case p.Elsewhere:
		what = "waiting for the browser, at the page of another process,"
	}
	if g.prompt.Expires.IsZero() {
		return what
	}
	return fmt.Sprintf("%s %s of %s", what, person.Clock(now.Sub(g.begun)), person.Clock(g.prompt.Expires.Sub(g.begun)))
}
