package callback

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/session"
)

// maxQuery is the most bytes of the query of a callback, which is one message to HOST.
const maxQuery = 8 << 10

// callbackHandler answers the requests to a port that is held: the callbacks of logins, and then
// whatever is carried.
func (d *Desk) callbackHandler(number int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer serving(r)()
		carried := d.carriedAt(number)
		switch {
		case !isOwnHost(r.Host, number):
			pageWrongHost.send(w, http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
		case !isNavigation(r.Header):
			http.Error(w, "only a page that a person sees", http.StatusForbidden)
		case len(r.URL.RawQuery) > maxQuery:
			pageTooLong.send(w, http.StatusRequestURITooLong)
		default:
			if page := d.comeBack(number, r); page != "" {
				// The code stays in no address bar.
				w.Header().Set("Cache-Control", "no-store")
				w.Header().Set("Referrer-Policy", "no-referrer")
				http.Redirect(w, r, page, http.StatusSeeOther)
			} else if carried != nil {
				carried.ServeHTTP(w, r)
			} else {
				pageOutOfDate.send(w, http.StatusBadRequest)
			}
		}
	})
}

// comeBack hands a callback to the login whose state it has, and returns the URL of our page about
// it. The URL is empty if there is no such login.
func (d *Desk) comeBack(number int, r *http.Request) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	query := r.URL.Query()
	l := d.findLocked(number, r.URL.Path, query.Get("state"))
	if l == nil && !query.Has("state") && query.Has("error") {
		l = d.onlyLocked(number, r.URL.Path)
	}
	if l == nil {
		return ""
	}
	if l.query == "" { // else it comes again, or a page was loaded again
		l.query, l.phase = r.URL.RawQuery, returned
		l.page.going = false
		l.postLocked(helper.Message{Type: helper.TypeCallback, Query: l.query})
		l.wakeLocked()
	}
	if l.page.name == "" { // the person opened the link by hand, and another page of HOST is open
		l.page.name, l.page.token = newName(), newName()
		d.shown[l.page.name] = l
	}
	return d.pages.url(loginPath, l.page.name)
}

// onlyLocked returns the login that waits for a callback at a port and a path, if there is only
// one. Broken login servers send an error without the state, although RFC 6749 section 4.1.2.1
// wants it.
func (d *Desk) onlyLocked(number int, path string) *login {
	var only *login
	for _, l := range d.logins {
		if l.state == "" || l.port.number != number || l.path != path {
			continue
		}
		if only != nil {
			return nil
		}
		only = l
	}
	return only
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
