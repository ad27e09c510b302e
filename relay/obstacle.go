package relay

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Obstacle is what is in the way of the upstream at present, in words for people. It is a state: it stands until
// Config.Obstacle returns another one, and requests wait for that.
type Obstacle struct {
	// Kind is a stable word: unreachable, sign_in, host_key, ssh_auth, config, tls, timeout, status and others.
	Kind string
	// Text is one line that says what is in the way, and where.
	Text string
	// URL is what a person has to open. "" means that there is nothing to open.
	URL string
	// Code is what the page at URL asks for, or shows. "" means that there is no code.
	Code string
	// Hints say what to do next, one line each.
	Hints []string
	// Final is not nil if waiting cannot mend this. Every request is then answered with the obstacle, and Run
	// returns Final.
	Final error
}

// Explanation is one error in words for people. It is an event: it belongs to the one request that met the error, and does not
// make others wait.
type Explanation struct {
	// Kind is a stable word, as that of an Obstacle. The default is "unreachable".
	Kind string
	// Text is one line that says what happened, and where. The default is the error's own text.
	Text string
	// Hints say what to do next, one line each.
	Hints []string
	// Final is not nil if waiting cannot mend this. The request is then answered, and Run returns Final.
	Final error
	// NotRun says that the upstream has refused the request, so that it may be sent again.
	NotRun bool
}

// KindSignIn is the Obstacle.Kind of a sign-in that waits for a person.
const KindSignIn = "sign_in"

// noticeWait is how long later messages wait for the server to accept a notification before them.
const noticeWait = 10 * time.Second

// obstacles knows what is in the way of the upstream, and puts errors into words.
type obstacles struct {
	*run
	// giveUp is called with what waiting cannot mend.
	giveUp func(*Obstacle)
}

// change returns the channel of the next change while something that may pass is in the way. Otherwise it returns nil.
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

// waitWhile waits as long as there is an obstacle for which is returns true. The error is the cause of ctx.
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

// waitAccepted waits for accepted, but no longer than noticeWait in which nothing is in the way.
func (o *obstacles) waitAccepted(accepted <-chan struct{}) {
	for {
		current, changed := o.cfg.Obstacle()
		var late <-chan time.Time
		if current == nil {
			late = time.After(noticeWait)
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
	return &fault{code: codeTransport, kind: e.Kind, text: e.Text, hints: e.Hints, notRun: e.NotRun, passes: true, cause: err}
}
