package oauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	callbackPath   = "/callback"
	startPath      = "/start/"       // and a nonce
	farewell       = 2 * time.Second // for the last page to reach the browser
	maxCallback    = 16 << 10        // bytes of a request's header
	callbackReadIn = 10 * time.Second
)

// callback is one wait for one matching redirect. Its listener is held from listen to
// close; whatever else arrives meanwhile is answered and changes nothing.
type callback struct {
	uri      string // redirect_uri, as the authorization server is told it
	redirect *url.URL
	port     string // the listener's own, which differs behind a proxy of the redirect URI
	state    string
	retry    string // Config.Retry

	origin       string                   // where a browser finds the listener
	start, visit string                   // paths of the page that leads to the login: as long as it waits, and for one visit
	entrance     atomic.Pointer[entrance] // where they lead; nil: not known yet
	visited      atomic.Bool              // visit was

	srv *http.Server

	got  chan url.Values // the first matching redirect's parameters
	once sync.Once

	settled chan struct{} // closed once server, err are set
	server  string        // what was signed in to
	err     error
}

// listen binds the first callback address that is free.
func (t *Transport) listen(ctx context.Context, state string) (*callback, error) {
	addrs := t.cfg.CallbackAddrs
	given, _ := url.Parse(t.cfg.RedirectURI)
	if t.cfg.RedirectURI != "" && isLoopback(given.Hostname()) && given.Port() != "" {
		addrs = []string{net.JoinHostPort(given.Hostname(), given.Port())}
	}
	var first error
	for i, addr := range addrs {
		ln, err := t.cfg.Listen(ctx, addr)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			err = listenError(addr, err)
			if first == nil {
				first = err
			}
			if i+1 < len(addrs) {
				t.cfg.Log.Warn("the next callback address is tried", "err", err)
			}
			continue
		}
		u, uri := given, t.cfg.RedirectURI
		_, port, _ := net.SplitHostPort(addr)
		if _, real, err := net.SplitHostPort(ln.Addr().String()); err == nil && port == "0" {
			port = real
		}
		if uri == "" {
			uri = loopbackURL(addr, port, callbackPath)
			if u, err = url.Parse(uri); err != nil {
				ln.Close()
				return nil, fmt.Errorf("callback address %s: %w", quote(addr), err)
			}
		}
		cb := &callback{uri: uri, redirect: u, port: port, state: state, retry: t.cfg.Retry,
			origin: loopbackURL(addr, port, ""), start: startPath + rand.Text(), visit: startPath + rand.Text(),
			got: make(chan url.Values, 1), settled: make(chan struct{})}
		cb.srv = &http.Server{Handler: cb, ReadHeaderTimeout: callbackReadIn, MaxHeaderBytes: maxCallback, ErrorLog: discardLog}
		// Ends with cb.close, which closes ln.
		t.life.startWithin(func() { cb.srv.Serve(ln) })
		return cb, nil
	}
	return nil, first
}

func listenError(addr string, err error) error {
	if !isAddrInUse(err) {
		return fmt.Errorf("listen for the callback on %s: %w", addr, err)
	}
	e := &PortBusyError{Addr: addr, Err: err}
	if _, port, serr := net.SplitHostPort(addr); serr == nil {
		e.PID, e.Command = portHolder(port)
	}
	return e
}

// loopbackURL is where a browser finds path of a bound address. It cannot go to "any
// address", so that is named as loopback.
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

// ServeHTTP answers the browser. The page for the matching redirect waits until the
// sign-in is settled, so that it tells the truth.
func (cb *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := cb.redirect.Path
	if path == "" {
		path = "/"
	}
	switch {
	case !cb.ourHost(r.Host):
		page{Title: "Not for this address", Text: "This request names a host that is not this sign-in's. Nothing was changed."}.send(w, http.StatusMisdirectedRequest)
	case r.URL.Path != path && r.URL.Path != cb.start && r.URL.Path != cb.visit:
		http.NotFound(w, r)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.Path != path:
		cb.leadOn(w, r)
	case !cb.deliver(r.URL.Query()):
		page{Title: "This page is out of date", Text: "It belongs to another sign-in than the one that waits here, and was ignored.",
			Next: "If a sign-in is still open, finish it in its own tab; otherwise start it again."}.send(w, http.StatusBadRequest)
	default:
		select {
		case <-cb.settled:
			status := http.StatusOK
			if cb.err != nil {
				status = http.StatusBadRequest
			}
			cb.page().send(w, status)
		case <-r.Context().Done():
		}
	}
}

// leadOn redirects to the login. Who later reads the address in the browser's arguments
// learns nothing by it.
func (cb *callback) leadOn(w http.ResponseWriter, r *http.Request) {
	e := cb.entrance.Load()
	if e == nil || r.URL.Path == cb.visit && cb.visited.Swap(true) {
		page{Title: "This link was already used", Text: "It leads to a sign-in once.",
			Next: "If the sign-in is still open, finish it in its own tab, or open the link that the program printed."}.send(w, http.StatusGone)
		return
	}
	link, err := e.link(r.Context())
	if err != nil {
		page{Title: "No login page yet", Text: "The login server was asked for one and gave none.", Detail: err.Error(),
			Next: "Load this page again in a moment, or open the link that the program printed."}.send(w, http.StatusBadGateway)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, link, http.StatusSeeOther)
}

func (cb *callback) page() page {
	if cb.err == nil {
		return page{Title: "Signed in", Text: "You are signed in to", Server: cb.server, Next: "You can close this tab.", Good: true}
	}
	return page{Title: "Not signed in", Text: "You are not signed in to", Server: cb.server, Detail: cb.err.Error(),
		Next: cmp.Or(cb.retry, "Close this tab, then start the sign-in again.") + " If it ends the same way, show the line above to the person who runs the server."}
}

// ourHost guards against DNS rebinding: a page of another site cannot make the browser
// send a Host that is loopback or the redirect URI's, with its port.
func (cb *callback) ourHost(host string) bool {
	u := &url.URL{Scheme: cb.redirect.Scheme, Host: host}
	if isLoopback(u.Hostname()) && portOf(u) == cb.port {
		return true
	}
	return portOf(u) == portOf(cb.redirect) && (isLoopback(u.Hostname()) || u.Hostname() == cb.redirect.Hostname())
}

// deliver takes the parameters of a redirect. It reports whether they belong to this
// sign-in; the first that do are acted on, repetitions wait for the same outcome.
func (cb *callback) deliver(q url.Values) bool {
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(cb.state)) != 1 || !q.Has("code") && !q.Has("error") {
		return false
	}
	cb.once.Do(func() { cb.got <- q })
	return true
}

// settle publishes the outcome for the page; call it once.
func (cb *callback) settle(server string, err error) {
	cb.server, cb.err = server, err
	close(cb.settled)
}

// close frees the port, and leaves open pages a moment to be sent.
func (cb *callback) close() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if cb.srv.Shutdown(ctx) != nil {
		cb.srv.Close()
	}
}
