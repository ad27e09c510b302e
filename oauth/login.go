package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
)

// login is the authorization code grant with PKCE, from discovery to the stored token.
func (t *Transport) login(ctx context.Context, fl *flight, l *leadership) error {
	f, err := t.discover(ctx, fl.need.challenge.metadata, true)
	if err != nil {
		return err
	}
	if t.byDevice(f.server) {
		return t.deviceLogin(ctx, fl, l, f)
	}
	if err := t.checkPKCE(f.server); err != nil {
		return err
	}
	if f.server.AuthorizationEndpoint == "" {
		return &DiscoveryError{What: "authorization endpoint in the metadata of " + f.server.name(), Tried: f.tried}
	}
	if err := l.awaitPage(ctx, f.server.name()); err != nil {
		return err
	}
	cb, err := listenForCallback(ctx, &t.cfg, t.life, rand.Text())
	if err != nil {
		return err
	}
	err = t.loginAt(ctx, fl, l, f, cb)
	cb.finish(err)
	t.life.startWithin(cb.close) // the page may take its moment, the waiting requests need not
	return err
}

// loginAt runs the login whose callback comes to cb.
func (t *Transport) loginAt(ctx context.Context, fl *flight, l *leadership, f finding, cb *callback) error {
	known := t.creds.registeredAt(f.server).ID
	c, err := t.clientAt(ctx, fl.need, f, cb.uri)
	if err != nil {
		return err
	}
	verifier := oauth2.GenerateVerifier()
	asked := t.scopes(f, fl.need, true)
	link, err := t.authorizeURL(f, c, cb, verifier, asked)
	if err != nil {
		return err
	}
	fl.addSecrets(cb.state, verifier, c.Secret)
	e, err := t.entranceFor(ctx, fl, f, c, link)
	if err != nil {
		return err
	}
	p := Prompt{AuthorizeURL: e.first, LinkExpires: e.until, StartURL: cb.startURL(), BrowserURL: cb.visitURL(), RedirectURI: cb.uri, Issuer: f.server.Issuer, Expires: t.cfg.now().Add(t.cfg.Callback.Timeout)}
	cb.target.Store(e)
	q, err := t.awaitRedirect(ctx, l, p, cb)
	if errors.Is(err, ErrNotCompleted) && c.Dynamic && c.ID == known {
		// A server that has forgotten a client shows the browser an error and sends
		// nobody back; then only a new registration helps.
		t.creds.forgetClient(ctx, f, c)
	}
	if err != nil {
		return &SignInError{Stage: StageAuthorize, Server: f.server.name(), Err: err}
	}
	if err := checkRedirect(f.server, q); err != nil {
		return err
	}
	code := q.Get("code")
	fl.addSecrets(code)
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {cb.uri}, "code_verifier": {verifier}}
	setIf(form, "resource", t.cfg.resourceOf(f))
	k, err := t.grant(ctx, StageToken, f.server, c, form)
	if err != nil {
		return t.orForget(ctx, f, c, err)
	}
	return t.keepLogin(ctx, f, c, k, asked)
}

// clientAt returns the client for a login at f's server, stored if it is new.
func (t *Transport) clientAt(ctx context.Context, n need, f finding, redirect string) (client, error) {
	known := t.creds.registeredAt(f.server)
	c, err := t.clientFor(ctx, f, known, redirect)
	if err != nil {
		return client{}, err
	}
	if c.proofKey, err = t.proofKeyFor(f, n, known.proofKey); err != nil {
		return client{}, err
	}
	if !c.Dynamic || c.ID == known.ID {
		return c, nil
	}
	c.fresh = true
	return c, t.creds.update(ctx, f, fromStore, func(r *record) {
		if r.Token.Refresh == "" { // else it needs the client that it was granted to, until the new token is there
			r.Client = c
		}
	})
}

// orForget is err. If the server has forgotten c, so do we, and the next sign-in registers again.
func (t *Transport) orForget(ctx context.Context, f finding, c client, err error) error {
	if se := (*SignInError)(nil); errors.As(err, &se) && se.Code == "invalid_client" && c.Dynamic {
		t.creds.forgetClient(ctx, f, c)
		se.Refused = c.fresh // else the next sign-in registers again
	}
	return err
}

// keepLogin stores what a login brought and makes it current.
func (t *Transport) keepLogin(ctx context.Context, f finding, c client, k token, asked []string) error {
	t.cfg.Log.Info("signed in", "host", hostOf(f.server.TokenEndpoint))
	return t.creds.update(ctx, f, fromSignIn, func(r *record) {
		r.Token, r.Asked, r.Client, r.ProofKey = k, asked, client{}, c.proofKey
		if c.Dynamic {
			r.Client = c
		}
	})
}

// authorizeURL is RFC 6749 section 4.1.1 with PKCE (RFC 7636), resource (RFC 8707).
func (t *Transport) authorizeURL(f finding, c client, cb *callback, verifier string, asked []string) (string, error) {
	u, err := url.Parse(f.server.AuthorizationEndpoint)
	if err != nil || u.Host == "" || !safe(u, true, t.cfg.AllowInsecureHTTP) {
		return "", &SignInError{Stage: StageAuthorize, Server: f.server.name(), Code: CodeInsecureURL, Refused: true,
			Description: "the authorization endpoint is no https URL"}
	}
	q := u.Query()
	q.Set("response_type", "code")
	q.Set("client_id", c.ID)
	q.Set("redirect_uri", cb.uri)
	q.Set("state", cb.state)
	q.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
	q.Set("code_challenge_method", "S256")
	setIf(q, "scope", strings.Join(asked, " "))
	setIf(q, "resource", t.cfg.resourceOf(f))
	setIf(q, "audience", t.cfg.Audience)
	if c.proofKey != nil {
		setIf(q, "dpop_jkt", thumbprint(c.proofKey))
	}
	t.addExtra(q)
	if slices.Contains(asked, "offline_access") && !q.Has("prompt") {
		q.Set("prompt", "consent") // OpenID Connect Core section 11 asks for it
	}
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u.String(), nil
}

// awaitRedirect shows the prompt until the callback or the timeout.
func (t *Transport) awaitRedirect(ctx context.Context, l *leadership, p Prompt, cb *callback) (url.Values, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.Callback.Timeout, ErrNotCompleted)
	defer cancel()
	l.announce(p)
	t.callback.Store(cb)
	t.status.show(ctx, p)
	defer t.status.show(ctx, Prompt{})
	select {
	case q := <-cb.got:
		return q, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// checkRedirect judges the parameters of a redirect whose state was right: first iss
// (RFC 9207 section 2.4), before which nothing of it may be acted on or shown.
func checkRedirect(s server, q url.Values) error {
	if iss := q.Get("iss"); s.Source != fromConfig && (q.Has("iss") && iss != s.Issuer || !q.Has("iss") && s.SendsIss) {
		return &SignInError{Stage: StageAuthorize, Server: s.name(), Code: CodeIssuerMismatch, Refused: true,
			Description: "the redirect does not come from the authorization server that was asked"}
	}
	if code := q.Get("error"); code != "" {
		sent := []string{q.Get("state")}
		return &SignInError{Stage: StageAuthorize, Server: s.name(), Code: cut(mask(code, sent)),
			Description: cut(mask(q.Get("error_description"), sent)), Refused: !momentary(code)}
	}
	if q.Get("code") == "" {
		return &SignInError{Stage: StageAuthorize, Server: s.name(), Code: CodeBadReply, Refused: true, Description: "a redirect without a code"}
	}
	return nil
}

// Deliver hands in a callback URL that reached us another way than the listener. It
// waits for the sign-in's outcome and returns that; ErrNoSignIn if it is not this one's.
func (t *Transport) Deliver(ctx context.Context, callback *url.URL) error {
	cb := t.callback.Load()
	if cb == nil || !cb.deliver(callback.Query()) {
		return ErrNoSignIn
	}
	select {
	case <-cb.finished:
		return cb.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
