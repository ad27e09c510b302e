package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"

	"golang.org/x/oauth2"

	"sallyport/oauth/asclient"
)

// login is the authorization code grant with PKCE, from discovery to the stored token.
func (t *Transport) login(ctx context.Context, j job) error {
	f, err := t.discover(ctx, j.metadata, true)
	if err != nil {
		return err
	}
	if t.byDevice(f.Server) {
		return t.deviceLogin(ctx, j, f)
	}
	if err := f.Server.CheckPKCE(t.cfg.AssumePKCE); err != nil {
		return err
	}
	if f.Server.AuthorizationEndpoint == "" {
		return f.Missing("authorization endpoint")
	}
	if err := t.brake(ctx, j, f.Server); err != nil {
		return err
	}
	cb, err := t.listen(ctx, rand.Text())
	if err != nil {
		return err
	}
	err = t.loginAt(ctx, j, f, cb)
	cb.settle(asclient.WithoutQuery(t.cfg.Upstream), err)
	t.wg.Go(cb.close) // the page may take its moment, the waiting requests need not
	return err
}

// loginAt runs the login whose callback comes to cb.
func (t *Transport) loginAt(ctx context.Context, j job, f asclient.Finding, cb *callback) error {
	known := t.knownAt(f.Server).ID
	c, err := t.clientAt(ctx, j, f, cb.uri)
	if err != nil {
		return err
	}
	verifier := oauth2.GenerateVerifier()
	asked := t.scopes(f, j, true)
	link, err := t.as.AuthorizeURL(f.Server, c.Credentials, asclient.Authorization{RedirectURI: cb.uri, State: cb.state,
		Verifier: verifier, Wanted: t.wanted(f, asked)})
	if err != nil {
		return err
	}
	t.inUse(cb.state, verifier, c.Secret)
	e, err := t.entranceFor(ctx, f, c, link)
	if err != nil {
		return err
	}
	p := Prompt{AuthorizeURL: e.first, LinkExpires: e.until, BrowserURL: cb.origin + cb.visit, RedirectURI: cb.uri, Issuer: f.Server.Issuer, Expires: t.now().Add(t.cfg.CallbackTimeout)}
	if asclient.IsLoopback(cb.redirect.Hostname()) { // else the person's browser may be where the listener is not
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
		return &asclient.SignInError{Stage: asclient.StageAuthorize, Server: f.Server.Name(), Err: err}
	}
	if err := asclient.CheckRedirect(f.Server, q); err != nil {
		return err
	}
	code := q.Get("code")
	t.inUse(code)
	k, err := t.as.RedeemCode(ctx, f.Server, c.Credentials, asclient.Code{Code: code, RedirectURI: cb.uri, Verifier: verifier,
		Resource: t.resourceOf(f)})
	if err != nil {
		return t.orForget(ctx, f, c, err)
	}
	return t.keepLogin(ctx, f, c, k, asked)
}

// knownAt returns the client registered at s by an earlier login, with that one's key.
func (t *Transport) knownAt(s asclient.Server) client {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rec.Server.ID() != s.ID() {
		return client{}
	}
	c := t.rec.Client
	c.ProofKey = t.rec.ProofKey
	return c
}

// clientAt returns the client for a login at f's server, stored if it is new.
func (t *Transport) clientAt(ctx context.Context, j job, f asclient.Finding, redirect string) (client, error) {
	known := t.knownAt(f.Server)
	c, err := t.clientFor(ctx, f, known, redirect)
	if err != nil {
		return client{}, err
	}
	if c.ProofKey, err = asclient.ChooseProofKey(f, j.challenge(), known.ProofKey); err != nil {
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
func (t *Transport) orForget(ctx context.Context, f asclient.Finding, c client, err error) error {
	if se := (*asclient.SignInError)(nil); errors.As(err, &se) && se.Code == "invalid_client" && c.Dynamic {
		t.forgetClient(ctx, f, c)
		se.Refused = c.fresh // else the next sign-in registers again
	}
	return err
}

// keepLogin stores what a login brought and makes it current.
func (t *Transport) keepLogin(ctx context.Context, f asclient.Finding, c client, k asclient.Token, asked []string) error {
	t.cfg.Log.Info("signed in", "host", f.Server.Host())
	return t.commit(ctx, f, signedIn, func(r *record) {
		r.Token, r.Asked, r.Client, r.ProofKey = k, asked, client{}, c.ProofKey
		if c.Dynamic {
			r.Client = c
		}
	})
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
