package callback

import (
	"cmp"
	"crypto/subtle"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// A proxy that is killed, or that its MCP host starts anew, leaves a tab behind, at our page or at
// the login server, and the next proxy asks for the same. The next login is the heir of the one
// before it: it takes over the page, so that the person goes on in the same tab, and no other is
// opened. A callback of the login before leads the tab on to the heir's login page, where the
// person has a session by now. The code in it goes to nobody but the login that it belongs to.

const (
	// tabTime is for how long after its last sign of life a tab is taken to be there. A person who
	// types a password and a second factor is at the login server's page, and gives none.
	tabTime = time.Minute
	// askTime is that of a tab that shows our question. A proxy waits up to 30 s before it opens
	// another login page.
	askTime = 45 * time.Second
	// endedTime is how long a login must be away, with HOST there, before our page says that the
	// program has ended. A login that only lost its connection is back earlier. The page is loaded
	// again and again, so it is right in the end.
	endedTime = 5 * time.Second
	// maxHeirs is how many logins one after the other may take over a page.
	maxHeirs = 5
)

// lineage is what a login has to do with others that want the same.
type lineage struct {
	// seen is when the browser was started for the page, or asked for it last.
	seen time.Time
	// began is when the login asked for its page, and launched when the browser was started for it.
	began, launched time.Time
	// heir is the login that has taken over the page. It is nil if none has.
	heir *login
	// before are the callbacks of the logins whose page this one has taken over.
	before []oldCallback
}

// oldCallback is what the callback of an earlier login looks like.
type oldCallback struct{ state, path string }

// alwaysThere is the source.since of a machine that is never away.
func alwaysThere() time.Time { return time.Now().Add(-time.Hour) }

// goneForLocked reports whether a login has been away for d although its HOST is there. Where that
// is not known of HOST, only the login counts.
func goneForLocked(l *login, d time.Duration) bool {
	now := time.Now()
	if !l.awayLocked() || now.Sub(l.page.awaySince) < d {
		return false
	}
	if l.from.since == nil {
		return true
	}
	since := l.from.since()
	return !since.IsZero() && now.Sub(since) >= d
}

// endedLocked reports whether the program that wanted a login runs no more, as far as is known:
// HOST said so, or is there, and the program is not.
func endedLocked(l *login) bool {
	return l.phase == ended || !l.phase.over() && l.from.since != nil && goneForLocked(l, endedTime)
}

// wantsSame reports whether two logins want the same of the person.
func wantsSame(a, b *login) bool {
	return a.from.host == b.from.host && a.from.local == b.from.local && a.upstream == b.upstream &&
		a.asks(b.request) && a.unseen == b.unseen
}

// predecessorLocked returns the login whose page a new one takes over. It is nil if there is none.
func predecessorLocked(l *login) (before *login) {
	patience := comebackTime
	if l.from.local { // nothing is between
		patience = 0
	}
	for _, o := range l.desk.shown {
		left := o.phase == ended || !o.phase.over() && o.outcome == nil && goneForLocked(o, patience)
		if o == l || !left || o.page.name == "" || o.page.restarts >= maxHeirs || !wantsSame(o, l) {
			continue
		}
		if before == nil || o.page.seen.After(before.page.seen) {
			before = o
		}
	}
	return before
}

// inheritLocked has a login take over the page of another, and what the person said there.
func inheritLocked(l, before *login) {
	d, own, old := l.desk, &l.page, &before.page
	own.visitName, own.name, own.token = old.visitName, old.name, old.token
	for name, o := range d.shown {
		if o == before && (name == own.name || name == own.visitName) {
			d.shown[name] = l
		}
	}
	own.seen, own.launched, own.agreed, own.restarts = old.seen, old.launched, old.agreed, old.restarts+1
	own.before = append(old.before, oldCallback{before.state, before.path})
	old.visitName, old.name, old.heir, old.launched = "", "", l, time.Time{}
	before.wakeLocked()
	b := l.brakeLocked()
	b.forget(before)
	if b.open == before { // the page is still open, and counts for its heir
		b.open = nil
	}
}

// tabLastsLocked returns until when the tab of a page is taken to be there.
func tabLastsLocked(l *login) time.Time {
	if l.phase == asking {
		return l.page.seen.Add(cmp.Or(l.desk.cfg.askTime, askTime))
	}
	return l.page.seen.Add(tabTime)
}

// remindLocked opens the page of a login after all if the tab that it has taken over gives no sign
// of life.
func remindLocked(l *login) {
	d, last := l.desk, l.page.seen
	time.AfterFunc(time.Until(tabLastsLocked(l)), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		switch {
		case d.ctx.Err() != nil || l.phase != asking && l.phase != opened || l.page.heir != nil || l.page.visited:
		case l.page.seen.After(last):
			remindLocked(l)
		default:
			launchLocked(l)
		}
	})
}

// launchLocked starts the browser for the page of a login.
func launchLocked(l *login) {
	d := l.desk
	if l.page.visitName == "" {
		l.page.visitName = newName()
		d.shown[l.page.visitName] = l
	}
	l.page.launched = time.Now()
	l.page.seen = l.page.launched
	d.running.Go(func() { launch(l) }) // ends when the browser was started
}

// heirOf returns the login that has the page of a login now, or should have: of one that has ended,
// it is one that wants the same. It is l itself if there is no other.
func heirOf(l *login) *login {
	for l.page.heir != nil {
		l = l.page.heir
	}
	if !endedLocked(l) {
		return l
	}
	for _, o := range l.desk.logins {
		if o != l && o.phase != held && !o.awayLocked() && l.page.restarts < maxHeirs && wantsSame(o, l) {
			return o
		}
	}
	return l
}

// goOnLocked goes on with a login whose page the person has reached, or whose login before it the
// person has finished.
func goOnLocked(l *login) {
	if l.phase == waiting { // it has its turn now, because the person wants it
		l.brakeLocked().forget(l)
		l.phase = asking
	}
	if l.phase == opened || l.phase == asking && l.mayOpenLocked() {
		l.phase, l.page.going = opened, true
		if l.how != helper.HowOpened {
			l.showLocked(helper.HowOpened)
		}
	}
}

// heirLocked returns the login that has taken over from the one that a callback belongs to.
func (f front) heirLocked(path, state string) *login {
	var found *login
	for _, l := range f.desk.logins {
		for _, old := range l.page.before {
			same := subtle.ConstantTimeCompare([]byte(old.state), []byte(state)) == 1
			if same && old.state != "" && l.port.number == f.number && old.path == path {
				found = l
			}
		}
	}
	return found
}
