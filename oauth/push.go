package oauth

import (
	"context"
	"sync"
	"time"

	"sallyport/oauth/asclient"
)

// With a pushed authorization request (RFC 9126) the browser carries only a reference to
// parameters that we handed to the server. It is done where the server demands it and
// nowhere else: the reference is good for a minute or so, and a link may be opened late.

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
func (t *Transport) entranceFor(ctx context.Context, f asclient.Finding, c client, direct string) (*entrance, error) {
	if !f.Server.PushRequired {
		return &entrance{first: direct}, nil
	}
	if f.Server.PushEndpoint == "" {
		return nil, f.Missing("pushed authorization request endpoint")
	}
	e := &entrance{now: t.now}
	e.push = func(ctx context.Context) (string, time.Time, error) {
		p, err := t.as.Push(ctx, f.Server, c.Credentials, direct)
		t.inUse(p.RequestURI)
		return p.URL, p.Expires, t.orForget(ctx, f, c, err)
	}
	var err error
	e.first, e.until, err = e.push(ctx)
	return e, err
}
