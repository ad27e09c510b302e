package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"sync"
	"time"
)

// With a pushed authorization request (RFC 9126) the browser carries only a reference to
// parameters that we handed to the server. It is done where the server demands it and
// nowhere else: the reference is good for a minute or so, and a link may be opened late.

const (
	pushLife      = time.Minute // of a reference, where the server names none
	maxRequestURI = 2 << 10     // bytes
)

// entrance is where the browser enters the login of one callback.
type entrance struct {
	push func(context.Context) (link string, expires time.Time, err error) // nil: the first link is good as long as the callback
	now  func() time.Time

	mu    sync.Mutex // guards what follows
	first string     // "": it was followed, which a pushed one may be once (RFC 9126 section 4)
	until time.Time
}

// link returns a link that is good now.
func (e *entrance) link(ctx context.Context) (string, error) {
	e.mu.Lock()
	link := e.first
	if e.push != nil {
		e.first = ""
		if !e.now().Before(e.until) {
			link = ""
		}
	}
	e.mu.Unlock()
	if link != "" {
		return link, nil
	}
	link, _, err := e.push(ctx)
	return link, err
}

// entranceFor returns the way to the login that the authorize URL direct asks for.
func (t *Transport) entranceFor(ctx context.Context, fl *flight, f finding, c client, direct string) (*entrance, error) {
	if !f.server.PushRequired {
		return &entrance{first: direct}, nil
	}
	if f.server.PushEndpoint == "" {
		return nil, &DiscoveryError{What: "pushed authorization request endpoint in the metadata of " + f.server.name(), Tried: f.tried}
	}
	e := &entrance{now: t.cfg.now}
	e.push = func(ctx context.Context) (string, time.Time, error) { return t.push(ctx, fl, f, c, direct) }
	var err error
	e.first, e.until, err = e.push(ctx)
	return e, err
}

// push hands the parameters of direct to the server and returns the link that refers to them.
func (t *Transport) push(ctx context.Context, fl *flight, f finding, c client, direct string) (link string, expires time.Time, err error) {
	s := f.server
	full, err := url.Parse(direct)
	if err != nil {
		return "", time.Time{}, errMalformed(s.AuthorizationEndpoint)
	}
	form, sent := full.Query(), t.cfg.now()
	a, err := t.postProven(ctx, s.PushEndpoint, s, c, form)
	if err != nil {
		return "", time.Time{}, &SignInError{Stage: StageAuthorize, Server: s.name(), Status: a.status, Err: err}
	}
	var r struct {
		URI  string          `json:"request_uri"`
		Life json.RawMessage `json:"expires_in"`
	}
	if a.status/100 != 2 || json.Unmarshal(a.body, &r) != nil || r.URI == "" || len(r.URI) > maxRequestURI {
		return "", time.Time{}, t.orForget(ctx, f, c, replyError(StageAuthorize, s.PushEndpoint, a.status, a.body, secretsOf(form, c)))
	}
	fl.addSecrets(r.URI)
	u, err := url.Parse(s.AuthorizationEndpoint)
	if err != nil {
		return "", time.Time{}, errMalformed(s.AuthorizationEndpoint)
	}
	q := u.Query() // the endpoint's own stays (RFC 6749 section 3.1)
	q.Set("client_id", c.ID)
	q.Set("request_uri", r.URI)
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u.String(), sent.Add(cmp.Or(lifetime(r.Life), pushLife)), nil
}
