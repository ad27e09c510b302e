package callback

import (
	"maps"
	"slices"
	"time"
)

// Limits of the pages that are opened.
const (
	// maxMisses pages of one HOST that the person refused, or left alone, silence it for quietTime.
	maxMisses = 3
	quietTime = time.Hour
	// maxByHost pages within quietTime may end because the login was cancelled on HOST, or finished
	// in another way, or because its program was killed. More than that are as those that were left
	// alone, for it is HOST who says so.
	maxByHost = 10
	// maxPages is how many pages of one HOST may open within pagesTime, and maxAllPages is that of
	// all together.
	maxPages, maxAllPages = 20, 40
	pagesTime             = 10 * time.Minute
	// maxBusy is how many different ports of this machine HOST may find taken within pagesTime. It
	// must not learn what runs here.
	maxBusy = 16
	// maxTold is how many lines about one HOST the person gets within pagesTime.
	maxTold = 20
)

// times are moments of the recent past.
type times []time.Time

// within forgets the moments that are longer ago than d, and counts the others.
func (t *times) within(d time.Duration, now time.Time) int {
	*t = slices.DeleteFunc(*t, func(at time.Time) bool { return now.Sub(at) >= d })
	return len(*t)
}

// brake bounds the pages of one HOST. The desk's lock guards it.
type brake struct {
	// open is the login whose page is open. It is nil if none is.
	open *login
	// waiting are the logins whose page opens after that, the oldest first.
	waiting []*login
	// misses are when the person refused a page or left one alone since the last callback.
	misses times
	// missedAt is when that was last.
	missedAt time.Time
	// byHost are when HOST ended a login while its page was open here.
	byHost times
	// pages are when pages opened, and told when the person got a line.
	pages, told times
	// busy are the ports that HOST has found taken, and when.
	busy map[int]time.Time
	// quietUntil is when pages may open again after too many misses.
	quietUntil time.Time
}

// endedByHost notes a page whose login HOST has ended. It reports whether HOST is believed that the
// person has left nothing alone.
func (b *brake) endedByHost(now time.Time) bool {
	if b.byHost.within(quietTime, now) >= maxByHost {
		return false
	}
	b.byHost = append(b.byHost, now)
	return true
}

// missed notes a page that the person refused or left alone.
func (b *brake) missed(now time.Time) {
	b.misses, b.missedAt = append(b.misses, now), now
	if b.misses.within(quietTime, now) >= maxMisses {
		b.quietUntil, b.misses = now.Add(quietTime), nil
	}
}

// probes reports whether HOST has found too many ports taken to ask for another one.
func (b *brake) probes(number int, now time.Time) bool {
	maps.DeleteFunc(b.busy, func(_ int, at time.Time) bool { return now.Sub(at) >= pagesTime })
	return len(b.busy) >= maxBusy && b.busy[number].IsZero()
}

// quiet reports whether no page may open.
func (b *brake) quiet(now time.Time) bool { return now.Before(b.quietUntil) }

// next takes the login whose page opens next out of those that wait, of which there must be one.
func (b *brake) next() *login {
	l := b.waiting[0]
	b.waiting = b.waiting[1:]
	return l
}

// forget takes a login out of those that wait.
func (b *brake) forget(l *login) {
	b.waiting = slices.DeleteFunc(b.waiting, func(other *login) bool { return other == l })
}
