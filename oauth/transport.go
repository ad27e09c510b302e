package oauth

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"sallyport/oauth/asclient"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// maxReplays is how often one request is sent again, over refresh, sign-in and step-up.
	maxReplays = 3
	// maxDetached is how many bytes of a refused answer are read to free its connection.
	maxDetached = 64 << 10
)

// caller says who sent a request, and so what may be done for it.
type caller int

const (
	// foreground: somebody waits for the answer, and a person may be asked.
	foreground caller = iota
	// inBackground: nobody waits, and no person may be asked.
	inBackground
	// inSession: somebody waits, but a refusal may be about the session and not about the token.
	inSession
	// person: the person asked for the sign-in itself.
	person
)

// Transport is the http.RoundTripper that adds the token. Its methods may be called concurrently;
// Close ends it.
type Transport struct {
	cfg     Config
	life    *lifespan
	status  *status
	as      *asclient.Client
	clients clients
	account *accountRecord
	flights *flights
	peers   *peers
	// provider is the person's account at the identity provider of GrantEnterpriseManaged. It is
	// nil for every other grant.
	provider *provider
	// oauthKnown remembers whether the upstream has resource metadata.
	oauthKnown metadataMemory
	// questions asks the upstream about tokens.
	questions *questions
	// callback is the callback server of the last login. It is nil before the first login, and if
	// the last login has no callback. Deliver learns the outcome from it even after the login.
	callback atomic.Pointer[callbackServer]
}

// New checks cfg and returns a Transport. It signs in to nothing, and waits for no keyring. The
// caller must call Close.
func New(cfg Config) (*Transport, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, life: newLifespan(), questions: newQuestions()}
	t.status = newStatus(&t.cfg, t.life)
	t.flights = &flights{life: t.life, status: t.status}
	var err error
	if err = t.openAccount(); err != nil {
		return nil, err
	}
	if cfg.Grant == GrantEnterpriseManaged {
		t.provider, err = newProvider(t)
	}
	return t, err
}

// openAccount makes the parts that belong to the account of t.cfg.
func (t *Transport) openAccount() (err error) {
	t.as = t.cfg.requests()
	t.account = &accountRecord{cfg: &t.cfg, key: t.cfg.Key(), notes: notes{&t.cfg, t.cfg.Key()}}
	t.peers = &peers{cfg: &t.cfg, account: t.account, status: t.status}
	if t.clients, err = newClients(&t.cfg); err != nil {
		return err
	}
	if !t.cfg.Store.Pending(t.account.key) {
		t.account.reload() // otherwise the first request does, once the keyring has answered
	}
	return nil
}

// RoundTrip adds the token to requests to the upstream's origin, and to no other. A request that
// needs a sign-in joins the one under way, or starts one, and waits until its own context ends. A
// request with a body needs GetBody to be sent again; without it, the caller gets the 401 or 403.
// The errors are those of the package comment, and those of Base and AuthBase, which errors.As
// finds.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.roundTrip(req, foreground)
}

// Background returns a RoundTripper for requests that nobody waits for, such as an idle stream. It
// adds the token and refreshes it. It never starts a login and never waits for one: where only a
// login could help, the caller gets the upstream's 401 or 403. Its errors are those of Base. It may
// be called concurrently and ends with t.
func (t *Transport) Background() http.RoundTripper { return callerTripper{t, inBackground} }

// InSession returns a RoundTripper for requests within a session that the upstream may have lost.
// It works as t, with one difference: where a request had a token, is answered 401, and only a
// login could help, its caller gets the 401 unless the upstream refuses the token outside the
// session, too. Some upstreams answer 401 for a session that they do not know. The caller starts a
// new session by t, which judges the token. It may be called concurrently and ends with t.
func (t *Transport) InSession() http.RoundTripper { return callerTripper{t, inSession} }

// callerTripper is a Transport for requests of one kind.
type callerTripper struct {
	t  *Transport
	by caller
}

func (r callerTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	return r.t.roundTrip(req, r.by)
}

// State returns where the sign-in stands, and a channel that is closed at the next change.
func (t *Transport) State() (State, <-chan struct{}) { return t.status.get() }

// PersistError says why the tokens in use are not on the disk, and so are lost when this process
// ends. It is nil if they are on the disk, if there are none, or if the Config asks for memory
// only.
func (t *Transport) PersistError() error {
	if t.provider != nil {
		return t.provider.account.persistError()
	}
	return t.account.persistError()
}

// Secrets returns all secrets in use now, so that the caller can mask them.
func (t *Transport) Secrets() []string {
	list := append(t.account.secrets(), string(t.cfg.Client.Secret), string(t.cfg.Client.Key),
		string(t.cfg.Given.AuthorizationCode), string(t.cfg.Given.CodeVerifier), string(t.cfg.Given.RefreshToken))
	list = append(list, t.flights.secrets()...)
	if t.provider != nil {
		list = append(list, string(t.provider.cfg.Client.Secret))
		list = append(list, t.provider.account.secrets()...)
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// Close ends a sign-in under way and its listener, and waits for them. Requests that wait for the
// sign-in fail with ErrClosed. It returns nil.
func (t *Transport) Close() error {
	t.life.end()
	return nil
}

func (t *Transport) roundTrip(req *http.Request, by caller) (*http.Response, error) {
	if !asclient.SameOrigin(req.URL, t.cfg.Upstream) {
		return t.cfg.AuthBase.RoundTrip(req)
	}
	if t.cfg.Grant == GrantNone {
		return t.cfg.Base.RoundTrip(req)
	}
	access, err := t.bearer(req.Context(), by)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	x := &exchange{Transport: t, req: req, by: by, person: t.cfg.AtTerminal && by == foreground}
	return x.run(access)
}

// send sends req with the token, and with a proof if the token is bound to a key (RFC 9449 section
// 7). If the upstream only asks for another nonce, it sends the request again, unless its body
// cannot be sent again. The caller does not learn of that.
func (t *Transport) send(req *http.Request, body io.ReadCloser, access string) (*http.Response, error) {
	rec, _ := t.account.current()
	key, bound := rec.ProofKey, rec.Token.Type == asclient.TypeDPoP
	if access == "" || !bound || key == nil {
		return t.cfg.Base.RoundTrip(withToken(req, body, access))
	}
	for try := 0; ; try++ {
		r := withToken(req, body, access)
		proof, err := t.as.Proof(key, r.Method, r.URL, access)
		if err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
		r.Header.Set("Authorization", asclient.TypeDPoP+" "+access)
		r.Header.Set("DPoP", proof)
		resp, err := t.cfg.Base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		again := t.as.KeepNonce(r.URL, resp.Header) && asclient.WantsNonce(resp)
		if !again || try == asclient.MaxNonceReplays || !repeatable(req) {
			return resp, nil
		}
		detach(resp)
		resp.Body.Close()
		if req.GetBody != nil {
			if body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// repeatable reports whether req can be sent again.
func repeatable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// detach reads a short answer off its connection, so that other requests can use the connection.
func detach(resp *http.Response) {
	if resp.ContentLength < 0 || resp.ContentLength > maxDetached { // a stream may never end
		return
	}
	b, _ := io.ReadAll(resp.Body) // whoever reads past b meets the error again
	resp.Body = readAgain(b, resp.Body)
}

// readAgain returns a body that begins with b, which was read off rest.
func readAgain(b []byte, rest io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(b), rest), rest}
}

// withToken returns a copy of req with a header and a body of its own: a RoundTripper must not
// change the request that it was given. An empty access adds no token.
func withToken(req *http.Request, body io.ReadCloser, access string) *http.Request {
	r := *req
	r.Body = body
	r.Header = make(http.Header, len(req.Header)+2)
	maps.Copy(r.Header, req.Header)
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	return &r
}

// bearer returns the access token to send. It renews a token that is missing or due, if that takes
// no challenge. An empty result means: send the request without a token, and the upstream's
// challenge tells what to do. For a request in the background, failures end that way too.
func (t *Transport) bearer(ctx context.Context, by caller) (string, error) {
	if err := t.cfg.Store.Await(ctx, t.account.key); err != nil {
		return "", err
	}
	busy := t.flights.idle(func() {
		if rec, _ := t.account.current(); rec.Token.Access == "" {
			t.account.reload() // another process may have signed in
		}
	})
	rec, _ := t.account.current()
	k, now := rec.Token, t.cfg.now()
	renewable := t.account.renewable()
	valid := k.Access != "" && !k.Expired(now)
	switch {
	case valid && (!k.Due(now, t.cfg.RefreshSkew) || busy || !renewable || t.account.doubts.earlyPaused(now)):
		// A flight under way may be a login for more scope, which is not ours to wait for.
		return k.Access, nil
	case !valid && !renewable && !busy:
		return "", nil
	}
	n := need{instead: k.Access, ahead: valid, background: by == inBackground, byPerson: by == person}
	if err := t.renew(ctx, n); err != nil {
		if valid && ctx.Err() == nil {
			t.cfg.Log.Info("early refresh failed, the token is still valid", "err", err)
			return k.Access, nil
		}
		if by == inBackground {
			return "", context.Cause(ctx)
		}
		return "", err
	}
	rec, _ = t.account.current()
	return rec.Token.Access, nil
}

func wallClock() time.Time { return time.Now().Round(0) }
