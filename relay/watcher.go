package relay

import (
	"encoding/json"
	"time"

	"sallyport/relay/rawjson"
)

// progressEvery is how often the host is told why a request waits that has asked for progress.
const progressEvery = 5 * time.Second

// watcher tells the host what its calls wait for, and ends those that have waited long enough.
type watcher struct {
	session *session
	// wake holds one token when the watcher is to look again.
	wake chan struct{}
}

// watch looks at the obstacle whenever that changes, until the session ends.
func (w *watcher) watch() {
	s := w.session
	for {
		o, changed := s.cfg.Obstacle()
		var again <-chan time.Time
		if o != nil && o.Final != nil {
			s.giveUp(o)
		} else if d := w.report(o); d > 0 {
			again = time.After(d)
		}
		select {
		case <-changed:
		case <-again:
		case <-w.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

// lookAgain makes the watcher look again at once.
func (w *watcher) lookAgain() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// report tells the host what its calls wait for: the obstacle o, or, where that is nil, a server that has not answered
// initialize yet. It returns after how long to look again. 0 means at the next change.
func (w *watcher) report(o *Obstacle) time.Duration {
	s := w.session
	next := s.early.signIn.show(o)
	if s.early.notePending(o) && o == nil {
		o = s.serverSilent()
	}
	if o == nil {
		return next
	}
	if left := w.expire(o); next == 0 || left < next {
		next = left
	}
	return next
}

// serverSilent is the obstacle of a server that has not answered yet, where nothing else is in the way.
func (s *session) serverSilent() *Obstacle {
	return &Obstacle{Kind: "timeout", Text: where(s.cfg.URL) + ": no answer yet"}
}

// expire ends the calls that have waited for o long enough, and tells the host that the others wait. It returns after how
// long to look again.
func (w *watcher) expire(o *Obstacle) time.Duration {
	s := w.session
	now := time.Now()
	// A call that arrives from now on has at least this long.
	next := min(s.cfg.Patience, s.cfg.InitPatience)
	var late, toTell []*call
	for _, c := range s.calls.selected(func(c *call) bool { return !c.isInit() && c.phase.Load() != written }) {
		left := c.arrived.Add(s.cfg.Patience).Sub(now)
		if left <= 0 {
			late = append(late, c)
			continue
		}
		next = min(next, left)
		if c.progress == "" {
			continue
		}
		due := c.arrived.Add(s.cfg.InitPatience)
		if sent := c.state.progressSent; !sent.IsZero() {
			due = sent.Add(progressEvery)
		}
		if !due.After(now) {
			c.state.progressSent, due = now, now.Add(progressEvery)
			toTell = append(toTell, c)
		}
		next = min(next, due.Sub(now))
	}
	for _, c := range toTell {
		s.write(w.waitingNotice(c, now, o), false)
	}
	for _, c := range late {
		if c.signIn && o.URL != "" {
			s.answer(c, resultLine(c.ID, signInPending(s.cfg.URL, o)))
		}
		c.cancel(o.fault())
	}
	return next
}

// waitingNotice is a progress notification which says that c waits for o. Progress must not go back (basic/utilities/progress), so its numbers stay below
// any that the server may count from 1 later.
func (w *watcher) waitingNotice(c *call, now time.Time, o *Obstacle) []byte {
	text := clean(o.Text, w.session.cfg.Mask, maxText)
	if o.URL != "" {
		text += ": " + o.URL
	}
	return ownNotification("notifications/progress", encode(map[string]any{
		"progressToken": json.RawMessage(rawjson.Member(c.Params, "_meta", "progressToken")),
		"progress":      now.Sub(c.arrived).Round(time.Millisecond).Seconds() / 1000, "message": text})).Raw
}
