package callback

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// phase is how far a login has come.
type phase int

// The phases. A login is over from concluded on.
const (
	held      phase = iota // its login page is not known yet
	waiting                // the page of another login of the same HOST is open first
	asking                 // our page asks whether to go on
	opened                 // the person has said so, or had said so before
	returned               // the browser has come back, and HOST exchanges the code
	finished               // HOST has told the outcome
	concluded              // the same, and HOST needs us no more
	refused                // the person said no, or the login page is none that may be opened
	expired                // nobody came back in time
	ended                  // HOST needs us no more, and has told no outcome
)

// over reports whether nothing more comes of the login.
func (p phase) over() bool { return p >= concluded }

// login is one login. The desk's lock guards it.
type login struct {
	desk *Desk
	// id is the name that HOST has given it.
	id string
	// from is where it comes from, and upstream what it signs in to, by HOST's words.
	from     source
	upstream string
	// redirect is the redirect URI that is held, without its path, and port its port.
	redirect *url.URL
	port     *port
	// request is the login page.
	request
	// page is our page about the login.
	page pageState

	phase phase
	// how is what HOST was told last that the person sees.
	how string
	// query is the query of the callback. It is empty before that.
	query string
	// outcome is HOST's message about the code exchange. It is nil before that.
	outcome *helper.Message
	// conversations are the connections. There is none while HOST is away.
	conversations map[*conversation]bool
	// changed is closed when something of the login changes.
	changed chan struct{}
	// timer ends the login when it expires.
	timer *time.Timer
}

// pageState is what our page about a login knows.
type pageState struct {
	// visitName is the name in the link that starts the browser, which works once. name is the name
	// of the page. Both are empty before the page opens.
	visitName, name string
	// token is what a form of the page must send.
	token string
	// going says that the person wants to see the login page, and visited that the browser was led
	// to the present link.
	going, visited bool
	// relinked says that HOST was asked for a new link, which has not come.
	relinked bool
	// agreed is the login page that the person agreed to. It is empty if the person did not.
	agreed request
	// restarts counts the login pages after the first.
	restarts int
	// awaySince is when the last connection to HOST ended.
	awaySince time.Time
	// far is what is known of a login page that perhaps only HOST reaches.
	far farState
	lineage
}

// hostPort returns host and port as a URL has them.
func hostPort(host string, number int) string { return net.JoinHostPort(host, strconv.Itoa(number)) }

// heldLocked returns the message that the port is held.
func (l *login) heldLocked() helper.Message {
	return helper.Message{Type: helper.TypeHeld, RedirectURI: l.redirect.String(), Host: l.from.host}
}

// postLocked sends a message to all connections of the login.
func (l *login) postLocked(m helper.Message) {
	for c := range l.conversations {
		if c.proven {
			c.post(m)
		}
	}
}

// showLocked tells HOST what the person sees.
func (l *login) showLocked(how string) {
	if l.how = how; !l.phase.over() {
		l.postLocked(helper.Message{Type: helper.TypeShown, How: how})
	}
}

// awayLocked reports whether HOST is not connected.
func (l *login) awayLocked() bool {
	for c := range l.conversations {
		if c.proven {
			return false
		}
	}
	return true
}

// wakeLocked tells whoever waits for a change of the login.
func (l *login) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// freshLocked reports whether the browser may be led to the link. That of a pushed request works
// once.
func (l *login) freshLocked(now time.Time) bool {
	used := l.once && l.page.visited
	late := !l.linkExpires.IsZero() && !now.Before(l.linkExpires.Add(-linkMargin))
	return !used && !late
}

// linkMargin is how long before its end a link is not used any more.
const linkMargin = 3 * time.Second

// expiryCheck is how often the wall clock is looked at. A timer stands still while this machine
// sleeps, and the login on HOST does not.
const expiryCheck = 20 * time.Second

// expireAtLocked sets when the login ends, by the wall clock, if nothing else ends it.
func (l *login) expireAtLocked(at time.Time) {
	l.expires = at.Round(0)
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = time.AfterFunc(min(time.Until(l.expires), expiryCheck), func() {
		l.desk.mu.Lock()
		defer l.desk.mu.Unlock()
		l.expireLocked()
	})
}

// stopLocked frees what the login holds.
func (l *login) stopLocked() {
	l.timer.Stop()
	l.page.far.stop()
	if l.port != nil {
		l.desk.ports.release(l.port)
		l.port = nil
	}
}

// expireLocked ends a login whose time is over, and looks again later if it is not.
func (l *login) expireLocked() {
	switch {
	case l.phase.over() || l.desk.ctx.Err() != nil:
	case time.Now().Before(l.expires):
		l.expireAtLocked(l.expires)
	case l.phase == finished:
		l.overLocked(concluded)
	default:
		l.overLocked(expired)
	}
}

// stateTakenLocked reports whether another login at the same port has a state.
func (d *Desk) stateTakenLocked(l *login, state string) bool {
	for _, other := range d.logins {
		if other != l && other.port.number == l.port.number && other.state == state {
			return true
		}
	}
	return false
}

// comeBackLocked takes the query of the callback. If it comes again, the first one counts.
func (l *login) comeBackLocked(query string) {
	if l.query != "" || l.phase.over() {
		return
	}
	l.brakeLocked().forget(l)
	l.query, l.phase, l.page.going = query, returned, false
	keepLocked(l)
	l.postLocked(helper.Message{Type: helper.TypeCallback, Query: query})
	l.wakeLocked()
}

// brakeLocked returns the brake of the login's HOST.
func (l *login) brakeLocked() *brake { return l.desk.brakeLocked(l.from.host) }

// brakeLocked returns the brake of a HOST.
func (d *Desk) brakeLocked(host string) *brake {
	b := d.brakes[host]
	if b == nil {
		b = new(brake)
		d.brakes[host] = b
	}
	return b
}

// admitLocked opens the page of a login, or lets it wait for its turn.
func (l *login) admitLocked() {
	b := l.brakeLocked()
	l.page.began = time.Now()
	if o := b.open; o != nil && (goneLocked(o) || unansweredLocked(o)) {
		l.desk.passTurnLocked(b)
		defer judgeGoneLocked(o)
	}
	if b.open == nil || l.from.local {
		l.openLocked()
		return
	}
	b.waiting = append(b.waiting, l)
	l.phase = waiting
	l.showLocked(helper.HowWaiting)
}

// brakeErrorLocked says why no page may open by itself. It is nil if one may.
func brakeErrorLocked(l *login, now time.Time) error {
	b := l.brakeLocked()
	switch {
	case b.quiet(now) && !l.from.local:
		return fmt.Errorf("it opens no page of this host by itself until %s, because %d of them were refused or left alone",
			b.quietUntil.Format(time.TimeOnly), maxMisses)
	case b.pages.within(pagesTime, now) >= maxPages || l.desk.opened.within(pagesTime, now) >= maxAllPages:
		return errors.New("it has opened too many login pages in the last minutes")
	}
	return nil
}

// openLocked opens the page of a login. If the brake holds, the page opens by hand only.
func (l *login) openLocked() {
	d, b, now := l.desk, l.brakeLocked(), time.Now()
	err := brakeErrorLocked(l, now)
	if before := predecessorLocked(l); before != nil {
		inheritLocked(l, before)
	} else {
		l.page.visitName, l.page.name, l.page.token = newName(), newName(), newName()
		d.shown[l.page.name], d.shown[l.page.visitName] = l, l
	}
	l.phase = asking
	if l.mayOpenLocked() {
		l.phase, l.page.going = opened, true
	}
	wants := fmt.Sprintf("%s wants to sign in to %s at %s", l.from.name(), l.upstream, l.origin)
	say := func(format string, args ...any) {
		d.running.Go(func() { d.tell(l.from.host, format, args...) }) // ends with the line
	}
	if err != nil { // the person may still open the page by hand
		l.postLocked(helper.Message{Type: helper.TypeError, Kind: helper.KindTooMany,
			Text: err.Error() + "; if you want this login, open its link in the browser there yourself"})
		say("%s. No page is opened for it: %v. If you want it, open: %s (once you have clicked on Continue, pages of %s open by themselves again)",
			wants, err, d.pages.url(loginPath, l.page.name), l.from.name())
		return
	}
	b.open, b.pages, d.opened = l, append(b.pages, now), append(d.opened, now)
	defer watchTurnLocked(l)
	if now.After(tabLastsLocked(l)) {
		launchLocked(l)
		return
	}
	how := helper.HowConfirm // in the tab of the login before it
	if l.page.going {
		how = helper.HowOpened
	}
	l.showLocked(how)
	say("%s anew: it goes on in the tab that is open in your browser", wants)
	remindLocked(l)
}

// mayOpenLocked reports whether the login page may be opened without a question.
//
// A HOST that was typed with --trust may ask for a login that is new to the person: of another
// program that the login server knows, say. The login server's own page tells. Without that page,
// ours has to.
func (l *login) mayOpenLocked() bool {
	trusted := l.from.trusted || l.desk.cfg.Trust.Has(entryOf(l))
	return l.from.local || l.page.agreed.asks(l.request) || trusted && !l.unseen
}

// entryOf returns what is remembered if the person says so.
func entryOf(l *login) Trusted {
	return Trusted{Host: l.from.host, Origin: l.origin, Issuer: l.issuer, Client: l.client, Upstream: l.upstream, Since: time.Now()}
}

// againLocked takes a login that began again with another login page.
func againLocked(l *login) {
	b := l.brakeLocked()
	if l.phase == waiting {
		return
	}
	if l.page.restarts++; l.page.restarts > maxRestarts {
		l.postLocked(helper.Message{Type: helper.TypeError, Kind: helper.KindTooMany, Text: "the login began again too often"})
		l.overLocked(refused)
		return
	}
	unkeepLocked(l)
	l.query, l.outcome = "", nil
	if b.open == l {
		b.open = nil
	}
	l.admitLocked()
}

// overLocked ends a login, and opens the page of the next.
func (l *login) overLocked(end phase) {
	d := l.desk
	if l.phase.over() {
		return
	}
	l.phase, l.page.awaySince = end, time.Now()
	unkeepLocked(l)
	l.stopLocked()
	delete(d.logins, l.id)
	l.wakeLocked()
	if l.page.name != "" {
		d.running.Go(func() { forgetPageOf(l) }) // ends after keepPage
	}
	b := l.brakeLocked()
	b.forget(l)
	judgeLocked(l)
	if b.open == l {
		d.passTurnLocked(b)
	}
}

// byPersonLocked reports whether a page came to nothing because of the person here, who refused it
// or let the time of the login pass. If it was not so, HOST ended the login: it was cancelled or
// finished there, or the program was killed. Nor is it the person's if the page had no time: it was
// opened late, or the login waited for its turn while the person let another page pass.
func byPersonLocked(l *login, now time.Time) bool {
	late := l.phase == expired && !l.awayLocked() || l.phase == ended && now.After(l.expires.Add(-latestEnd))
	hadTime := now.Sub(l.page.launched) >= fairTime && l.page.began.After(l.brakeLocked().missedAt)
	return l.phase == refused || late && hadTime
}

const (
	// latestEnd is how long before the end of a login HOST may say so itself.
	latestEnd = 10 * time.Second
	// fairTime is how long a page must be open before it counts that nobody has answered it.
	fairTime = 30 * time.Second
)

// judgeLocked tells the brake what became of the page of a login that is over.
func judgeLocked(l *login) {
	b, now := l.brakeLocked(), time.Now()
	switch {
	case l.from.local || l.page.launched.IsZero() && (l.phase != refused || l.page.name == ""):
	case l.query != "":
		b.misses = nil
	case byPersonLocked(l, now), !b.endedByHost(now):
		b.missed(now)
	}
}

// judgeGoneLocked tells the brake of a login that has lost its turn because it is away, unless its
// heir has the page. It is told once.
func judgeGoneLocked(l *login) {
	gone := goneLocked(l) && l.query == "" && l.page.heir == nil && !l.phase.over()
	if b, now := l.brakeLocked(), time.Now(); gone && !l.from.local && !l.page.launched.IsZero() {
		l.page.launched = time.Time{}
		if !b.endedByHost(now) {
			b.missed(now)
		}
	}
}

// passTurnLocked opens the page of the next login that waits.
func (d *Desk) passTurnLocked(b *brake) {
	b.open = nil
	for b.open == nil && len(b.waiting) > 0 && d.ctx.Err() == nil {
		b.next().openLocked()
	}
}

const (
	// turnTime is for how long a page without a sign of life keeps others waiting. The person may
	// be away, or has closed the tab, and each login has a time of its own.
	turnTime = 90 * time.Second
	// maxUnanswered is how many pages of one HOST may be open and unanswered.
	maxUnanswered = 3
)

// unansweredLocked reports whether the page of a login is to keep nobody waiting any more, because
// nobody seems to look at it.
func unansweredLocked(l *login) bool {
	if time.Since(l.page.seen) < turnTime || l.awayLocked() {
		return false
	}
	n := 0
	for _, o := range l.desk.logins {
		if o.from.host == l.from.host && !o.page.launched.IsZero() && (o.phase == asking || o.phase == opened) {
			n++
		}
	}
	return n < maxUnanswered
}

// watchTurnLocked passes the turn of a login on when others have waited for it in vain.
func watchTurnLocked(l *login) {
	d, b := l.desk, l.brakeLocked()
	time.AfterFunc(max(time.Until(l.page.seen.Add(turnTime)), time.Second), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		switch {
		case b.open != l || d.ctx.Err() != nil:
		case len(b.waiting) > 0 && unansweredLocked(l):
			d.passTurnLocked(b)
		default:
			watchTurnLocked(l)
		}
	})
}

// comebackTime is how long the page of a login whose connection broke keeps others waiting. A proxy
// that was killed does not come back.
const comebackTime = 2 * time.Second

// goneLocked reports whether HOST is away for so long that the login's page keeps nobody waiting.
func goneLocked(l *login) bool { return l.awayLocked() && time.Since(l.page.awaySince) >= comebackTime }

// leaveLocked notes that the last connection of a login has ended.
func (d *Desk) leaveLocked(l *login) {
	l.page.awaySince = time.Now()
	time.AfterFunc(comebackTime, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if b := l.brakeLocked(); b.open == l && goneLocked(l) && len(b.waiting) > 0 {
			d.passTurnLocked(b)
			judgeGoneLocked(l)
		}
	})
}

// forgetPageOf forgets the page of a login that is over, after a while.
func forgetPageOf(l *login) {
	d := l.desk
	select {
	case <-time.After(keepPage):
	case <-d.ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, other := range d.shown {
		if other == l {
			delete(d.shown, name)
		}
	}
}

// launch starts the browser, and tells HOST and the person what happened.
func launch(l *login) {
	d := l.desk
	d.mu.Lock()
	visit, page, going := d.pages.url(visitPath, l.page.visitName), d.pages.url(loginPath, l.page.name), l.page.going
	host, upstream, origin := l.from.name(), l.upstream, l.origin
	d.mu.Unlock()
	var err error
	if !going || !openFarLogin(l) {
		err = d.cfg.Open(d.ctx, visit)
	}
	d.mu.Lock()
	how := helper.HowConfirm
	switch {
	case going && farHowLocked(l) != helper.HowOpened: // so its link is of no use
		how = farHowLocked(l)
	case err != nil:
		how = helper.HowNowhere
	case going:
		how = helper.HowOpened
	}
	if l.phase == asking || l.phase == opened {
		l.showLocked(how)
	}
	d.mu.Unlock()
	if err != nil {
		d.tell(l.from.host, "%s wants to sign in to %s at %s; no browser could be started here (%v), open: %s", host, upstream, origin, err, page)
		return
	}
	d.tell(l.from.host, "%s wants to sign in to %s at %s: look at your browser", host, upstream, origin)
	if d.cfg.Notify != nil {
		d.cfg.Notify(host)
	}
}
