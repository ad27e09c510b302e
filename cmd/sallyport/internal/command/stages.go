package command

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/cmd/sallyport/internal/obstacle"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
)

// slowStage is how long a stage of a login lasts before it is told in a line of its own, where
// lines cannot be drawn again.
const slowStage = 2 * time.Second

// loginLine shows at which stage a login is: as the live line of the terminal, or elsewhere in one
// line for each stage that takes its time.
type loginLine struct {
	app     *app
	session *session.Session
	stages  obstacle.Stages
	// between is the stage while neither a tunnel is dialed nor a login is under way.
	between atomic.Value
	// stage is the present one, since begun. It is told once in a line.
	stage  string
	begun  time.Time
	isTold bool
}

// showStages shows the stages of a login until stop is called, which may be called again. The function between sets what is
// done while neither a tunnel is dialed nor a login is under way.
func (a *app) showStages(ctx context.Context, s *session.Session) (between func(string), stop func()) {
	l := &loginLine{app: a, session: s, stages: obstacle.Stages{Hops: s.Hops.Via, CallbackHops: s.Hops.Callback}}
	l.between.Store("")
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { l.run(ctx) }) // ends with ctx
	return func(text string) { l.between.Store(text) }, func() {
		cancel()
		done.Wait()
		a.screen.Show("")
	}
}

// run shows the stages until ctx ends.
func (l *loginLine) run(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		states, changes := obstacle.Look(l.session.Tunnel, l.session.CallbackTunnel, l.session.SignIn)
		l.show(states, time.Now())
		select {
		case <-changes.Tunnel:
		case <-changes.Callback:
		case <-changes.SignIn:
		case <-second.C:
		case <-ctx.Done():
			return
		}
	}
}

// show shows the stage of the states.
func (l *loginLine) show(s obstacle.States, now time.Time) {
	text := cmp.Or(l.stages.Now(s, now), l.between.Load().(string))
	if l.session.Hops.RunsProgram(s.Tunnel.Hop) || l.session.Hops.RunsProgram(s.Callback.Hop) {
		text = "" // its ProxyCommand may ask the person on the terminal
	}
	if l.app.screen.Show(text) {
		return
	}
	if s.SignIn.Prompt != (oauth.Prompt{}) {
		return // the link and its hints have said that the browser is waited for
	}
	if text != l.stage {
		l.stage, l.begun, l.isTold = text, now, false
	}
	if text != "" && !l.isTold && now.Sub(l.begun) >= slowStage {
		l.app.messages.Say("%s", text)
		l.isTold = true
	}
}
