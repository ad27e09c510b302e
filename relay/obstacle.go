package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// Obstacle is what is in the way of the upstream at present, in words for people. It is a state: it
// stands until Config.Obstacle returns another one, and requests wait for that.
type Obstacle struct {
	// Kind is a stable word: unreachable, sign_in, host_key, ssh_auth, config, tls, timeout, status
	// and others.
	Kind string
	// Text is one line that says what is in the way, and where.
	Text string
	// URL is what a person has to open. "" means that there is nothing to open.
	URL string
	// Code is what the page at URL asks for, or shows. "" means that there is no code.
	Code string
	// CodeURL is a page at which the person may enter Code in place of opening URL, which then asks
	// for none. It is "" if Code belongs to URL.
	CodeURL string
	// Elsewhere says what the person does, or sees, on another machine, if the browser is there. It
	// is one of Hints, too. It is "" if there is nothing to say.
	Elsewhere string
	// Hints say what to do next, one line each.
	Hints []string
	// Person says that the obstacle stays until a person has done something. An obstacle of
	// KindSignIn always does.
	Person bool
	// Final is not nil if waiting does not help. Every request is then answered with the
	// obstacle, and Run returns Final.
	Final error
}

// Explanation is one error in words for people. It is an event: it belongs to the one request that
// met the error, and does not make others wait.
type Explanation struct {
	// Kind is a stable word, as that of an Obstacle. The default is "unreachable".
	Kind string
	// Text is one line that says what happened, and where. The default is the error's own text.
	Text string
	// Hints say what to do next, one line each.
	Hints []string
	// Final is not nil if waiting does not help. The request is then answered, and Run returns
	// Final.
	Final error
	// NotRun says that the upstream has refused the request, so that it may be sent again.
	NotRun bool
}

// needsPerson reports whether o stays until a person has done something. A nil o is no obstacle.
func (o *Obstacle) needsPerson() bool { return o != nil && (o.Person || o.Kind == KindSignIn) }

// Kinds of a sign-in.
const (
	// KindSignIn is the kind of a sign-in that waits for a person, or that failed.
	KindSignIn = "sign_in"
	// KindRefused is the kind of a sign-in that a server or the person refused.
	KindRefused = "sign_in_refused"
)

// aboutSignIn reports whether a fault of this kind is that of a sign-in. After such a fault the
// host has to ask for something before another login page may be opened.
func aboutSignIn(kind string) bool { return kind == KindSignIn || kind == KindRefused }

// acceptWait is how long later messages wait for the server to accept a notification before them.
const acceptWait = 10 * time.Second

// obstacles knows what is in the way of the upstream, and puts errors into words.
type obstacles struct {
	*run
	// giveUp is called with an obstacle that waiting does not end.
	giveUp func(*Obstacle)
	// pauses are what the upstream asks for.
	pauses pauses
}

// change returns the channel of the next change while something that may pass is in the way.
// Otherwise it returns nil.
func (o *obstacles) change() <-chan struct{} {
	if current, changed := o.cfg.Obstacle(); current != nil && current.Final == nil {
		return changed
	}
	return nil
}

// waitClear waits until nothing that may pass is in the way. The error is the cause of ctx.
func (o *obstacles) waitClear(ctx context.Context) error {
	return o.waitWhile(ctx, func(current *Obstacle) bool { return current.Final == nil })
}

// waitWhile waits as long as there is an obstacle for which is returns true. The error is the cause
// of ctx.
func (o *obstacles) waitWhile(ctx context.Context, is func(*Obstacle) bool) error {
	for {
		current, changed := o.cfg.Obstacle()
		if current == nil || !is(current) {
			return nil
		}
		if err := wait(ctx, changed); err != nil {
			return err
		}
	}
}

// bounded returns a context that ends with ctx, or with the cause errTimeout after limit. If there
// is an obstacle at the end of limit, that starts anew. The caller calls stop.
func (o *obstacles) bounded(ctx context.Context, limit time.Duration) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil && o.change() != nil {
			timer.Reset(limit)
			return
		}
		cancel(errTimeout)
	})
	return ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		cancel(nil)
		timer.Stop()
	}
}

// waitAccepted waits for accepted, but no longer than acceptWait in which nothing is in the way.
func (o *obstacles) waitAccepted(accepted <-chan struct{}) {
	for {
		current, changed := o.cfg.Obstacle()
		var late <-chan time.Time
		if current == nil {
			late = time.After(acceptWait)
		}
		select {
		case <-accepted:
			return
		case <-late:
			return
		case <-changed:
		}
	}
}

// explain puts an error of the RoundTripper into words. A final one ends the session.
func (o *obstacles) explain(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	e := o.cfg.Explain(err)
	e.Kind = cmp.Or(e.Kind, "unreachable")
	e.Text = cmp.Or(e.Text, err.Error())
	if e.Final != nil {
		o.giveUp(&Obstacle{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Final: e.Final})
	}
	f := newFault(codeTransport, e.Kind, e.Text, e.Hints...)
	f.notRun, f.passes, f.cause, f.final = e.NotRun, true, err, e.Final
	return f
}

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

// report tells the host what its calls wait for: the obstacle o, or, where that is nil, a server
// that has not answered initialize yet. It returns after how long to look again. 0 means at the
// next change.
func (w *watcher) report(o *Obstacle) time.Duration {
	s := w.session
	next := s.early.signIn.show(o)
	expires := s.early.notePending(o) || o != nil
	if o == nil {
		o = s.obstacles.pauses.obstacle()
	}
	if o == nil && expires {
		o = s.serverSilent()
	}
	if o == nil {
		return next
	}
	if left := w.expire(o, expires); next == 0 || left < next {
		next = left
	}
	return next
}

// serverSilent is the obstacle of a server that has not answered yet, where nothing else is in the
// way. If an attempt to open the session has failed, that is the cause.
func (s *session) serverSilent() *Obstacle {
	if f := s.early.lastFailure(); f != nil {
		return &Obstacle{Kind: f.kind, Text: f.text, Hints: f.hints}
	}
	return &Obstacle{Kind: "timeout", Text: where(s.cfg.URL) + ": no answer yet"}
}

// expire ends the calls that have waited for o long enough, unless o is only a pause, and tells the
// host that the others wait. It returns after how long to look again.
func (w *watcher) expire(o *Obstacle, expires bool) time.Duration {
	s := w.session
	now := time.Now()
	// A call that arrives from now on has at least this long.
	next := min(s.cfg.Patience, s.cfg.InitPatience)
	var late, toTell []*call
	for _, c := range s.calls.selected(waitsForObstacle) {
		if c.signIn && callbackOf(c) == "" && s.early.signIn.isNews(o) {
			late = append(late, c)
			continue
		}
		if expires && c.phase.Load() != held {
			left := c.patience().Add(s.cfg.Patience).Sub(now)
			if left <= 0 {
				late = append(late, c)
				continue
			}
			next = min(next, left)
		}
		if c.progress == "" {
			continue
		}
		due := c.arrived
		if !c.signIn { // such a call is about the obstacle itself
			due = due.Add(s.cfg.InitPatience)
		}
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
		s.write(w.waitingNotification(c, now, o))
	}
	for _, c := range late {
		if c.signIn && o.URL != "" {
			s.answer(c, resultLine(c.ID, signInPending(s.cfg.URL, o)))
		}
		c.cancel(o.fault())
	}
	return next
}

// waitsForObstacle reports whether c is a call that an obstacle or a pause keeps back.
func waitsForObstacle(c *call) bool {
	p := c.phase.Load()
	return !c.isInit() && p != written && p != asking
}

// waitingNotification is a progress notification which says that c waits for o. Progress must not
// go back (basic/utilities/progress), so its numbers stay below any that the server may count from
// 1 later.
func (w *watcher) waitingNotification(c *call, now time.Time, o *Obstacle) []byte {
	text := clean(o.Text, w.session.cfg.Mask, maxText)
	if stage := w.session.cfg.Stage(); stage != "" {
		text += " (" + clean(stage, w.session.cfg.Mask, maxText) + ")"
	}
	if o.URL != "" {
		text += ": " + o.URL
	}
	if o.CodeURL != "" {
		text += o.withCode()
	}
	return ownNotification("notifications/progress", encode(map[string]any{
		"progressToken": json.RawMessage(rawjson.Member(c.Params, "_meta", "progressToken")),
		"progress":      now.Sub(c.arrived).Round(time.Millisecond).Seconds() / 1000, "message": text})).Raw
}
