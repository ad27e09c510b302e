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
func (t *Transport) login(ctx context.Context, j job) error {
	f, err := t.discover(ctx, j.metadata, true)
	if err != nil {
		return err
	}
	if t.byDevice(f.server) {
		return t.deviceLogin(ctx, j, f)
	}
	if err := t.checkPKCE(f.server); err != nil {
		return err
	}
	if f.server.AuthorizationEndpoint == "" {
		return &DiscoveryError{What: "authorization endpoint in the metadata of " + f.server.name(), Tried: f.tried}
	}
	if err := t.brake(ctx, j, f.server); err != nil {
		return err
	}
	cb, err := t.listen(ctx, rand.Text())
	if err != nil {
		return err
	}
	err = t.loginAt(ctx, j, f, cb)
	cb.settle(withoutQuery(t.cfg.Upstream), err)
	t.wg.Go(cb.close) // the page may take its moment, the waiting requests need not
	return err
}

// loginAt runs the login whose callback comes to cb.
func (t *Transport) loginAt(ctx context.Context, j job, f finding, cb *callback) error {
	known := t.knownAt(f.server).ID
	c, err := t.clientAt(ctx, j, f, cb.uri)
	if err != nil {
		return err
	}
	verifier := oauth2.GenerateVerifier()
	asked := t.scopes(f, j, true)
	link, err := t.authorizeURL(f, c, cb, verifier, asked)
	if err != nil {
		return err
	}
	t.inUse(cb.state, verifier, c.Secret)
	e, err := t.entranceFor(ctx, f, c, link)
	if err != nil {
		return err
	}
	p := Prompt{AuthorizeURL: e.first, LinkExpires: e.until, BrowserURL: cb.origin + cb.visit, RedirectURI: cb.uri, Issuer: f.server.Issuer, Expires: t.now().Add(t.cfg.CallbackTimeout)}
	if isLoopback(cb.redirect.Hostname()) { // else the person's browser may be where the listener is not
		p.StartURL = cb.origin + cb.start
	}
	cb.entrance.Store(e)
	q, err := t.await(ctx, p, cb)
	if errors.Is(err, ErrNotCompleted) && c.Dynamic && c.ID == known {
		// A server that has forgotten a client shows the browser an error and sends
		// nobody back; then only a new registration helps.
		t.forgetClient(ctx, f, c)
	}
	if err != nil {
		return &SignInError{Stage: StageAuthorize, Server: f.server.name(), Err: err}
	}
	if err := checkRedirect(f.server, q); err != nil {
		return err
	}
	code := q.Get("code")
	t.inUse(code)
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {cb.uri}, "code_verifier": {verifier}}
	setIf(form, "resource", t.resourceOf(f))
	k, err := t.grant(ctx, StageToken, f.server, c, form)
	if err != nil {
		return t.orForget(ctx, f, c, err)
	}
	return t.keepLogin(ctx, f, c, k, asked)
}

// knownAt returns the client registered at s by an earlier login, with that one's key.
func (t *Transport) knownAt(s server) client {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rec.Server.id() != s.id() {
		return client{}
	}
	c := t.rec.Client
	c.proofKey = t.rec.ProofKey
	return c
}

// clientAt returns the client for a login at f's server, stored if it is new.
func (t *Transport) clientAt(ctx context.Context, j job, f finding, redirect string) (client, error) {
	known := t.knownAt(f.server)
	c, err := t.clientFor(ctx, f, known, redirect)
	if err != nil {
		return client{}, err
	}
	if c.proofKey, err = t.proofKeyFor(f, j, known.proofKey); err != nil {
		return client{}, err
	}
	if !c.Dynamic || c.ID == known.ID {
		return c, nil
	}
	c.fresh = true
	return c, t.commit(ctx, f, stored, func(r *record) {
		if r.Token.Refresh == "" { // else it needs the client that it was granted to, until the new token is there
			r.Client = c
		}
	})
}

// orForget is err. If the server has forgotten c, so do we, and the next sign-in registers again.
func (t *Transport) orForget(ctx context.Context, f finding, c client, err error) error {
	if se := (*SignInError)(nil); errors.As(err, &se) && se.Code == "invalid_client" && c.Dynamic {
		t.forgetClient(ctx, f, c)
		se.Refused = c.fresh // else the next sign-in registers again
	}
	return err
}

// keepLogin stores what a login brought and makes it current.
func (t *Transport) keepLogin(ctx context.Context, f finding, c client, k token, asked []string) error {
	t.cfg.Log.Info("signed in", "host", hostOf(f.server.TokenEndpoint))
	return t.commit(ctx, f, signedIn, func(r *record) {
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
	setIf(q, "resource", t.resourceOf(f))
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

// await shows the prompt until the callback or the timeout.
func (t *Transport) await(ctx context.Context, p Prompt, cb *callback) (url.Values, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.cfg.CallbackTimeout, ErrNotCompleted)
	defer cancel()
	ctx, withdraw := t.present(ctx, p, cb)
	defer withdraw()
	select {
	case q := <-cb.got:
		return q, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// present shows p to the person until withdraw is called; cb is where its answer comes,
// nil if none does. The context ends with it.
func (t *Transport) present(ctx context.Context, p Prompt, cb *callback) (_ context.Context, withdraw func()) {
	ctx, cancel := context.WithCancel(ctx)
	t.announce(p)
	t.mu.Lock()
	t.prompt, t.waiting = p, cb
	t.notifyLocked()
	t.mu.Unlock()
	if t.cfg.Offer != nil {
		// Ends when Offer does, which ctx ends.
		t.wg.Go(func() { t.cfg.Offer(ctx, p) })
	}
	return ctx, func() {
		t.mu.Lock()
		t.prompt = Prompt{} // waiting stays until the next login: Deliver learns the outcome from it
		t.notifyLocked()
		t.mu.Unlock()
		cancel()
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
	t.mu.Lock()
	cb := t.waiting
	t.mu.Unlock()
	if cb == nil || !cb.deliver(callback.Query()) {
		return ErrNoSignIn
	}
	select {
	case <-cb.settled:
		return cb.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
