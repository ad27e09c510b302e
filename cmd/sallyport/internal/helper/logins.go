package helper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	// lookInterval is how often a login looks for new helpers.
	lookInterval = 500 * time.Millisecond
	// holdTimeout bounds how long a login waits for the answers of the helpers before it begins.
	holdTimeout = 3 * time.Second
	// holdElsewhereTimeout is holdTimeout if a helper is dialed by SSH.
	holdElsewhereTimeout = 6 * time.Second
	// retryInterval is how long a helper that could not hold a login is left alone.
	retryInterval = 5 * time.Second
	// outcomeTimeout bounds how long a login that has ended looks for the helper that waits for its
	// outcome.
	outcomeTimeout = time.Minute
	// goodbyeTimeout bounds how long Logins.Close waits for the helpers to be told.
	goodbyeTimeout = 2 * time.Second
)

// LoginsConfig describes Logins.
type LoginsConfig struct {
	// Dirs are those of helper sockets.
	Dirs []string
	// Upstream is the URL of the upstream without its query.
	Upstream string
	// Deliver hands a callback to the sign-in, and waits for the outcome.
	Deliver func(ctx context.Context, callback *url.URL) error
	// Belongs reports whether an error of Deliver is the outcome of the login. It is false if the
	// callback was none of the login's.
	Belongs func(error) bool
	// Explain words an outcome for people.
	Explain func(error) string
	// Token names the token that is stored, in any way that changes with a sign-in. It is empty
	// without a token. If it is nil, a login that was finished without a helper looks like one that
	// was given up.
	Token func() string
	// Dial makes connections for the browser of a helper, to login servers that only this machine
	// reaches, as long as the login page is shown. It decides which hosts it connects to. If it is
	// nil, none is made.
	Dial DialFunc
	// Others are helpers that have no socket on this machine. The map is by name.
	Others map[string]func(context.Context) (net.Conn, error)
	// Log must not be nil. It gets no secret.
	Log *slog.Logger
}

// Logins shows the logins of one upstream to all helpers that are there, and takes their callbacks.
// One login is under way at a time. The methods may be called concurrently. The caller must Close
// it.
type Logins struct {
	cfg     LoginsConfig
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// current is the login under way, or the last one. It is nil before the first.
	current *login
	// closed says that no login may begin any more.
	closed bool
}

// NewLogins returns Logins. It connects to nobody yet.
func NewLogins(cfg LoginsConfig) *Logins {
	l := &Logins{cfg: cfg}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// token is Token of the configuration.
func (l *Logins) token() string {
	if l.cfg.Token == nil {
		return ""
	}
	return l.cfg.Token()
}

// Want says which port a login would like.
type Want struct {
	// Addr is host:port of the redirect URI. Port 0 is any.
	Addr string
	// Fixed says that it can be no other, but for those of More.
	Fixed bool
	// More are the addresses that the login tries next, in order, if the port is taken.
	More []string
	// Listen listens on this machine, or on another one without a helper. Listen of Logins calls it
	// if no helper holds the port, and when the last one has gone. It may listen on one of more
	// instead.
	Listen func(ctx context.Context, addr string, more []string) (net.Listener, error)
}

// Listen begins a login. If helpers are there, they hold the port, and the listener binds none
// here: its Accept returns connections that this process makes to itself. Otherwise the listener is
// that of Want.Listen. In both cases the login ends when the listener is closed, and helpers that
// come later are shown it. The error is that of Want.Listen.
func (l *Logins) Listen(ctx context.Context, w Want) (net.Listener, error) {
	g, err := newLogin(l, w)
	if err != nil {
		return nil, err
	}
	g.before = l.token()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, net.ErrClosed
	}
	before := l.current
	l.current = g
	l.running.Go(g.watch) // ends with the login
	l.mu.Unlock()
	if before != nil {
		before.end() // it has ended, and must not linger for the outcome
		before.cancel()
	}
	if !g.awaitHeld(ctx) {
		if err := g.bind(ctx); err != nil {
			g.end()
			return nil, err
		}
	}
	return g.listener, nil
}

// Prompt is what a helper shows.
type Prompt struct {
	// AuthorizeURL is the link to the login page. LinkExpires is when it ends, if it ends before
	// the login.
	AuthorizeURL string
	LinkExpires  time.Time
	// StartURL is our own page that leads to the login page, or to a new one. It may be empty.
	StartURL string
	// State is the state parameter of the callback.
	State string
	// RedirectURI is where the browser comes back to.
	RedirectURI string
	// Issuer is the authorization server. It may be empty.
	Issuer string
	// Expires is when the login ends without an answer.
	Expires time.Time
}

// Offer shows a prompt to the helpers of the login under way, and to those that come, until ctx
// ends. It calls report when something changes that the person should know.
func (l *Logins) Offer(ctx context.Context, p Prompt, report func(Shown)) {
	l.mu.Lock()
	g := l.current
	l.mu.Unlock()
	if g == nil {
		report(Shown{})
		return
	}
	g.offer(&p)
	defer g.withdraw(&p)
	var last Shown
	for first := true; ; first = false {
		shown, changed := g.shown()
		if first || !shown.equal(last) {
			last = shown
			report(shown)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// ListenHere binds the port of the login under way on this machine, too, for a person whose browser
// is here. A port that somebody else has, as a helper of this machine, is left to that one.
func (l *Logins) ListenHere(ctx context.Context) {
	l.mu.Lock()
	g := l.current
	l.mu.Unlock()
	if g == nil || g.listener.isBound() {
		return
	}
	if err := g.bind(ctx); err != nil {
		l.cfg.Log.Debug("the browser of this machine cannot bring the callback", "err", err)
	}
}

// Feed adds the connections of another listener to the login under way, which closes it. It closes
// the listener at once if there is none.
func (l *Logins) Feed(from net.Listener) {
	l.mu.Lock()
	g := l.current
	l.mu.Unlock()
	if g == nil {
		from.Close()
		return
	}
	g.listener.feed(from)
}

// Shown returns what the helpers show of the login under way, and a channel that is closed at the
// next change. The channel never delivers if there is no login. A nil Logins shows nothing.
func (l *Logins) Shown() (Shown, <-chan struct{}) {
	if l == nil {
		return Shown{}, nil
	}
	l.mu.Lock()
	g := l.current
	l.mu.Unlock()
	if g == nil {
		return Shown{}, nil
	}
	return g.shown()
}

// Close ends the login under way, tells the helpers, and waits until nothing runs any more.
func (l *Logins) Close() error {
	l.mu.Lock()
	l.closed = true
	g := l.current
	l.mu.Unlock()
	if g != nil {
		g.end()
	}
	timer := time.AfterFunc(goodbyeTimeout, l.cancel)
	defer timer.Stop()
	if g != nil {
		g.hurry()
	}
	l.running.Wait()
	l.cancel()
	return nil
}

// Shown says what the helpers show of a login.
type Shown struct {
	// Holding is how many helpers hold the port.
	Holding int
	// Here says that the port is bound on this machine, too.
	Here bool
	// Hosts are the names of this machine that the persons at the helpers typed. They may be a
	// peer's words.
	Hosts []string
	// How is the furthest that a helper has come: one of the How constants, or empty.
	How string
	// Trouble says why a helper does not show the login. It may be a peer's words. It is empty if
	// none has said so.
	Trouble string
	// Refused says that the person refused the login at a helper.
	Refused bool
	// OpenSocket is a socket of a helper that is not used, because others may connect to it. It is
	// empty if there is none.
	OpenSocket string
}

// equal reports whether both say the same.
func (s Shown) equal(o Shown) bool {
	return s.Holding == o.Holding && s.Here == o.Here && slices.Equal(s.Hosts, o.Hosts) && s.How == o.How && s.Trouble == o.Trouble && s.Refused == o.Refused &&
		s.OpenSocket == o.OpenSocket
}

// errPortBusy says that no helper can hold the port.
var errPortBusy = errors.New("the port is taken on the workstation")
