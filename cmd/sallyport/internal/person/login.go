package person

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
)

// Login shows logins of one upstream to the person.
type Login struct {
	// Messages gets the link.
	Messages *Messages
	// Env is the environment of the process.
	Env environment.Environment
	// Upstream is the URL of the upstream without its query.
	Upstream string
	// CallbackVia is the workstation of --callback-via. It is empty without one.
	CallbackVia string
	// Forwarded reports whether that workstation listens for the callback. It may be nil without
	// one.
	Forwarded func() bool
	// Published says that the callback is awaited on all addresses of a container.
	Published bool
	// Browser is the command of --browser. If it is empty, the system's browser is used.
	Browser string
	// NoBrowser says that no browser is to be started.
	NoBrowser bool
	// Screen is where the messages are shown. A terminal wraps a long link over several lines.
	Screen *Screen
	// TakesPaste says that the person may paste the callback into this terminal.
	TakesPaste bool
	// State returns the state of the sign-in, and a channel that is closed at its next change. If
	// it is nil, a code that comes after the link is not shown.
	State func() (oauth.State, <-chan struct{})
	// Far leads to login servers that this machine does not reach. Nil means that there is no other
	// way to them.
	Far *FarSide
}

// offer prints the link on stderr and starts the browser, if there is one on this machine. It
// returns after the browser was started. If a helper holds the port of the redirect URI, no browser
// of this machine can bring the callback. If one is there and cannot hold it, no other is wanted,
// and the workstation's browser would bring the callback to whoever has the port.
func (l Login) offer(ctx context.Context, p oauth.Prompt, s helper.Shown) {
	if p.Elsewhere {
		l.offerElsewhere(p)
		return
	}
	isLent, isHelped := s.Holding > 0 && !s.Here, s.Holding == 0 && s.Trouble != ""
	short := l.sayLink(p, isLent)
	// In an SSH session the person is elsewhere, and a browser would open on the wrong machine. A
	// person who names a --browser has thought of that.
	remote := l.Env.Getenv("SSH_CONNECTION") != "" && l.Browser == ""
	if p.UserCode != "" {
		l.Messages.hint("%s", CodeHint(p))
	}
	switch {
	case p.IsDevice(): // no callback comes
	case isLent: // what the helper shows is said when it has said so
	case l.CallbackVia != "" && l.Forwarded():
		l.Messages.hint("open it on %s, which brings the answer back", l.CallbackVia)
	case isHelped: // so is what it says
	case remote || l.CallbackVia != "":
		l.Messages.hint("%s", CallbackHint(l.Env))
	}
	if l.Published && !isLent && !p.IsDevice() {
		l.Messages.hint("%s", publishHint(p.RedirectURI))
	}
	// After a pushed authorization request (RFC 9126) the link works once and for a short time.
	if !p.LinkExpires.IsZero() && p.StartURL != "" && !short {
		l.Messages.hint("that link is good until %s, and once; after that open %s", p.LinkExpires.Local().Format(time.TimeOnly), p.StartURL)
	}
	switch {
	case isLent, isHelped && (remote || !IsHere(l.Env, l.Browser)):
		return
	case remote || l.CallbackVia != "":
		l.hintPaste(p)
		return
	case l.openFar(ctx, p):
		return
	case l.NoBrowser:
		l.hintPaste(p)
		return
	}
	// Every user of this machine can read the arguments of a program, so the browser gets the page
	// that leads to the login once.
	err := openBrowser(ctx, l.Env, l.Browser, cmp.Or(p.BrowserURL, p.AuthorizeURL))
	if refused := errors.Is(err, errNotHTTP) || errors.Is(err, errWithUser); refused {
		l.Messages.hint("no browser was started: %v", err)
	} else if err != nil && !p.IsDevice() {
		l.Messages.hint("no browser could be started here (%v); open the link yourself; %s", err, CallbackHint(l.Env))
		l.hintPaste(p)
	} else if err == nil {
		l.hintEditor(p)
	}
}

// sayLink shows the link. On a terminal of the machine where the browser is, that is the short one,
// which leads to the other, and sayLink reports true.
func (l Login) sayLink(p oauth.Prompt, isLent bool) (short bool) {
	elsewhere := isLent || l.CallbackVia != "" || IsRemote(l.Env, l.Browser)
	if short = l.Screen.IsTerminal && !elsewhere && p.StartURL != ""; short {
		l.Messages.sayLink(p.StartURL, "to sign in to %s within %s minutes, open this link:", l.Upstream, Clock(time.Until(p.Expires)))
		return true
	}
	l.Messages.sayLink(p.AuthorizeURL, "to sign in to %s, open this link:", l.Upstream)
	return false
}

// offerElsewhere shows a login that another process offers. It starts no browser, because the other
// process has done that.
func (l Login) offerElsewhere(p oauth.Prompt) {
	link := p.AuthorizeURL
	if !p.LinkExpires.IsZero() { // it may have been used in the meantime
		link = cmp.Or(p.StartURL, link)
	}
	l.Messages.sayLink(link, "another process of yours waits for the sign-in to %s, at this link:", l.Upstream)
	if p.UserCode != "" {
		l.Messages.hint("%s", CodeHint(p))
	}
}

// followCode tells the person of a code that comes to the link of p, or goes, until ctx ends.
func (l Login) followCode(ctx context.Context, p oauth.Prompt) {
	for {
		s, changed := l.State()
		switch now := s.Prompt; {
		case now.AuthorizeURL != p.AuthorizeURL || now.UserCode == p.UserCode:
		case now.UserCode != "":
			p = now
			l.Messages.hint("%s", CodeHint(p))
		default:
			l.Messages.hint("the code %s is of no more use; the link is", p.UserCode)
			p = now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// CodeHint says what the person does with the code of a device grant (RFC 8628).
func CodeHint(p oauth.Prompt) string {
	if p.HasOtherWay() {
		return fmt.Sprintf("or enter the code %s at %s on any device", p.UserCode, p.VerificationURI)
	}
	return fmt.Sprintf("any browser on any machine will do: open %s and enter the code %s", p.VerificationURI, p.UserCode)
}
