package oauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/user"
	"runtime"
	"sync/atomic"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/loopback"
	"sallyport/oauth/procnet"
)

const (
	// callbackPath is the path of the redirect URI, or its beginning: see clients.callbackPathAt.
	callbackPath = "/callback"
	// startPath is the beginning of the paths that lead to the login page. A nonce follows.
	startPath = "/start/"
	// lastPageTime is how long the browser has to fetch our last page after the login.
	lastPageTime = 2 * time.Second
	// callbackHeaderBytes and callbackHeaderTime limit the header of one request of the browser.
	callbackHeaderBytes = 16 << 10
	callbackHeaderTime  = 10 * time.Second
)

// callbackServer serves the redirect URI of one login. It receives the callback, which is the
// request that the browser makes to the redirect URI (RFC 6749 section 4.1.2), and answers it with
// a page. A request that does not belong to the login gets an answer and changes nothing. A login
// that starts again has another callbackServer at the same port.
type callbackServer struct {
	cfg *Config
	at  *callbackPort
	// uri is the redirect_uri as the authorization server knows it, and redirect the same,
	// parsed.
	uri      string
	redirect *url.URL
	// state is the state parameter of the login.
	state string
	// sendsIss says that each callback of the server has an iss (RFC 9207). It is set before the
	// login is shown.
	sendsIss bool

	// visitPath leads to the login page once.
	visitPath string
	visited   atomic.Bool
	// target is where visitPath and the startPath of the port lead. It is nil until that is known.
	target atomic.Pointer[loginURL]

	// got receives the parameters of the first callback that belongs to the login.
	got chan url.Values
	// strayErrors receives the parameters of an error without a state: see strayError.
	strayErrors chan url.Values

	// finished is closed once err, the outcome of the login, is set.
	finished chan struct{}
	err      error
}

// callbackPort is the port that one login holds from listenForCallback to close.
type callbackPort struct {
	cfg      *Config
	server   *http.Server
	listener net.Listener
	// addr is the callback address that was bound. port is the port of the listener, which differs
	// from that of the redirect URI behind a proxy.
	addr, port string
	// startPath leads to the login page as long as the login lasts.
	startPath string
	// current gets the requests.
	current atomic.Pointer[callbackServer]
}

// listenForCallback binds the first callback address that is free, and serves there until close.
// The redirect URI has the given path, unless the Config has a redirect URI.
func listenForCallback(ctx context.Context, cfg *Config, life *lifespan, path string) (*callbackServer, error) {
	ln, addr, err := bindCallback(ctx, cfg)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	if _, bound, err := net.SplitHostPort(ln.Addr().String()); err == nil && (port == "0" || holdsElsewhere(ln)) {
		port = bound
	}
	at := &callbackPort{cfg: cfg, addr: addr, port: port, startPath: startPath + rand.Text()}
	serve := func(w http.ResponseWriter, r *http.Request) { at.current.Load().ServeHTTP(w, r) }
	at.server = &http.Server{Handler: http.HandlerFunc(serve), ErrorLog: discardLog, ConnContext: loopback.WithConn,
		ReadHeaderTimeout: callbackHeaderTime, IdleTimeout: callbackHeaderTime, MaxHeaderBytes: callbackHeaderBytes}
	at.server.SetKeepAlivesEnabled(false) // a browser comes once or twice
	cb, err := at.expect(path)
	if err != nil {
		ln.Close()
		return nil, err
	}
	at.listener = loopback.NewListener(ln)
	life.startWithin(func() { at.server.Serve(at.listener) }) // ends with free
	return cb, nil
}

// expect returns a callbackServer for a new state, which gets the requests from now on. A request
// that the callbackServer before it is answering stays with that one.
func (at *callbackPort) expect(path string) (*callbackServer, error) {
	uri := at.cfg.Callback.RedirectURI
	if uri == "" {
		uri = loopbackURL(at.addr, at.port, path)
	}
	redirect, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("callback address %s: %w", asclient.Quote(at.addr), err)
	}
	cb := &callbackServer{cfg: at.cfg, at: at, uri: uri, redirect: redirect, state: rand.Text(), visitPath: startPath + rand.Text(),
		got: make(chan url.Values, 1), strayErrors: make(chan url.Values, 1), finished: make(chan struct{})}
	at.current.Store(cb)
	return cb, nil
}

// ListenForCallback binds the callback address that a login with cfg would have, and returns which
// one of the configured it is. The error is that of a login: a *PortBusyError if another process
// has the port. The caller must close the listener.
func ListenForCallback(ctx context.Context, cfg Config) (net.Listener, string, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, "", err
	}
	return bindCallback(ctx, &cfg)
}

// holdsElsewhere reports whether the port of a listener is held by another machine, which may have
// chosen another one than we asked for.
func holdsElsewhere(ln net.Listener) bool {
	l, ok := ln.(interface{ HoldsElsewhere() bool })
	return ok && l.HoldsElsewhere()
}

// bindCallback listens on the first of the configured addresses that is free, and returns which one
// it is. If none is free, the error is that of the first address.
func bindCallback(ctx context.Context, cfg *Config) (net.Listener, string, error) {
	addrs := cfg.Callback.Addrs
	given, _ := url.Parse(cfg.Callback.RedirectURI)
	if cfg.Callback.RedirectURI != "" && asclient.IsLoopback(given.Hostname()) && given.Port() != "" {
		addrs = []string{net.JoinHostPort(given.Hostname(), given.Port())}
	}
	var first error
	for i, addr := range addrs {
		ln, err := cfg.Callback.Listen(ctx, addr)
		if err == nil {
			return ln, addr, nil
		}
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		err = listenError(addr, err)
		first = cmp.Or(first, err)
		if i+1 < len(addrs) {
			cfg.Log.Info("the next callback address is tried", "err", err)
		}
	}
	return nil, "", first
}

func listenError(addr string, err error) error {
	if !isAddrInUse(err) {
		return fmt.Errorf("listen for the callback on %s: %w", addr, err)
	}
	e := &PortBusyError{Addr: addr, Err: err}
	_, port, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return e
	}
	e.PID, e.Command = procnet.Holder(port)
	if e.PID != 0 {
		return e
	}
	uid := procnet.HolderUser(port)
	e.Outgoing = uid == "" && runtime.GOOS == "linux"
	if u, err := user.LookupId(uid); err == nil {
		e.User = u.Username
	}
	return e
}

// loopbackURL returns the URL at which a browser finds path on the bound address addr. A browser
// cannot go to "any address", so that becomes a loopback address.
func loopbackURL(addr, port, path string) string {
	host, _, _ := net.SplitHostPort(addr)
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "127.0.0.1"
		if a.Is6() {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port) + path
}

// startURL is the URL of our page that leads to the login page and holds no secret. It works as
// long as the login lasts. It is empty if the redirect URI is not on loopback: then the person's
// browser may be on a machine that cannot reach the listener.
func (cb *callbackServer) startURL() string {
	if !asclient.IsLoopback(cb.redirect.Hostname()) {
		return ""
	}
	return loopbackURL(cb.at.addr, cb.at.port, cb.at.startPath)
}

// visitURL is like startURL, but works once.
func (cb *callbackServer) visitURL() string { return loopbackURL(cb.at.addr, cb.at.port, cb.visitPath) }

// ServeHTTP answers the browser. The answer to the callback waits for the outcome of the login, so
// that our page tells the truth.
func (cb *callbackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer loopback.Serving(r.Context())()
	path := pathOf(cb.redirect)
	switch {
	case !cb.isOurHost(r.Host):
		cb.send(w, pageWrongHost, http.StatusMisdirectedRequest)
	case r.URL.Path != path && r.URL.Path != cb.at.startPath && r.URL.Path != cb.visitPath:
		http.NotFound(w, r)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.Path != path:
		cb.redirectToLogin(w, r)
	case cb.strayError(r):
		cb.send(w, pageFailed(asclient.WithoutQuery(cb.cfg.Upstream), errors.New("the login server said: "+
			asclient.QuoteCode(asclient.PeerText(r.URL.Query().Get("error"), nil))), cb.cfg.Callback.Retry), http.StatusBadRequest)
	case !cb.deliver(r.URL.Query()):
		cb.send(w, pageOutOfDate, http.StatusBadRequest)
	default:
		select {
		case <-cb.finished:
			cb.sendOutcome(w)
		case <-r.Context().Done():
		}
	}
}

// redirectToLogin leads the browser from one of our URLs to the login page. A browser is started
// with visitURL among its arguments, which everybody on the machine can read. So that URL works
// once.
func (cb *callbackServer) redirectToLogin(w http.ResponseWriter, r *http.Request) {
	target := cb.target.Load()
	if target == nil || r.URL.Path == cb.visitPath && cb.visited.Swap(true) {
		cb.send(w, pageUsed, http.StatusGone)
		return
	}
	loginPage, err := target.next(r.Context())
	if err != nil {
		p := pageNoLogin
		p.Detail = err.Error()
		cb.send(w, p, http.StatusBadGateway)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, loginPage, http.StatusSeeOther)
}

// send sends one of our pages. The server and the detail may be a peer's words.
func (cb *callbackServer) send(w http.ResponseWriter, p page, status int) {
	if printable := cb.cfg.Callback.Printable; printable != nil {
		p.Server, p.Detail = printable(p.Server), printable(p.Detail)
	}
	p.send(w, status)
}

// sendOutcome tells the browser how the login ended.
func (cb *callbackServer) sendOutcome(w http.ResponseWriter) {
	upstream := asclient.WithoutQuery(cb.cfg.Upstream)
	if cb.at.current.Load() != cb {
		cb.send(w, pageAgain, http.StatusBadRequest)
		return
	}
	if cb.err != nil {
		cb.send(w, pageFailed(upstream, cb.err, cb.cfg.Callback.Retry), http.StatusBadRequest)
		return
	}
	cb.send(w, pageSignedIn(upstream), http.StatusOK)
}

// isOurHost guards against DNS rebinding. The Host header must be a loopback name with the
// listener's port, or the redirect URI's host and port. A page of another site cannot make the
// browser send such a header.
func (cb *callbackServer) isOurHost(host string) bool {
	u := &url.URL{Scheme: cb.redirect.Scheme, Host: host}
	loopback := asclient.IsLoopback(u.Hostname())
	if loopback && asclient.Port(u) == cb.at.port {
		return true
	}
	return asclient.Port(u) == asclient.Port(cb.redirect) && (loopback || u.Hostname() == cb.redirect.Hostname())
}

// pathOf returns the path that a request for u has.
func pathOf(u *url.URL) string { return cmp.Or(u.Path, "/") }

// deliver takes the parameters of a callback and reports whether they belong to this login. The
// first that do are acted on. Repetitions wait for the same outcome.
func (cb *callbackServer) deliver(q url.Values) bool {
	if !cb.hasState(q) {
		return false
	}
	select {
	case cb.got <- q:
	default: // one waits there already
	}
	return true
}

// hasState reports whether the parameters of a callback have the state of this login.
func (cb *callbackServer) hasState(q url.Values) bool {
	return subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(cb.state)) == 1
}

// strayError takes an error without a state, which broken authorization servers send although RFC
// 6749 section 4.1.2.1 wants the state. It belongs to this login, because no other waits here. If
// it were ignored, the person would wait for minutes.
//
// A page of another site must not end the login unseen. So a browser that sends Fetch Metadata must
// say that it shows the answer as a page. Whoever gets that far can do no more than end this login.
func (cb *callbackServer) strayError(r *http.Request) bool {
	q, mode, dest := r.URL.Query(), r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	seen := (mode == "" || mode == "navigate") && (dest == "" || dest == "document")
	if q.Get("state") != "" || q.Get("error") == "" || !seen {
		return false
	}
	select {
	case cb.strayErrors <- q:
	default: // there is one already
	}
	return true
}

// finish publishes the outcome of the login for the page and for Transport.Deliver. It is called
// once.
func (cb *callbackServer) finish(err error) {
	cb.err = err
	close(cb.finished)
}

// free frees the port: another login may follow at once. It waits for lastPageTime at most, because
// a listener on another machine is asked to close.
func (at *callbackPort) free() {
	freed := make(chan struct{})
	go func() { // ends with the listener's Close
		defer close(freed)
		at.listener.Close()
	}()
	select {
	case <-freed:
	case <-time.After(lastPageTime):
	}
}

// close ends the server, and gives the browser a moment to fetch our last page.
func (at *callbackPort) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastPageTime)
	defer cancel()
	if at.server.Shutdown(ctx) != nil {
		at.server.Close()
	}
}
