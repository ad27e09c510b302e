package oauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/oauth/asclient"
)

const (
	maxReplays = 3                // of one request, over refresh, sign-in and step-up
	offerEvery = 30 * time.Second // at most one new login page in that time, of all processes
	maxDrain   = 64 << 10         // bytes of a refused answer that are read to free its connection
)

// Transport is the http.RoundTripper that adds the token. Its methods may be called
// concurrently; Close ends it.
type Transport struct {
	cfg Config
	key string
	as  *asclient.Client

	clientKey *asclient.Key // nil: no private_key_jwt

	ctx    context.Context // the lifetime: of sign-ins, refreshes, listeners
	cancel context.CancelFunc
	wg     sync.WaitGroup

	now        func() time.Time // wall clock
	offerEvery time.Duration

	mu       sync.Mutex // of everything below; rec is written by the flight only
	rec      record
	proof    proof
	flight   *flight
	leading  notice    // of the login under way
	unbraked bool      // it takes over from a process that ended
	braked   time.Time // it shows its page then; zero: it does not wait for that
	prompt   Prompt
	lastErr  error
	loadErr  string // the last that was warned about
	changed  chan struct{}
	waiting  *callback // of the login that waits for the person; nil none
	passing  []string  // secrets of the login under way
}

// proof says what is known of the current token.
type proof int

const (
	stored    proof = iota // from an earlier run or another process
	refreshed              // just refreshed, never accepted yet
	signedIn               // just signed in, never accepted yet
	accepted               // the upstream took it
)

// New checks cfg and returns a Transport that has not signed in yet.
func New(cfg Config) (*Transport, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &Transport{
		cfg:        cfg,
		key:        cfg.Key(),
		as:         cfg.client(),
		now:        func() time.Time { return time.Now().Round(0) },
		offerEvery: offerEvery,
		changed:    make(chan struct{}),
	}
	t.as.Now = func() time.Time { return t.now() }
	if cfg.ClientKey != "" {
		var err error
		if t.clientKey, err = asclient.ParseKey(string(cfg.ClientKey), cfg.ClientKeyAlg); err != nil {
			return nil, err
		}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if !t.cfg.Store.Pending(t.key) {
		t.reload() // else bearer does: New waits for no keyring
	}
	return t, nil
}

// RoundTrip adds the token for the upstream's origin only; joins a sign-in where one is
// needed and waits for it as long as the request's context. A request with a body needs
// GetBody to be sent again; one without it gets the 401 or 403 itself. Errors are those
// of the package comment, or of Base and AuthBase, unwrapped or found by errors.As.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.roundTrip(req, false)
}

// Background returns a RoundTripper for requests that nobody waits for, as that of an idle
// stream. It adds the token and refreshes it, but never starts a login nor waits for
// one under way: an upstream that cannot be satisfied so has its 401 or 403 returned.
// Its errors are those of Base. It may be called concurrently and ends with t.
func (t *Transport) Background() http.RoundTripper { return background{t} }

type background struct{ t *Transport }

func (q background) RoundTrip(req *http.Request) (*http.Response, error) {
	return q.t.roundTrip(req, true)
}

func (t *Transport) roundTrip(req *http.Request, background bool) (*http.Response, error) {
	if !asclient.SameOrigin(req.URL, t.cfg.Upstream) {
		return t.cfg.AuthBase.RoundTrip(req)
	}
	if t.cfg.Grant == GrantNone {
		return t.cfg.Base.RoundTrip(req)
	}
	access, err := t.bearer(req.Context(), background)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	body := req.Body
	for try := 0; ; try++ {
		resp, err := t.send(req, body, access)
		if err != nil {
			return nil, err
		}
		j, err := t.remedy(resp, access)
		if err == nil && (j == nil || try == maxReplays || req.Body != nil && req.Body != http.NoBody && req.GetBody == nil) {
			return resp, nil
		}
		shelve(resp)
		if err == nil {
			j.background = background
			if !background && j.scopes == nil {
				resp.Body.Close() // a login may take minutes
			}
			err = t.renew(req.Context(), *j)
		}
		if err != nil && background && req.Context().Err() == nil {
			t.cfg.Log.Debug("request is refused and nobody is asked", "status", resp.StatusCode, "err", err)
			return resp, nil
		}
		if se := (*asclient.SignInError)(nil); j != nil && j.scopes != nil && errors.As(err, &se) && se.Refused {
			t.cfg.Log.Warn("more scope was not granted", "err", err)
			return resp, nil // the token is good for everything else
		}
		resp.Body.Close()
		if err != nil {
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

// shelve takes a short answer off its connection, which others can use meanwhile.
func shelve(resp *http.Response) {
	if resp.ContentLength < 0 || resp.ContentLength > maxDrain { // a stream may never end
		return
	}
	b, _ := io.ReadAll(resp.Body) // an error comes again after b
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(b), resp.Body), resp.Body}
}

// attempt is req with a header and a body of its own, as a RoundTripper must not change what it was given.
func attempt(req *http.Request, body io.ReadCloser, access string) *http.Request {
	r := *req
	r.Body = body
	r.Header = make(http.Header, len(req.Header)+2)
	maps.Copy(r.Header, req.Header)
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	return &r
}

// bearer returns the token to send, renewed if it can be without the upstream's
// challenge; "" asks the upstream for its challenge. background: nobody is asked, and what
// fails is left to that challenge.
func (t *Transport) bearer(ctx context.Context, background bool) (string, error) {
	if err := t.cfg.Store.Await(ctx, t.key); err != nil {
		return "", err
	}
	t.mu.Lock()
	if t.rec.Token.Access == "" && t.flight == nil {
		t.reloadLocked() // a login of another process counts
	}
	k, now := t.rec.Token, t.now()
	able, busy := t.silentLocked(), t.flight != nil
	t.mu.Unlock()
	valid := k.Access != "" && !k.Expired(now)
	switch {
	case valid && (!k.Due(now, t.cfg.RefreshSkew) || busy || !able):
		return k.Access, nil // what is busy may be a login for more scope: not ours to wait for
	case !valid && !able && !busy:
		return "", nil
	}
	if err := t.renew(ctx, job{stale: k.Access, early: valid, background: background}); err != nil {
		if valid && ctx.Err() == nil {
			t.cfg.Log.Info("early refresh failed, the token is still valid", "err", err)
			return k.Access, nil
		}
		if background {
			return "", context.Cause(ctx)
		}
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rec.Token.Access, nil
}

// silentLocked reports whether a token can be had without challenge and person.
func (t *Transport) silentLocked() bool {
	if t.cfg.unattended() {
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
			t.acceptedLocked()
		}
		return nil, nil
	}
	ch := asclient.ReadChallenge(resp.Header)
	j := &job{stale: access}
	j.heed(ch)
	if access != "" && ch.Error == "insufficient_scope" {
		if current {
			t.acceptedLocked() // it is known, only not enough
		}
		wanted := strings.Fields(j.scope)
		person := !t.cfg.unattended()
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
		e := &TokenRefusedError{Upstream: asclient.WithoutQuery(t.cfg.Upstream)}
		e.Code = asclient.PeerText(ch.Error, t.secretsLocked())
		e.Description = asclient.PeerText(ch.Description, t.secretsLocked())
		return nil, e
	}
	return j, nil
}

// State returns where the sign-in stands, and a channel that is closed at the next change.
func (t *Transport) State() (State, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return State{Prompt: t.prompt, Busy: t.busyLocked(), NextPage: t.braked, Err: t.lastErr}, t.changed
}

// busyLocked reports whether a login of the person is under way.
func (t *Transport) busyLocked() bool {
	if t.flight == nil {
		return false
	}
	select {
	case <-t.flight.person:
		return true
	default:
		return false
	}
}

// Secrets returns all secrets in use now, for masking.
func (t *Transport) Secrets() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.secretsLocked()
}

func (t *Transport) secretsLocked() []string {
	list := []string{t.rec.Token.Access, t.rec.Token.Refresh, t.rec.Client.Secret, string(t.cfg.ClientSecret), string(t.cfg.ClientKey),
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
