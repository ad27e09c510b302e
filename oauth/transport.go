package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxReplays = 3                // of one request, over refresh, sign-in and step-up
	offerEvery = 30 * time.Second // at most one new login page in that time
	maxDrain   = 64 << 10         // bytes of a refused answer that are read to keep its connection
)

// Transport is the http.RoundTripper that adds the token. Its methods may be called
// concurrently; Close ends it.
type Transport struct {
	cfg  Config
	key  string
	wire *wire

	ctx    context.Context // the lifetime: of sign-ins, refreshes, listeners
	cancel context.CancelFunc
	wg     sync.WaitGroup

	now        func() time.Time // wall clock
	offerEvery time.Duration

	mu        sync.Mutex // of everything below; rec is written by the flight only
	rec       record
	proof     proof
	flight    *flight
	lastOffer time.Time
	prompt    Prompt
	lastErr   error
	changed   chan struct{}
	waiting   *callback // of the login that waits for the person; nil none
	passing   []string  // secrets of the login under way
}

// record is what the store keeps of one key.
type record struct {
	Upstream string    `json:"upstream"`
	Server   server    `json:"server,omitzero"`
	Resource string    `json:"resource,omitempty"` // as sent
	Client   client    `json:"client,omitzero"`    // dynamic registration at Server
	Token    token     `json:"token,omitzero"`
	Asked    []string  `json:"asked,omitempty"` // scopes that the token was asked for
	Seed     string    `json:"seed,omitempty"`  // hash of the one-shot inputs that were spent
	Saved    time.Time `json:"saved,omitzero"`
}

// proof says what is known of the current token.
type proof int

const (
	stored    proof = iota // from an earlier run or another process
	refreshed              // just refreshed, never accepted yet
	signedIn               // just signed in, never accepted yet
	accepted               // the upstream took it
)

// flight is the one sign-in, refresh or sign-out under way.
type flight struct {
	done chan struct{} // closed when err is set
	err  error
}

// job says what a flight is to bring about.
type job struct {
	stale    string   // the token that does not do; "" none
	full     bool     // a refresh will not do
	early    bool     // the stale token still works for a while
	scopes   []string // that the token must be asked for (step-up); nil any
	scope    string   // of the challenge
	metadata string   // resource_metadata of the challenge
}

// New checks cfg and returns a Transport that has not signed in yet.
func New(cfg Config) (*Transport, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &Transport{
		cfg:        cfg,
		key:        cfg.Key(),
		wire:       &wire{upstream: cfg.Upstream, base: cfg.Base, other: cfg.AuthBase, insecure: cfg.AllowInsecureHTTP},
		now:        func() time.Time { return time.Now().Round(0) },
		offerEvery: offerEvery,
		changed:    make(chan struct{}),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.reload()
	return t, nil
}

// RoundTrip adds the token for the upstream's origin only; joins a sign-in where one is
// needed and waits for it as long as the request's context. A request with a body needs
// GetBody to be sent again; one without it gets the 401 or 403 itself. Errors are those
// of the package comment, or of Base and AuthBase, unwrapped or found by errors.As.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !sameOrigin(req.URL, t.cfg.Upstream) {
		return t.cfg.AuthBase.RoundTrip(req)
	}
	if t.cfg.Grant == GrantNone {
		return t.cfg.Base.RoundTrip(req)
	}
	access, err := t.bearer(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	body := req.Body
	for try := 0; ; try++ {
		resp, err := t.cfg.Base.RoundTrip(attempt(req, body, access))
		if err != nil {
			return nil, err
		}
		j, err := t.remedy(resp, access)
		if err == nil && (j == nil || try == maxReplays || req.Body != nil && req.Body != http.NoBody && req.GetBody == nil) {
			return resp, nil
		}
		if resp.ContentLength >= 0 && resp.ContentLength <= maxDrain { // a stream may never end
			io.Copy(io.Discard, resp.Body)
		}
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if err := t.renew(req.Context(), *j); err != nil {
			return nil, err
		}
		t.mu.Lock()
		access = t.rec.Token.Access
		t.mu.Unlock()
		if req.GetBody != nil {
			if body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// attempt is a clone of req, as a RoundTripper must not change what it was given.
func attempt(req *http.Request, body io.ReadCloser, access string) *http.Request {
	r := req.Clone(req.Context())
	r.Body = body
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	return r
}

// bearer returns the token to send, renewed if it can be without the upstream's
// challenge; "" asks the upstream for its challenge.
func (t *Transport) bearer(ctx context.Context) (string, error) {
	t.mu.Lock()
	if t.rec.Token.Access == "" && t.flight == nil {
		t.reloadLocked() // a login of another process counts
	}
	k, now := t.rec.Token, t.now()
	able, busy := t.silentLocked(), t.flight != nil
	t.mu.Unlock()
	valid := k.Access != "" && !k.expired(now)
	switch {
	case valid && (!k.due(now, t.cfg.RefreshSkew) || busy || !able):
		return k.Access, nil // what is busy may be a login for more scope: not ours to wait for
	case !valid && !able && !busy:
		return "", nil
	}
	if err := t.renew(ctx, job{stale: k.Access, early: valid}); err != nil {
		if valid && ctx.Err() == nil {
			t.cfg.Log.Info("early refresh failed, the token is still valid", "err", err)
			return k.Access, nil
		}
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rec.Token.Access, nil
}

// silentLocked reports whether a token can be had without challenge and person.
func (t *Transport) silentLocked() bool {
	if t.cfg.Grant == GrantClientCredentials {
		return t.cfg.TokenURL != "" || t.rec.Token.Access != ""
	}
	return t.rec.Token.Refresh != "" || t.unspentLocked()
}

// unspentLocked reports one-shot inputs that were not used yet.
func (t *Transport) unspentLocked() bool {
	seed := t.cfg.seed()
	return seed != "" && t.rec.Seed != seed
}

// remedy says what could make the upstream accept the request; nil: resp is the answer.
func (t *Transport) remedy(resp *http.Response, access string) (*job, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	current := access == t.rec.Token.Access
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		if current && access != "" && resp.StatusCode < 500 {
			t.proof = accepted
		}
		return nil, nil
	}
	ch := bearerChallenge(resp.Header)
	j := &job{stale: access, scope: ch["scope"], metadata: ch["resource_metadata"]}
	if access != "" && ch["error"] == "insufficient_scope" {
		if current {
			t.proof = accepted // it is known, only not enough
		}
		wanted := strings.Fields(j.scope)
		person := t.cfg.Grant != GrantClientCredentials
		if len(wanted) == 0 || current && subset(wanted, t.rec.Asked) || person && t.cfg.NonInteractive {
			return nil, nil
		}
		j.full, j.scopes = true, union(t.rec.Asked, strings.Fields(t.rec.Token.Scope), wanted)
		return j, nil
	}
	if resp.StatusCode == http.StatusForbidden {
		return nil, nil
	}
	if access == "" || !current {
		return j, nil
	}
	switch t.proof {
	case refreshed:
		j.full = true
	case signedIn:
		e := &TokenRefusedError{Upstream: withoutQuery(t.cfg.Upstream)}
		e.Code = cut(mask(ch["error"], t.secretsLocked()))
		e.Description = cut(mask(ch["error_description"], t.secretsLocked()))
		return nil, e
	}
	return j, nil
}

// SignIn signs in now unless a valid token is there, and waits for it. An upstream
// that asks for no token and has no resource metadata needs none, unless the grant is
// configured.
func (t *Transport) SignIn(ctx context.Context) error {
	if t.cfg.Grant == GrantNone {
		return nil
	}
	if access, err := t.bearer(ctx); err != nil || access != "" {
		return err
	}
	j, err := t.probe(ctx)
	if err != nil {
		return err
	}
	if j == nil {
		var f finding
		if t.cfg.Grant == GrantAuto && !t.cfg.NoDiscovery {
			if err := t.findResource(ctx, "", &f); err != nil {
				return err
			}
			if f.resource.Resource == "" {
				return nil
			}
		}
		j = &job{}
	}
	return t.renew(ctx, *j)
}

// probe asks the upstream for its challenge: by GET, then by a ping, for some ask only
// then. nil: it asks for no token.
func (t *Transport) probe(ctx context.Context) (*job, error) {
	const ping = `{"jsonrpc":"2.0","id":"sallyport-probe","method":"ping"}`
	for _, body := range []string{"", ping} {
		ctx, cancel := context.WithTimeout(ctx, replyTimeout)
		defer cancel()
		req := &http.Request{Method: http.MethodGet, URL: t.cfg.Upstream, Host: t.cfg.Upstream.Host, Header: make(http.Header)}
		req.Header.Set("Accept", "application/json, text/event-stream")
		if body != "" {
			req.Method = http.MethodPost
			req.Header.Set("Content-Type", "application/json")
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		resp, err := t.cfg.Base.RoundTrip(req.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		resp.Body.Close() // a stream that opened is not ours to read
		if resp.StatusCode == http.StatusUnauthorized {
			return t.remedy(resp, "")
		}
	}
	return nil, nil
}

// renew brings about j, or joins the flight that may, and waits as long as ctx.
func (t *Transport) renew(ctx context.Context, j job) error {
	for {
		t.mu.Lock()
		if t.satisfiedLocked(j) {
			t.mu.Unlock()
			return nil
		}
		f, mine := t.flight, false
		if f == nil {
			f, mine = t.startLocked(func(ctx context.Context) error { return t.obtain(ctx, j) }, !j.early), true
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if mine || f.err != nil && f.err != errNoRefresh {
			return f.err
		}
	}
}

// satisfiedLocked reports whether the current token already is what j wants.
func (t *Transport) satisfiedLocked(j job) bool {
	k := t.rec.Token
	return k.Access != "" && k.Access != j.stale && !k.expired(t.now()) && subset(j.scopes, t.rec.Asked)
}

// startLocked runs do as the flight, under the Transport's lifetime.
func (t *Transport) startLocked(do func(context.Context) error, tell bool) *flight {
	f := &flight{done: make(chan struct{})}
	if t.ctx.Err() != nil {
		f.err = ErrClosed
		close(f.done)
		return f
	}
	t.flight = f
	// Ends with do, which ends with t.ctx.
	t.wg.Go(func() {
		err := do(t.ctx)
		if err != nil && t.ctx.Err() != nil {
			err = ErrClosed
		}
		t.mu.Lock()
		f.err, t.flight, t.passing = err, nil, nil
		if tell || err == nil {
			t.lastErr = err
		}
		t.notifyLocked()
		t.mu.Unlock()
		close(f.done)
	})
	return f
}

func (t *Transport) notifyLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

var errNoRefresh = errors.New("no refresh token")

// obtain is the flight of renew.
func (t *Transport) obtain(ctx context.Context, j job) error {
	if t.cfg.Grant == GrantClientCredentials {
		return t.clientCredentials(ctx, j)
	}
	if done, err := t.refresh(ctx, j); done || err != nil {
		return err
	}
	if j.early {
		return errNoRefresh // nobody is asked to log in while the token still works
	}
	done, given, err := t.spend(ctx, j)
	if done || err != nil {
		return err
	}
	if t.cfg.NonInteractive {
		return &LoginRequiredError{Upstream: withoutQuery(t.cfg.Upstream), Err: given}
	}
	return t.login(ctx, j)
}

// clientCredentials is RFC 6749 section 4.4. Its tokens are not stored: they can be had
// again at any time, and are of another kind than a person's.
func (t *Transport) clientCredentials(ctx context.Context, j job) error {
	f, err := t.discover(ctx, j.metadata, false)
	if err != nil {
		return err
	}
	c, _ := t.fixedClient(f.server)
	asked := t.scopes(f, j, false)
	form := url.Values{"grant_type": {"client_credentials"}}
	setIf(form, "scope", strings.Join(asked, " "))
	setIf(form, "resource", t.resourceOf(f))
	setIf(form, "audience", t.cfg.Audience)
	k, err := t.grant(ctx, StageToken, f.server, c, form)
	if err != nil {
		return err
	}
	t.take(record{Upstream: t.cfg.Upstream.String(), Server: f.server, Resource: t.resourceOf(f), Token: k, Asked: asked}, signedIn)
	return nil
}

// refresh adopts what another process stored meanwhile, or spends the refresh token.
// It does not do, without an error, if a sign-in is needed.
func (t *Transport) refresh(ctx context.Context, j job) (done bool, err error) {
	unlock, err := t.cfg.Store.lock(ctx, t.key)
	if err != nil {
		return false, err
	}
	defer unlock()
	t.mu.Lock()
	t.reloadLocked() // under the lock: the refresh token is the newest, and ours alone to spend
	done, rec := t.satisfiedLocked(j), t.rec
	t.mu.Unlock()
	if done || j.full || rec.Token.Refresh == "" {
		return done, nil
	}
	c, ok := t.fixedClient(rec.Server)
	if !ok {
		c = rec.Client
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {rec.Token.Refresh}}
	setIf(form, "resource", rec.Resource)
	k, err := t.grant(ctx, StageRefresh, rec.Server, c, form)
	if err == nil {
		rec.Token = inherit(k, rec.Token)
		t.save(rec)
		t.take(rec, refreshed)
		t.cfg.Log.Info("token refreshed", "host", hostOf(rec.Server.TokenEndpoint))
		return true, nil
	}
	se := (*SignInError)(nil)
	moved := func(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }
	if !errors.As(err, &se) || !se.Refused && !moved(se.Status) {
		return false, err
	}
	switch {
	case se.Code == "invalid_client" && c.Dynamic:
		rec.Client = client{} // forgotten by the server: register again
	case se.Code == "invalid_client":
		return false, err // the configured client is wrong, a login would end the same way
	}
	t.cfg.Log.Warn("refresh token is not accepted any more, a new sign-in is needed", "err", err)
	rec.Token.Refresh = ""
	if rec.Token.Access == j.stale && !j.early {
		rec.Token = token{}
	}
	t.save(rec)
	t.take(rec, stored)
	return false, nil
}

// inherit completes a refreshed token by what an answer may leave out (RFC 6749 section 6).
func inherit(k, old token) token {
	if k.Refresh == "" {
		k.Refresh = old.Refresh
	}
	if k.Scope == "" {
		k.Scope = old.Scope
	}
	return k
}

// scopes returns what to ask for: configured, else of the challenge, else all of the
// resource metadata; with what was asked before on a step-up.
func (t *Transport) scopes(f finding, j job, code bool) []string {
	list := strings.Fields(t.cfg.Scope)
	if len(list) == 0 {
		list = strings.Fields(j.scope)
	}
	if len(list) == 0 {
		list = f.resource.Scopes
	}
	list = union(j.scopes, list)
	// Without it many servers grant no refresh token; with it others refuse.
	if code && t.cfg.Scope == "" && slices.Contains(f.server.Scopes, "offline_access") {
		list = union(list, []string{"offline_access"})
	}
	return list
}

// resourceOf returns the resource parameter, "" to send none.
func (t *Transport) resourceOf(f finding) string {
	if t.cfg.Resource != "" {
		return t.cfg.Resource
	}
	return f.resource.Resource
}

func setIf(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

// subset reports whether all of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// union returns the distinct strings of lists in order.
func union(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		for _, s := range l {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// take makes rec the current record. Only the flight calls it.
func (t *Transport) take(rec record, p proof) {
	t.mu.Lock()
	t.rec, t.proof = rec, p
	t.mu.Unlock()
}

// save makes rec durable; the store's lock is held.
func (t *Transport) save(rec record) {
	rec.Saved = t.now()
	b, err := json.Marshal(rec)
	if err == nil {
		err = t.cfg.Store.Save(t.key, b)
	}
	if err != nil {
		t.cfg.Log.Warn("token could not be stored", "err", err)
	}
}

func (t *Transport) reload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reloadLocked()
}

// reloadLocked takes the stored record, unless the configuration has outdated it.
func (t *Transport) reloadLocked() {
	if t.cfg.Grant == GrantClientCredentials || t.cfg.Grant == GrantNone {
		return
	}
	b, err := t.cfg.Store.Load(t.key)
	if err != nil {
		t.cfg.Log.Warn("stored token is not used", "err", err)
	}
	var rec record
	if b == nil || json.Unmarshal(b, &rec) != nil || rec.Upstream != t.cfg.Upstream.String() {
		return
	}
	if t.cfg.TokenURL != "" && rec.Server.TokenEndpoint != t.cfg.TokenURL {
		return // another server
	}
	seed := t.cfg.seed()
	if seed != "" && rec.Seed != seed || t.cfg.Scope != "" && !subset(strings.Fields(t.cfg.Scope), rec.Asked) {
		rec.Token, rec.Asked = token{}, nil
	}
	if rec.Token.Access != t.rec.Token.Access {
		t.proof = stored
	}
	t.rec = rec
}

// SignOut revokes (RFC 7009) where the server can and forgets tokens and registration.
// They are forgotten even if the revocation fails, which the error then says.
func (t *Transport) SignOut(ctx context.Context) error {
	for {
		t.mu.Lock()
		f, mine := t.flight, false
		if f == nil {
			f, mine = t.startLocked(t.signOut, false), true
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if mine {
			return f.err
		}
	}
}

func (t *Transport) signOut(ctx context.Context) error {
	unlock, err := t.cfg.Store.lock(ctx, t.key)
	if err != nil {
		return err
	}
	defer unlock()
	t.mu.Lock()
	t.reloadLocked()
	rec := t.rec
	t.mu.Unlock()
	err = t.revoke(ctx, rec)
	t.take(record{}, stored)
	return errors.Join(err, t.cfg.Store.Forget(t.key))
}

// revoke is RFC 7009 section 2.1; revoking the refresh token ends its access tokens too.
func (t *Transport) revoke(ctx context.Context, rec record) error {
	value, hint := rec.Token.Refresh, "refresh_token"
	if value == "" {
		value, hint = rec.Token.Access, "access_token"
	}
	if value == "" || rec.Server.RevocationEndpoint == "" {
		return nil
	}
	c, ok := t.fixedClient(rec.Server)
	if !ok {
		c = rec.Client
	}
	form := url.Values{"token": {value}, "token_type_hint": {hint}}
	status, body, err := t.postForm(ctx, rec.Server.RevocationEndpoint, rec.Server, c, form)
	if err != nil {
		return &SignInError{Stage: StageRevoke, Server: rec.Server.name(), Err: err}
	}
	if status/100 != 2 {
		return replyError(StageRevoke, rec.Server.RevocationEndpoint, status, body, secretsOf(form, c))
	}
	return nil
}

// State returns the prompt that waits for the person (zero: none), the last sign-in's
// error, and a channel that is closed at the next change.
//
//lint:ignore ST1008 err is one of three facts, not the call's outcome
func (t *Transport) State() (p Prompt, err error, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.prompt, t.lastErr, t.changed
}

// Secrets returns all secrets in use now, for masking.
func (t *Transport) Secrets() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.secretsLocked()
}

func (t *Transport) secretsLocked() []string {
	list := []string{t.rec.Token.Access, t.rec.Token.Refresh, t.rec.Client.Secret, string(t.cfg.ClientSecret),
		string(t.cfg.AuthorizationCode), string(t.cfg.CodeVerifier), string(t.cfg.RefreshToken)}
	list = append(list, t.passing...)
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// Close ends sign-ins and the listener, and waits for them.
func (t *Transport) Close() error {
	t.mu.Lock() // so that no flight starts after the wait began
	t.cancel()
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}
