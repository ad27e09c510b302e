package oauth

import (
	"context"
	"sync"
	"time"

	"sallyport/oauth/asclient"
)

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
