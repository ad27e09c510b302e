package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"sallyport/oauth/asclient"
)

// login is one login under way: discovery, client, listener, prompt, code, token. It lives until
// the token is stored or the login has failed. This process runs it as the leader.
type login struct {
	*renewal
	lead   *leadership
	status *status
	life   *lifespan
	// pending is where Transport.Deliver finds the callback server.
	pending *atomic.Pointer[callbackServer]

	// found is the outcome of discovery, and server is its authorization server.
	found  asclient.Finding
	server asclient.Server
	client client
}

// run is the login from discovery to the stored token.
func (l *login) run(ctx context.Context) (err error) {
	if l.found, err = l.discover(ctx, true); err != nil {
		return err
	}
	l.server = l.found.Server
	if l.usesDeviceGrant() {
		return l.runDevice(ctx)
	}
	if err := l.server.CheckPKCE(l.cfg.Endpoints.AssumePKCE); err != nil {
		return err
	}
	if l.server.AuthorizationEndpoint == "" {
		return l.found.Missing("authorization endpoint")
	}
	if err := l.lead.awaitPage(ctx, l.server.Name()); err != nil {
		return err
	}
	cb, err := listenForCallback(ctx, l.cfg, l.life, l.clients.callbackPathAt(l.server), rand.Text())
	if err != nil {
		return err
	}
	err = l.runBrowser(ctx, cb)
	cb.finish(err)
	l.life.startWithin(cb.close) // the browser may be slow to fetch our last page, and nobody waits for it
	return err
}

// runBrowser is the authorization code grant (RFC 6749 section 4.1). Its callback comes to cb.
func (l *login) runBrowser(ctx context.Context, cb *callbackServer) error {
	known := l.account.registeredAt(l.server).ID
	a, target, err := l.prepare(ctx, cb)
	if l.clientWasForgotten(err) {
		a, target, err = l.prepare(ctx, cb) // which registers another client
	}
	if err != nil {
		return err
	}
	cb.target.Store(target)
	p := Prompt{AuthorizeURL: target.first, LinkExpires: target.expires,
		StartURL: cb.startURL(), BrowserURL: cb.visitURL(), RedirectURI: cb.uri,
		Issuer: l.server.Issuer, Expires: l.cfg.now().Add(l.cfg.Callback.Timeout)}
	q, err := l.awaitCallback(ctx, p, cb)
	if errors.Is(err, ErrNotCompleted) && l.client.Registered && l.client.ID == known {
		// A server that has forgotten a client shows an error in the browser and redirects nobody.
		// We cannot tell that from a person who does nothing, so the next login registers again.
		l.account.forgetClient(ctx, l.found, l.client)
	}
	if err != nil {
		return err
	}
	if err := asclient.CheckRedirect(l.server, q); err != nil {
		return err
	}
	code := q.Get("code")
	l.flight.addSecrets(code)
	k, err := l.as.RedeemCode(ctx, l.server, l.client.Credentials,
		asclient.Code{Code: code, RedirectURI: cb.uri, Verifier: a.Verifier, Resource: a.Resource})
	if err != nil {
		return l.forgetUnknownClient(ctx, err)
	}
	return l.keep(ctx, k, a)
}

// prepare chooses the client and makes the authorization request and its URL.
func (l *login) prepare(ctx context.Context, cb *callbackServer) (asclient.Authorization, *loginURL, error) {
	if err := l.chooseClient(ctx, cb.uri); err != nil {
		return asclient.Authorization{}, nil, err
	}
	a := asclient.Authorization{RedirectURI: cb.uri, State: cb.state, Verifier: oauth2.GenerateVerifier(),
		Wanted: l.wanted(l.found, true), Consent: l.account.needsConsent(l.server)}
	l.flight.addSecrets(a.State, a.Verifier, l.client.Secret)
	authorizeURL, err := l.as.AuthorizeURL(l.server, l.client.Credentials, a)
	if err != nil {
		return a, nil, err
	}
	target, err := l.loginURL(ctx, authorizeURL)
	return a, target, err
}

// awaitCallback shows p until the callback arrives at cb, or until the timeout. It returns the
// parameters of the callback.
func (l *login) awaitCallback(ctx context.Context, p Prompt, cb *callbackServer) (url.Values, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Callback.Timeout, ErrNotCompleted)
	defer cancel()
	defer l.show(ctx, p, cb)()
	for {
		select {
		case q := <-cb.got:
			return q, nil
		case q := <-cb.strayErrors:
			if err := l.strayError(q); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, &asclient.SignInError{Stage: asclient.StageAuthorize, Server: l.server.Name(), Err: context.Cause(ctx)}
		}
	}
}

// strayError returns the error that a callback without a state tells of. It is nil if the callback
// names another issuer. The error is never Refused, because nothing proves that it comes from our
// server.
func (l *login) strayError(q url.Values) error {
	s := l.server
	s.SendsIss = false // who forgets the state forgets the iss
	e, ok := errors.AsType[*asclient.SignInError](asclient.CheckRedirect(s, q))
	if !ok || e.Code == asclient.CodeIssuerMismatch {
		return nil
	}
	e.Refused = false
	return e
}

// show tells the followers and the person of p, until withdraw is called. cb is where the callback
// arrives. It is nil in the device grant, which has none.
func (l *login) show(ctx context.Context, p Prompt, cb *callbackServer) (withdraw func()) {
	l.lead.announce(p)
	l.pending.Store(cb)
	l.status.show(ctx, p)
	return func() { l.status.show(ctx, Prompt{}) }
}

// chooseClient sets l.client, and stores it if it is a new registration. redirect is the redirect
// URI, empty for the device grant.
func (l *login) chooseClient(ctx context.Context, redirect string) error {
	known := l.account.registeredAt(l.server)
	scopes := l.wanted(l.found, true).Scopes // some servers let a client ask for no others
	c, ok := l.clients.configured(l.server)
	switch {
	case ok:
	case known.Registered && known.Fits(redirect, l.cfg.now()) && known.Covers(scopes) &&
		(redirect == "" || !l.lead.distrustsClient()):
		c = known
	default:
		r, err := l.as.Register(ctx, l.found, l.cfg.Client.Name, l.clients.redirectURIs(redirect), scopes...)
		if err != nil {
			return err
		}
		c = client{Registration: r, Registered: true, isNew: true}
	}
	var err error
	if c.ProofKey, err = asclient.ChooseProofKey(l.found, l.flight.need.challenge, known.ProofKey); err != nil {
		return err
	}
	l.client = c
	if !c.isNew {
		return nil
	}
	return l.account.update(ctx, l.found, fromStore, func(r *record) {
		// A refresh token works only with the client that it was granted to, so that client stays
		// until the new token is there.
		if r.Token.Refresh == "" {
			r.Client = c
		}
	})
}

// forgetUnknownClient returns err. If err says that the server does not know a client that was
// registered there, the registration is forgotten, and the next login registers again.
func (l *login) forgetUnknownClient(ctx context.Context, err error) error {
	e, ok := errors.AsType[*asclient.SignInError](err)
	if ok && e.Code == "invalid_client" && l.client.Registered {
		l.account.forgetClient(ctx, l.found, l.client)
		e.Refused = l.client.isNew // a server that forgets at once would be registered at in a loop
	}
	return err
}

// clientWasForgotten reports whether err says that the server does not know a client that an
// earlier login registered there. A client of this login is not registered again.
func (l *login) clientWasForgotten(err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	return ok && e.Code == "invalid_client" && l.client.Registered && !l.client.isNew
}

// keep stores the token that the login brought and makes it current. a says what was asked for.
func (l *login) keep(ctx context.Context, k asclient.Token, a asclient.Authorization) error {
	l.cfg.Log.Info("signed in", "host", l.server.Host())
	return l.account.update(ctx, l.found, fromSignIn, func(r *record) {
		r.Token, r.Asked, r.Client, r.ProofKey = k, a.Scopes, client{}, l.client.ProofKey
		r.RefusedEarly = false
		if l.client.Registered {
			r.Client = l.client
		}
		if k.Refresh == "" && slices.Contains(a.Scopes, "offline_access") {
			r.Consent = consentNeeded
			if a.Consent {
				r.Consent = consentUseless
			}
		}
	})
}

// loginURL is the URL of the login page. Usually it is the authorization request itself, and works
// as long as the login lasts. If the server requires pushed authorization requests (RFC 9126), the
// URL only refers to such a request. Then it works once, for a minute or so, and a new request is
// pushed after that.
type loginURL struct {
	// push pushes a request. It is nil if first works as long as the login.
	push func(context.Context) (asclient.Pushed, error)
	now  func() time.Time

	// first is the URL that the prompt shows. It works until expires, which is zero without push.
	first   string
	expires time.Time

	mu sync.Mutex
	// followed says that first was handed out by next.
	followed bool
}

// next returns a URL that works now.
func (u *loginURL) next(ctx context.Context) (string, error) {
	if u.push == nil {
		return u.first, nil
	}
	u.mu.Lock()
	fresh := !u.followed && u.now().Before(u.expires)
	u.followed = true
	u.mu.Unlock()
	if fresh {
		return u.first, nil
	}
	p, err := u.push(ctx)
	return p.URL, err
}

// loginURL returns the loginURL for the request authorizeURL. It pushes the request where the
// server requires that.
func (l *login) loginURL(ctx context.Context, authorizeURL string) (*loginURL, error) {
	if !l.server.PushRequired {
		return &loginURL{first: authorizeURL}, nil
	}
	if l.server.PushEndpoint == "" {
		return nil, l.found.Missing("pushed authorization request endpoint")
	}
	push := func(ctx context.Context) (asclient.Pushed, error) {
		p, err := l.as.Push(ctx, l.server, l.client.Credentials, authorizeURL)
		if err != nil {
			return p, l.forgetUnknownClient(ctx, err)
		}
		l.flight.addSecrets(p.RequestURI)
		return p, nil
	}
	p, err := push(ctx)
	if err != nil {
		return nil, err
	}
	return &loginURL{push: push, now: l.cfg.now, first: p.URL, expires: p.Expires}, nil
}
