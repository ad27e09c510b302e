package callback

import (
	"crypto/subtle"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/session"
)

// maxQuery is the most bytes of the query of a callback, which is one message to HOST.
const maxQuery = 8 << 10

// front answers the requests to a port that is held: the callbacks of logins, and then whatever is
// carried.
type front struct {
	desk   *Desk
	number int
}

// ServeHTTP answers the browser. Neither the code nor the state stays in the address bar.
func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer serving(r)()
	switch {
	case !isOwnHost(r.Host, f.number):
		pageWrongHost.send(w, http.StatusMisdirectedRequest)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	case !isNavigation(r.Header):
		http.Error(w, "only a page that a person sees", http.StatusForbidden)
		return
	case len(r.URL.RawQuery) > maxQuery:
		pageTooLong.send(w, http.StatusRequestURITooLong)
		return
	}
	page, carried := f.take(r)
	switch {
	case page != "":
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, page, http.StatusSeeOther)
	case carried != nil:
		carried.ServeHTTP(w, r)
	default:
		pageOutOfDate.send(w, http.StatusBadRequest)
	}
}

// take hands a request to the login that it belongs to, and returns the URL of our page about it.
// The URL is empty if there is no such login. Then carried answers, if anything is carried.
func (f front) take(r *http.Request) (page string, carried http.Handler) {
	d := f.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	query := r.URL.Query()
	l := f.findLocked(r.URL.Path, query.Get("state"))
	if l == nil && !query.Has("state") && query.Has("error") {
		l = f.onlyLocked(r.URL.Path)
	}
	switch {
	case l != nil:
		l.expireLocked()
		namePageLocked(l)
		l.comeBackLocked(r.URL.RawQuery)
		if heir := heirOf(l); heir != l {
			goOnLocked(heir)
			l = heir
		}
	default:
		if l = f.heirLocked(r.URL.Path, query.Get("state")); l == nil {
			l = f.beginLocked(r.URL.Path)
		}
		if l == nil {
			return "", d.carried[f.number]
		}
		goOnLocked(l)
	}
	namePageLocked(l)
	l.page.seen = time.Now()
	return d.pages.url(loginPath, l.page.name), nil
}

// namePageLocked gives the page of a login its name, if it waited for its turn and the person came
// by hand.
func namePageLocked(l *login) {
	if l.page.name == "" {
		l.page.name, l.page.token = newName(), newName()
		l.desk.shown[l.page.name] = l
	}
}

// findLocked returns the login whose state and path a callback has.
func (f front) findLocked(path, state string) *login {
	var found *login
	for _, l := range f.desk.logins { // all of them, so that the time says nothing
		same := subtle.ConstantTimeCompare([]byte(l.state), []byte(state)) == 1
		if same && l.state != "" && l.port.number == f.number && l.path == path {
			found = l
		}
	}
	return found
}

// onlyLocked returns the login that waits for a callback at a path, if there is only one. Broken
// login servers send an error without the state, although RFC 6749 section 4.1.2.1 wants it.
func (f front) onlyLocked(path string) *login {
	var only *login
	for _, l := range f.desk.logins {
		if l.state == "" || l.port.number != f.number || l.path != path {
			continue
		}
		if only != nil {
			return nil
		}
		only = l
	}
	return only
}

// beginLocked returns the login whose own link has a path, for a person who opened that link by
// hand: an MCP host shows it.
func (f front) beginLocked(path string) *login {
	for _, l := range f.desk.logins {
		same := subtle.ConstantTimeCompare([]byte(l.startPath), []byte(path)) == 1
		if same && l.port.number == f.number {
			return l
		}
	}
	return nil
}

// isOwnHost reports whether a Host header is that of a browser that really meant this port. A name
// that a web site pointed at 127.0.0.1 (DNS rebinding) is not.
func isOwnHost(hostport string, port int) bool {
	host, p, err := net.SplitHostPort(hostport)
	return err == nil && p == strconv.Itoa(port) && session.IsLoopback(host)
}

// isNavigation reports whether a browser shows the answer as a page of its own. A page of another
// site may load our address as a picture, in a frame or by a script, and nobody would see it. What
// sends none of these headers is no browser of today.
func isNavigation(h http.Header) bool {
	for name, want := range map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} {
		if got := h.Get(name); got != "" && got != want {
			return false
		}
	}
	prefetch := strings.Contains(h.Get("Sec-Purpose")+h.Get("Purpose"), "prefetch")
	return !prefetch && h.Get("Service-Worker") == "" && h.Get("Upgrade") == ""
}
