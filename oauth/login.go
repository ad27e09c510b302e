package oauth

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
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
	// plainPath says that the server may take no redirect URI but one with callbackPath.
	plainPath bool
	// again says that the login has started again after a login page.
	again bool
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
	return l.runBrowser(ctx)
}

// runBrowser is the authorization code grant (RFC 6749 section 4.1). A server that does not take
// our client gets another one, and maybe another login page.
func (l *login) runBrowser(ctx context.Context) error {
	l.plainPath = l.account.registeredAt(l.server).PlainPath || l.lead.lastPageUnused() && !l.lead.takeover
	cb, err := listenForCallback(ctx, l.cfg, l.life, l.callbackPath())
	if err != nil {
		return err
	}
	err = l.runAuthorization(ctx, cb)
	for l.startsAgain(ctx, &err) {
		next, nextErr := cb.at.expect(l.callbackPath())
		if nextErr != nil {
			break // the redirect URI was one a moment ago
		}
		cb.finish(err)
		cb = next
		err = l.runAuthorization(ctx, cb)
	}
	cb.at.free()
	cb.finish(err)
	l.life.startWithin(cb.at.close) // the browser may be slow to fetch our last page, and nobody waits for it
	return err
}

// runAuthorization is one authorization request, whose callback comes to cb, and its token.
func (l *login) runAuthorization(ctx context.Context, cb *callbackServer) error {
	known := l.account.registeredAt(l.server).ID
	a, target, err := l.prepare(ctx, cb)
	if err != nil {
		return err
	}
	cb.target.Store(target)
	cb.sendsIss = l.server.SendsIss
	p := Prompt{AuthorizeURL: target.first, LinkExpires: target.expires,
		StartURL: cb.startURL(), BrowserURL: cb.visitURL(), RedirectURI: cb.uri, State: cb.state,
		Issuer: l.server.Issuer, Expires: l.cfg.now().Add(l.cfg.Callback.Timeout)}
	b := l.startBeside(ctx, a.Wanted)
	defer b.end()
	q, k, err := l.awaitAnswer(ctx, b.addFirst(ctx, p), cb, b)
	if errors.Is(err, ErrNotCompleted) && l.client.Registered && l.client.ID == known {
		// A server that has forgotten a client shows an error in the browser and redirects nobody.
		// We cannot tell that from a person who does nothing, so the next login registers again.
		l.account.forgetClient(ctx, l.found, l.client)
	}
	byDevice := err == nil && q == nil
	if err == nil && !byDevice {
		if err = asclient.CheckRedirect(l.server, q); err == nil {
			k, byDevice = b.settle(ctx)
		}
	}
	if err == nil && !byDevice {
		code := q.Get("code")
		l.flight.addSecrets(code)
		k, err = l.as.RedeemCode(ctx, l.server, l.client.Credentials,
			asclient.Code{Code: code, RedirectURI: cb.uri, Verifier: a.Verifier, Resource: a.Resource})
	}
	if err != nil {
		return err
	}
	return l.keep(ctx, k, a)
}

// callbackPath returns the path of the redirect URI. It is that of clients.callbackPathAt, with one
// exception: some servers take no path but callbackPath. They have said so, or the page before led
// nowhere, which may be how they say it. The path callbackPath is safe only as long as one server
// has it, so the account is bound to that server.
func (l *login) callbackPath() string {
	path := l.clients.callbackPathAt(l.server)
	if path == callbackPath || !l.plainPath || l.pathTaken(l.server) != "" {
		return path
	}
	return callbackPath
}

// startsAgain reports whether the login goes on with a new registration after the error *err. It
// does at most once for each of two reasons: the server has forgotten our client, or it refuses our
// redirect URI. If the latter cannot be helped, startsAgain sets *err to the reason.
func (l *login) startsAgain(ctx context.Context, err *error) bool {
	*err = l.forgetUnknownClient(ctx, *err)
	if l.clientWasForgotten(*err) {
		l.again = true
		return true
	}
	e, ok := errors.AsType[*asclient.SignInError](*err)
	ownPath := l.cfg.Callback.RedirectURI == "" && l.callbackPath() != callbackPath
	if !ok || !ownPath || !refusesRedirectURI(e) || e.Stage != asclient.StageRegister && l.again {
		return false
	}
	if other := l.pathTaken(l.server); other != "" {
		*err = issuerChanged(l.server, "the server takes no callback path but "+callbackPath+", which is that of "+other)
		return false
	}
	l.plainPath, l.again = true, e.Stage != asclient.StageRegister
	return true
}

// refusesRedirectURI reports whether e says that the server does not take our redirect URI.
func refusesRedirectURI(e *asclient.SignInError) bool {
	switch {
	case e.Stage == asclient.StageRegister:
		return e.Code == asclient.CodeRedirectURI
	case e.Stage != asclient.StageAuthorize || e.Code == asclient.CodeBadReply || e.Code == asclient.CodeIssuerMismatch:
		return false
	}
	return strings.Contains(strings.ToLower(e.Code+" "+e.Description), "redirect")
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

// awaitAnswer shows p until the callback arrives at cb, b has a token, or the timeout. It returns
// the parameters of the callback. They are nil if there is a token.
func (l *login) awaitAnswer(ctx context.Context, p Prompt, cb *callbackServer, b *beside) (q url.Values, k asclient.Token, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Callback.Timeout, ErrNotCompleted)
	defer cancel()
	defer l.show(ctx, p, cb)()
	for {
		select {
		case q = <-cb.got:
			return q, k, nil
		case k = <-b.token:
			return nil, k, nil
		case d := <-b.codes:
			if p.withCode(d) != p {
				p = p.withCode(d)
				l.amend(p)
			}
		case q := <-cb.strayErrors:
			if err := l.strayError(q); err != nil {
				return nil, k, err
			}
		case <-ctx.Done():
			return nil, k, &asclient.SignInError{Stage: asclient.StageAuthorize, Server: l.server.Name(), Err: context.Cause(ctx)}
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

// amend shows a p whose code is another one than before. It is the same login page.
func (l *login) amend(p Prompt) {
	l.lead.note(p)
	l.status.amend(p)
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
		app := asclient.Application{Name: l.cfg.Client.Name, Redirects: l.clients.redirectURIs(redirect), Scopes: scopes}
		app.Device = redirect != "" && l.takesCodeBeside() && !l.lead.distrustsDevice()
		r, err := l.as.Register(ctx, l.found, app)
		if err != nil {
			return err
		}
		if l.leftOut(r.Granted, redirect) {
			return &asclient.SignInError{Stage: asclient.StageRegister, Server: l.server.Name(), Code: asclient.CodeRedirectURI,
				Refused: true, Description: "the server registered another redirect URI than ours"}
		}
		c = client{Registration: r, Registered: true, isNew: true, PlainPath: l.usesPlainPath(redirect)}
	}
	var err error
	if c.ProofKey, err = asclient.ChooseProofKey(l.found, l.flight.need.challenge, l.proofKey(known)); err != nil {
		return err
	}
	l.client = c
	if c.PlainPath {
		l.bind(l.server)
	}
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

// proofKey returns the DPoP key of known, an earlier login, unless there is no reason to have one
// any more: the upstream was asked, and says nothing of DPoP.
func (l *login) proofKey(known client) *asclient.Key {
	n, of := l.flight.need, l.found.Resource
	if n.asked && !n.challenge.DPoP && !of.ProofRequired && len(of.ProofAlgs) == 0 {
		return nil
	}
	return known.ProofKey
}

// leftOut reports whether a server registered other redirect URIs than redirect, and none with its
// path. Then a redirect URI with callbackPath is tried, if that may be used.
func (l *login) leftOut(granted []string, redirect string) bool {
	u, err := url.Parse(redirect)
	if err != nil || len(granted) == 0 || !strings.HasPrefix(u.Path, callbackPath+"/") || l.pathTaken(l.server) != "" {
		return false
	}
	return !slices.ContainsFunc(granted, func(uri string) bool { return strings.HasSuffix(uri, u.Path) })
}

// usesPlainPath reports whether redirect has callbackPath where the server should have a path of
// its own.
func (l *login) usesPlainPath(redirect string) bool {
	u, err := url.Parse(redirect)
	return err == nil && l.cfg.Callback.RedirectURI == "" && u.Path == callbackPath && l.clients.callbackPathAt(l.server) != callbackPath
}

// forgetUnknownClient returns err. If err says that the server does not know a client that was
// registered there, the registration is forgotten, and the next login registers again.
func (l *login) forgetUnknownClient(ctx context.Context, err error) error {
	e, ok := errors.AsType[*asclient.SignInError](err)
	if ok && e.UnknownClient() && l.client.Registered {
		l.account.forgetClient(ctx, l.found, l.client)
		e.Refused = l.client.isNew // a server that forgets at once would be registered at in a loop
	}
	return err
}

// clientWasForgotten reports whether err says that the server does not know a client that an
// earlier login registered there. A client of this login is not registered again.
func (l *login) clientWasForgotten(err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	return ok && e.UnknownClient() && l.client.Registered && !l.client.isNew
}

// keep stores the token that the login brought and makes it current. a says what was asked for.
func (l *login) keep(ctx context.Context, k asclient.Token, a asclient.Authorization) error {
	l.cfg.Log.Info("signed in", "host", l.server.Host())
	return l.account.update(ctx, l.found, fromSignIn, func(r *record) {
		r.Token, r.Asked, r.Client, r.ProofKey = k, a.Scopes, client{}, l.client.ProofKey
		r.RefusedEarly, r.Undecided, r.Ended, r.RefreshedAt = false, 0, "", time.Time{}
		r.Remark = l.cfg.Remark
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
