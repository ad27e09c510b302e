package callback

import (
	"context"
	"crypto/subtle"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth/loopback"
	"sallyport/oauth/procnet"
)

const (
	// visitPath begins the paths that start the browser, and loginPath those of the pages. A name
	// follows.
	visitPath, loginPath = "/visit/", "/login/"
	// maxForm is the most bytes of a form.
	maxForm = 4 << 10
	// pageWait is how long a page waits for something to change before it is sent.
	pageWait = 3 * time.Second
)

// pageServer serves our pages, at an origin of their own.
type pageServer struct {
	desk     *Desk
	listener net.Listener
	server   *http.Server
	// addr is the address of the listener, and so the Host of every request.
	addr string
}

// servePages serves the pages of a desk until close.
func servePages(d *Desk) (*pageServer, error) {
	l, err := listenForPages(d)
	if err != nil {
		return nil, err
	}
	s := &pageServer{desk: d, listener: l, addr: l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+visitPath+"{name}", s.visit)
	mux.HandleFunc("GET "+farPath+"{name}", s.lead)
	mux.HandleFunc("GET "+loginPath+"{name}", s.show)
	mux.HandleFunc("POST "+loginPath+"{name}", s.answer)
	s.server = &http.Server{
		Handler: s.guard(mux), ReadTimeout: headerTimeout, IdleTimeout: headerTimeout, MaxHeaderBytes: maxHeaderBytes,
		ConnContext: loopback.WithConn, ErrorLog: log.New(io.Discard, "", 0),
	}
	s.server.SetKeepAlivesEnabled(false)
	d.running.Go(func() { s.server.Serve(limit(l)) }) // ends with close
	return s, nil
}

// listenForPages binds a port. It is that of the process before this one if a browser may still
// show a page of that one about a callback that is kept.
func listenForPages(d *Desk) (net.Listener, error) {
	for _, c := range d.cfg.Kept.all() {
		if addr := c.addr(); addr != "" {
			if l, err := new(net.ListenConfig).Listen(d.ctx, "tcp", addr); err == nil {
				return l, nil
			}
		}
	}
	return new(net.ListenConfig).Listen(d.ctx, "tcp", hostPort(loopback4, 0))
}

// limit bounds the connections of a listener: everybody on this machine can open some.
func limit(l net.Listener) net.Listener { return loopback.NewListener(l) }

// serving notes that a request is being answered, until done is called.
func serving(r *http.Request) (done func()) { return loopback.Serving(r.Context()) }

// close ends the server.
func (s *pageServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastPageTime)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close()
	}
}

// url returns the URL of a page.
func (s *pageServer) url(path, name string) string { return "http://" + s.addr + path + name }

// guard refuses whatever no page of ours leads to.
func (s *pageServer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer serving(r)()
		if r.Host != s.addr { // DNS rebinding: a web site has pointed its name at 127.0.0.1
			pageWrongHost.send(w, http.StatusMisdirectedRequest)
			return
		}
		if !isNavigation(r.Header) || r.Method == http.MethodHead {
			http.Error(w, "only a page that a person sees", http.StatusForbidden)
			return
		}
		if !isOwnBrowser(r) { // whoever sees the arguments of the browser's program knows the link
			http.Error(w, "only the user whose sign-in this is", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnBrowser reports whether the other end of a connection is a process of this user, as far as
// the system tells. One of the system itself may be in between, as where Windows's browser comes to
// a port of WSL.
func isOwnBrowser(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	to, toErr := netip.ParseAddrPort(local.String())
	if err != nil || toErr != nil {
		return true
	}
	uid, known := procnet.ConnectedUser(from, to)
	return !known || uid == strconv.Itoa(os.Getuid()) || uid == "0"
}

// visit leads a browser that was just started to the page of its login, once.
func (s *pageServer) visit(w http.ResponseWriter, r *http.Request) {
	d, name := s.desk, r.PathValue("name")
	d.mu.Lock()
	l := d.shown[name]
	page := ""
	if l != nil && l.page.visitName == name {
		delete(d.shown, name)
		l.page.visitName, l.page.seen, page = "", time.Now(), l.page.name
	}
	d.mu.Unlock()
	if page == "" {
		pageUsed.send(w, http.StatusGone)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, loginPath+page, http.StatusSeeOther)
}

// find returns the login of a page. It is nil if there is none.
func (s *pageServer) find(r *http.Request) *login {
	s.desk.mu.Lock()
	defer s.desk.mu.Unlock()
	name := r.PathValue("name")
	if l := s.desk.shown[name]; l != nil && name != l.page.visitName && name != l.page.far.name {
		return l
	}
	return nil
}

// show sends the page of a login. It waits a moment for what is about to change.
func (s *pageServer) show(w http.ResponseWriter, r *http.Request) {
	l := s.find(r)
	if l == nil {
		if p, found := s.keptPage(r.PathValue("name")); found {
			p.send(w, http.StatusOK)
			return
		}
		pageOutOfDate.send(w, http.StatusNotFound)
		return
	}
	timeout := time.NewTimer(pageWait)
	defer timeout.Stop()
	for {
		p, changed := s.look(l, r.PathValue("name"))
		if p.Refresh != 1 { // nothing is about to change
			p.send(w, http.StatusOK)
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			p.send(w, http.StatusOK)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// look returns the page of a login as it is now. It asks HOST for a new link where the old one has
// expired. The channel is closed when the login changes.
func (s *pageServer) look(l *login, name string) (page, <-chan struct{}) {
	s.desk.mu.Lock()
	defer s.desk.mu.Unlock()
	l.expireLocked()
	now := time.Now()
	if heir := heirOf(l); heir != l && name == l.page.name {
		if l.query != "" {
			goOnLocked(heir)
		}
		namePageLocked(heir)
		return pageNext(l.from.name(), s.url(loginPath, heir.page.name)), l.changed
	}
	l.page.seen = now
	p := l.pageOfLocked(name, now)
	switch {
	case p.Target != "":
		l.page.going, l.page.visited, l.page.relinked = false, true, false
	case l.page.going && !l.freshLocked(now) && name == l.page.name && !l.phase.over() && !l.page.relinked && !l.awayLocked():
		l.page.relinked = true
		l.postLocked(helper.Message{Type: helper.TypeRelink})
	}
	return p, l.changed
}

// answer takes what the person chose on a page.
func (s *pageServer) answer(w http.ResponseWriter, r *http.Request) {
	l := s.find(r)
	if l == nil {
		pageOutOfDate.send(w, http.StatusNotFound)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if !s.isOwnForm(r) || !s.choose(l, r) {
		pageNoForm.send(w, http.StatusForbidden)
		return
	}
	// The page is loaded by GET, so that loading it again chooses nothing.
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, loginPath+r.PathValue("name"), http.StatusSeeOther)
}

// isOwnForm reports whether a form comes from a page of ours, as far as the browser tells.
func (s *pageServer) isOwnForm(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+s.addr {
		return false
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

// choose does what the person chose. It reports whether the form was one of the present page.
func (s *pageServer) choose(l *login, r *http.Request) bool {
	d := s.desk
	token, choice := r.PostFormValue("token"), r.PostFormValue("choice")
	d.mu.Lock()
	if r.PathValue("name") != l.page.name || subtle.ConstantTimeCompare([]byte(token), []byte(l.page.token)) != 1 {
		d.mu.Unlock()
		return false
	}
	var remember *Trusted
	switch {
	case l.phase != asking && l.phase != opened: // it has gone on meanwhile, and the page says so
	case choice == "continue":
		if l.phase == asking && r.PostFormValue("remember") != "" {
			e := entryOf(l)
			remember = &e
		}
		if l.page.far.side == farSide { // once more
			l.page.far.stop()
			l.page.far = farState{}
		}
		b := l.brakeLocked()
		b.misses, b.quietUntil = nil, time.Time{} // the person wants logins of this HOST
		l.page.agreed, l.page.going, l.phase = l.request, true, opened
		if l.searchLocked() {
			l.showLocked(farHowLocked(l))
		} else {
			l.page.far.tell = true
		}
	case choice == "refuse" && l.phase == asking:
		l.postLocked(helper.Message{Type: helper.TypeError, Kind: helper.KindRefused, Text: "the person refused the sign-in on the workstation"})
		l.overLocked(refused)
	}
	d.mu.Unlock()
	if remember != nil {
		if err := d.cfg.Trust.Add(*remember); err != nil {
			d.cfg.Log.Warn("what the person agreed to is not remembered", "err", err)
		}
	}
	return true
}
