package callback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// farPath begins the path by which a browser of ours gets to a login page that only HOST reaches. A
// name follows.
const farPath = "/far/"

// FarPage is a login page that may be out of reach of this machine.
type FarPage struct {
	// Host is HOST as the person typed it.
	Host string
	// Link is the login page, and Start a page of ours that leads there.
	Link, Start string
	// Until is when the login ends without an answer.
	Until time.Time
	// Dial makes a connection through HOST: by the login there, or by the sshd there.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// FarResult is what became of a FarPage.
type FarResult struct {
	// Words are for the person, on our page: how the login page is reached. They are empty if any
	// browser here reaches it.
	Words string
	// Opened says that the login page is open in another window.
	Opened bool
	// Unreached says that the page is reached in no way that is known, and Why says why. It may
	// have words of HOST.
	Unreached bool
	Why       string
}

// side is where the server of a login page is reached.
type side int

const (
	unknownSide side = iota
	searching        // it is being found out, or a window opens
	nearSide         // from this machine, or it does not matter
	farSide          // through HOST or not at all, as the words say
)

// searchLocked finds out where the server of the login page is reached, once, and opens a window of
// ours if only HOST reaches it. It reports whether that is known already.
func (l *login) searchLocked() bool {
	d := l.desk
	switch {
	case d.cfg.Far == nil || l.from.dial == nil && dialerLocked(l) == nil:
		l.page.far.side = nearSide
	case l.page.far.side == unknownSide || l.page.far.origin != l.origin:
		l.page.far.stop()
		l.page.far = farState{side: searching, origin: l.origin, name: newName()}
		d.shown[l.page.far.name] = l
		d.running.Go(func() { searchFar(l) }) // ends with the login
	}
	return l.page.far.side != searching
}

// farState is what is known of the side of a login page.
type farState struct {
	side
	// origin is that of the login page.
	origin string
	// name is that of our page that leads to the login page.
	name string
	// result is what Config.Far said.
	result FarResult
	// tell says that HOST was not told yet what the person sees, because that is not known.
	tell bool
	// cancel ends the way through HOST. It is nil before there is one.
	cancel context.CancelFunc
}

// stop ends the way through HOST.
func (f farState) stop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// searchFar asks Config.Far.
func searchFar(l *login) {
	d := l.desk
	d.mu.Lock()
	if l.phase.over() {
		d.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(d.ctx)
	l.page.far.cancel = cancel // when the login is over
	p := FarPage{Host: l.from.host, Link: l.link, Start: d.pages.url(farPath, l.page.far.name), Until: l.expires, Dial: dialFar(l)}
	d.mu.Unlock()
	result := d.cfg.Far(ctx, p)
	d.mu.Lock()
	defer d.mu.Unlock()
	l.page.far.side, l.page.far.result = nearSide, result
	if result.Words != "" {
		l.page.far.side = farSide
	}
	if result.Opened {
		l.page.going, l.page.visited = false, true
	}
	if l.phase == opened && (l.page.far.tell || result.Words != "" && !result.Opened) {
		l.showLocked(farHowLocked(l))
	}
	l.page.far.tell = false
	l.wakeLocked()
}

// farHowLocked returns what the person sees who wants to see the login page.
func farHowLocked(l *login) string {
	switch far := l.page.far; {
	case far.side != farSide || far.result.Opened:
		return helper.HowOpened
	case far.result.Unreached:
		return helper.HowUnreached
	}
	return helper.HowByHand
}

// dialerLocked returns a dialer whose login makes connections. It is nil if there is none.
func dialerLocked(l *login) *helper.Dialer {
	for c := range l.conversations {
		if c.proven && c.dials != nil {
			return c.dials
		}
	}
	return nil
}

// errNoWay says that HOST is away, or offers no connections.
var errNoWay = errors.New("HOST makes no connection")

// dialFar returns what makes connections through HOST. The login there makes them in the way in
// which it reaches the login server itself, which may be a tunnel of its own. An older sallyport
// does not, and then the sshd there may.
func dialFar(l *login) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		l.desk.mu.Lock()
		there, sshd := dialerLocked(l), l.from.dial
		l.desk.mu.Unlock()
		err := errNoWay
		if there != nil {
			var conn net.Conn
			if conn, err = there.Dial(ctx, network, addr); err == nil || sshd == nil || ctx.Err() != nil {
				return conn, err
			}
		}
		if sshd == nil {
			return nil, err
		}
		conn, sshdErr := sshd(ctx, network, addr)
		if sshdErr != nil && there != nil {
			return nil, fmt.Errorf("%w; its sshd: %w", err, sshdErr)
		}
		return conn, sshdErr
	}
}

// openFarLogin finds out where a login page is reached that needs no question. It reports
// whether the page is open already, in a window of ours.
func openFarLogin(l *login) bool {
	d := l.desk
	for {
		d.mu.Lock()
		known, changed, opened := l.searchLocked() || l.phase.over(), l.changed, l.page.far.result.Opened
		d.mu.Unlock()
		if known {
			return opened
		}
		select {
		case <-changed:
		case <-d.ctx.Done():
			return false
		}
	}
}

// lead leads a browser of ours to the login page.
func (s *pageServer) lead(w http.ResponseWriter, r *http.Request) {
	d, name := s.desk, r.PathValue("name")
	d.mu.Lock()
	l, link := d.shown[name], ""
	if l != nil && l.page.far.name == name && !l.phase.over() && l.freshLocked(time.Now()) {
		link, l.page.visited = l.link, true
	}
	d.mu.Unlock()
	if link == "" {
		pageUsed.send(w, http.StatusGone)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, link, http.StatusSeeOther)
}
