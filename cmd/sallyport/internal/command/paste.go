package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/sshtunnel"
)

// maxPasted is how many bytes of stdin a pasted callback may have.
const maxPasted = 64 << 10

// paste is `sallyport login --paste`: it hands a callback that the person has copied to the process
// that waits for it. The person is asked for it only if a login waits.
func paste(ctx context.Context, a *app, c *cli.LoginCommand) error {
	logins := findWaitingLogins(ctx, a, c.Store)
	if len(logins.waiting) == 0 {
		return logins.notTaken()
	}
	text := strings.Join(append([]string{c.URL}, c.More...), " ")
	if text == "" {
		var err error
		if text, err = askCallback(ctx, a, logins); err != nil {
			return err
		}
	}
	callback, err := control.ParseCallback(text)
	if err != nil {
		return err
	}
	to, err := logins.deliver(ctx, callback)
	if err != nil {
		return err
	}
	a.messages.Say("signed in to %s", to.Upstream)
	return nil
}

// askCallback asks for the callback on the terminal. If stdin is something else, the text is there.
func askCallback(ctx context.Context, a *app, logins *waitingLogins) (string, error) {
	if !person.ReadsTerminal(a.std.In) {
		text, err := io.ReadAll(io.LimitReader(a.std.In, maxPasted))
		return string(text), err
	}
	for _, login := range logins.waiting {
		a.messages.Say("%s waits for the sign-in to %s", processOf(login.Status), login.Status.Upstream)
	}
	text, err := person.AskLine(ctx, "paste the address of the page that your browser could not open, and press Enter: ")
	if errors.Is(err, sshtunnel.ErrNoPerson) { // Ctrl-D
		return "", nil
	}
	return text, err
}

// processOf names a process for people.
func processOf(s control.Status) string {
	return fmt.Sprintf("%s %d", cmp.Or(s.Command, "proxy"), s.PID)
}

// waitingLogins are the processes on this machine that may wait for a callback.
type waitingLogins struct {
	// waiting are those whose sign-in is pending, and idle all others.
	waiting, idle []control.Answer
}

// findWaitingLogins asks the processes of this user.
func findWaitingLogins(ctx context.Context, a *app, settings cli.Store) *waitingLogins {
	l := new(waitingLogins)
	sockets, refused := control.Sockets(a.controlDirs(settings))
	reportEach(a, refused)
	for _, answer := range control.AskAll(ctx, sockets) {
		switch {
		case answer.Err != nil:
			a.log.Debug("a control socket does not answer", "path", answer.Path, "err", answer.Err)
		case answer.Status.SignIn == control.SignInPending:
			l.waiting = append(l.waiting, answer)
		default:
			l.idle = append(l.idle, answer)
		}
	}
	// The login that the person has begun last is the most likely one.
	slices.SortFunc(l.waiting, func(a, b control.Answer) int { return b.Status.Started.Compare(a.Status.Started) })
	return l
}

// deliver hands the callback to one after the other until one takes it, and returns that one. The
// error is a *control.NotTakenError or a *control.LoginFailedError, or that of the socket.
func (l *waitingLogins) deliver(ctx context.Context, callback *url.URL) (control.Status, error) {
	notTaken := l.notTaken()
	for _, login := range l.waiting {
		outcome, err := control.Deliver(ctx, login.Path, callback)
		switch {
		case ctx.Err() != nil:
			return login.Status, context.Cause(ctx)
		case err != nil && !errors.Is(err, control.ErrUnknownRequest):
			return login.Status, err
		case err != nil:
			notTaken.Old = append(notTaken.Old, login.Status)
		case outcome.Outcome == control.SignedIn:
			return login.Status, nil
		case outcome.Outcome == control.Failed && outcome.Problem != nil:
			return login.Status, &control.LoginFailedError{Problem: *outcome.Problem}
		case outcome.Outcome != control.NotMine:
			return login.Status, fmt.Errorf("%s has the callback, and its login to %s goes on", processOf(login.Status), login.Status.Upstream)
		}
	}
	return control.Status{}, notTaken
}

// notTaken is the error if no login takes the callback.
func (l *waitingLogins) notTaken() *control.NotTakenError {
	e := new(control.NotTakenError)
	for _, login := range l.waiting {
		e.Waiting = append(e.Waiting, login.Status)
	}
	for _, other := range l.idle {
		e.Idle = append(e.Idle, other.Status)
	}
	return e
}

// delivery hands pasted callbacks to the login of a session.
type delivery struct {
	app      *app
	session  *session.Session
	settings cli.Store
}

// text hands a pasted callback to the login of the session or, if another process leads that, to
// the process that waits for it. It returns when that login has ended.
func (d delivery) text(ctx context.Context, text string) error {
	callback, err := control.ParseCallback(text)
	if err != nil {
		return err
	}
	err = d.session.SignIn.Deliver(ctx, callback)
	if !errors.Is(err, oauth.ErrNoSignIn) {
		return err
	}
	_, err = findWaitingLogins(ctx, d.app, d.settings).deliver(ctx, callback)
	return err
}

// takeTyped takes a callback that the person pastes into the terminal while the login of the
// session waits for the browser, until stop is called.
func (d delivery) takeTyped(ctx context.Context) (stop func()) {
	if !person.CanPaste(d.app.std.In) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	waits := func() bool {
		state, _ := d.session.SignIn.State()
		return state.Prompt.RedirectURI != ""
	}
	go person.TypedLines(ctx, waits, func(line string) { // ends with ctx
		if strings.TrimSpace(line) == "" {
			return
		}
		err := d.text(ctx, line)
		// The login itself reports how it ended.
		_, unreadable := errors.AsType[*control.NoCallbackError](err)
		_, notTaken := errors.AsType[*control.NotTakenError](err)
		if unreadable || notTaken || errors.Is(err, oauth.ErrIncomplete) {
			e := d.app.words.Error(err)
			d.app.messages.Report(e.Text, e.Hints)
		}
	})
	return cancel
}

// fromProcess hands a callback that another process brings to the login of the session.
func (d delivery) fromProcess(ctx context.Context, callback *url.URL) control.Outcome {
	err := d.session.SignIn.Deliver(ctx, callback)
	switch {
	case err == nil:
		return control.Outcome{Outcome: control.SignedIn}
	case errors.Is(err, oauth.ErrNoSignIn):
		return control.Outcome{Outcome: control.NotMine}
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return control.Outcome{Outcome: control.Pending}
	}
	e := d.app.words.Error(err)
	return control.Outcome{Outcome: control.Failed, Problem: &control.Problem{Kind: e.Kind, Text: e.Text, Hints: e.Hints}}
}
