package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/oauth"
)

// Run signs in, in the terminal.
func (c *loginCommand) Run(ctx context.Context, a *app) error {
	w, err := a.newWay(ctx, &c.upstreamFlags, true)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.login.SignIn(ctx); err != nil {
		return err
	}
	if err := w.tryToken(ctx); err != nil {
		return err
	}
	if err := w.login.PersistError(); err != nil {
		return &notKeptError{plainURL(w.upstream), err}
	}
	fmt.Fprintf(a.err, "sallyport: signed in to %s\n", plainURL(w.upstream))
	return nil
}

// notKeptError says that a login brought tokens that end with this process.
type notKeptError struct {
	upstream string
	err      error
}

func (e *notKeptError) Error() string {
	return fmt.Sprintf("signed in to %s, but the tokens could not be stored: %v", e.upstream, e.err)
}

func (e *notKeptError) Unwrap() error { return e.err }

const tryTimeout = 30 * time.Second

// tryToken shows the token to the upstream: a stored one may have been revoked, and a new one be for
// something else. What else than 401 the upstream answers to a ping outside a session does not matter.
func (w *way) tryToken(ctx context.Context) error {
	const ping = `{"jsonrpc":"2.0","id":"sallyport-login","method":"ping"}`
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.String(), strings.NewReader(ping))
	if err != nil {
		return err
	}
	maps.Copy(req.Header, w.header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := w.login.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return &unauthorizedError{plainURL(w.upstream)}
	}
	return nil
}

// connect brings the tunnels up and returns the first failure: a command that a person waits for
// ends with it, where the proxy goes on trying.
func (w *way) connect(ctx context.Context) error {
	if w.tunnel != nil {
		if err := w.tunnel.Connect(ctx); err != nil {
			return err
		}
	}
	if w.callback != nil {
		return w.callback.Connect(ctx)
	}
	return nil
}

// Run revokes and forgets.
func (c *logoutCommand) Run(ctx context.Context, a *app) error {
	if c.All {
		if c.TokenStore == "memory" {
			return &usageError{text: "--all with --token-store memory: there is nothing to forget"}
		}
		store, err := a.openStore(&c.upstreamFlags)
		if err != nil || store == nil {
			return err
		}
		if err := store.ForgetAll(); err != nil {
			return err
		}
		fmt.Fprintln(a.err, "sallyport: all tokens and registrations are forgotten")
		return nil
	}
	w, err := a.newWay(ctx, &c.upstreamFlags, true)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.login.SignOut(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "sallyport: signed out of %s\n", plainURL(w.upstream))
	return nil
}

// offerer shows a login's link on stderr, always, and opens the browser where there is one.
func (a *app) offerer(f *upstreamFlags, upstream *url.URL) func(context.Context, oauth.Prompt) {
	return func(ctx context.Context, p oauth.Prompt) {
		a.fileLog.Info("sign-in offered", "host", upstream.Host)
		if p.Elsewhere {
			link := p.AuthorizeURL
			if !p.LinkExpires.IsZero() { // it may have been used meanwhile
				link = cmp.Or(p.StartURL, link)
			}
			a.print("sallyport: another process of yours waits for the sign-in to %s, at this link:\n  %s\n", plainURL(upstream), link)
			if p.UserCode != "" {
				a.print("hint: %s\n", codeHint(p))
			}
			return
		}
		a.print("sallyport: to sign in to %s, open this link:\n  %s\n", plainURL(upstream), p.AuthorizeURL)
		remote := a.env.Getenv("SSH_CONNECTION") != "" && f.Browser == ""
		switch {
		case p.UserCode != "":
			a.print("hint: %s\n", codeHint(p))
		case f.CallbackVia != "":
			a.print("hint: open it on %s, which brings the answer back\n", f.CallbackVia)
		case remote:
			a.print("hint: is your browser on another machine? there, run: %s\n", a.carryCommand(p))
		}
		if !p.LinkExpires.IsZero() && p.StartURL != "" {
			a.print("hint: that link is good until %s, and once; after that open %s\n", p.LinkExpires.Local().Format(time.TimeOnly), p.StartURL)
		}
		if f.NoBrowser || remote || f.CallbackVia != "" {
			return
		}
		// What a program is started with can be read by everybody on this machine.
		if err := openBrowser(ctx, a.env, f.Browser, cmp.Or(p.BrowserURL, p.AuthorizeURL)); err != nil && p.UserCode == "" {
			a.print("hint: no browser could be started here (%v); open the link yourself, or run on the machine that has one: %s\n", err, a.carryCommand(p))
		}
	}
}

// codeHint is what the person does with the code of a device grant.
func codeHint(p oauth.Prompt) string {
	return fmt.Sprintf("any browser on any machine will do: open %s and enter the code %s", p.VerificationURI, p.UserCode)
}

// carryCommand is what the person types on the workstation.
func (a *app) carryCommand(p oauth.Prompt) string {
	port := "53682"
	if u, err := url.Parse(p.RedirectURI); err == nil && u.Port() != "" {
		port = u.Port()
	}
	return fmt.Sprintf("sallyport callback --port %s %s@%s", port, a.env.User, a.env.Hostname)
}

func (a *app) print(format string, args ...any) {
	fmt.Fprintf(a.err, format, args...)
}
