package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"sallyport/oauth"
	"sallyport/relay"
	"sallyport/sshtunnel"
)

// Run is the proxy: it carries one MCP session until stdin ends or an obstacle is final.
func (c *proxyCommand) Run(ctx context.Context, a *app) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer parentGone(cancel)() // stdin stays open where another process has the host's end of it
	w, err := a.newWay(ctx, &c.upstreamFlags, false)
	if err != nil {
		return err
	}
	watch := newWatch(a, w)
	started := time.Now()
	stopControl := make(chan func(), 1)
	go func() { // the session does not wait for its beginning
		stopControl <- a.serveControl(controlDirs(a.env, cmp.Or(c.StateDir, stateDir(a.env))), func() proxyStatus {
			s := w.status()
			s.PID, s.Started, s.Profile = os.Getpid(), started, c.Profile
			return s
		})
	}()
	watching, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { watch.run(watching) }) // ends with watching
	defer within(closeGrace, func() {
		(<-stopControl)()
		stop()
		done.Wait()
		w.Close()
	})

	err = relay.Run(ctx, relay.Config{
		In: a.in, Out: hostOut(a.out),
		URL: w.upstream, Header: w.header, Send: w.login, Background: w.login.Background(),
		Transport: c.Transport, IgnoreTools: c.IgnoreTool,
		ProtocolVersion: c.ProtocolVersion, NoServerStream: !c.ServerStream,
		Timeout:  time.Duration(c.Timeout),
		Obstacle: watch.obstacle,
		Idle:     shrink(a.in),
		Explain:  watch.explain,
		SignIn:   w.login.SignIn,
		Load:     w.load, Save: w.save,
		Mask:    w.mask,
		Version: version,
		Log:     a.log,
	})
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		a.log.Info("the MCP host stopped reading", "err", err)
		return nil // the host's way to say goodbye
	}
	return err
}

// closeGrace is what a proxy that ends waits for its parts: a host kills a server that lingers, and
// one that reads no stderr must not hold it.
const closeGrace = time.Second

// within runs f and returns when it has ended, or after the time.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() { // ends with f, or with the process
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// watch folds the states of the tunnels and of the login into the one obstacle that the relay asks
// about, and tells the person on stderr when it changes.
type watch struct {
	app *app
	way *way

	mu      sync.Mutex // guards what follows
	current *relay.Obstacle
	changed chan struct{}
	told    string // the last text on stderr
}

func newWatch(a *app, w *way) *watch { return &watch{app: a, way: w, changed: make(chan struct{})} }

// obstacle is what relay.Config.Obstacle asks for.
func (w *watch) obstacle() (*relay.Obstacle, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, w.changed
}

// explain is what relay.Config.Explain asks for: err is of one request.
func (w *watch) explain(err error) relay.Explanation {
	e := explain(err)
	if !errors.Is(err, context.Canceled) {
		w.tell(e.obstacle())
	}
	return relay.Explanation{Kind: e.kind, Text: e.text, Hints: e.hints, Final: e.final, NotRun: e.notRun}
}

// run follows the states until ctx ends.
func (w *watch) run(ctx context.Context) {
	down := false // as the person was told
	for {
		tunnel, tunnelChanged := state(w.way.tunnel)
		callback, callbackChanged := state(w.way.callback)
		login, loginChanged := w.way.login.State()
		o := fold(tunnel, callback, login)
		w.set(o)
		w.tell(o)
		switch {
		case tunnel.Err != nil:
			down = true
		case down && tunnel.Phase == sshtunnel.Up:
			down = false
			w.app.reportLines("the tunnel via "+w.way.via+" is up", nil)
		}
		select {
		case <-tunnelChanged:
		case <-callbackChanged:
		case <-loginChanged:
		case <-ctx.Done():
			return
		}
	}
}

// tell writes o on stderr unless it was the last to be written. A link was shown by itself, and a
// final obstacle is reported by run, as the command's error.
func (w *watch) tell(o *relay.Obstacle) {
	if o == nil || o.Kind == kindSignIn && o.URL != "" || o.Final != nil {
		return
	}
	w.mu.Lock()
	known := w.told == o.Text
	w.told = o.Text
	w.mu.Unlock()
	if !known {
		w.app.reportLines(o.Text, o.Hints)
	}
}

func (w *watch) set(o *relay.Obstacle) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	if o == nil && w.current != nil {
		w.told = "" // the next time is news again
	}
	w.current, w.changed = o, make(chan struct{})
}

// state is t.State for a tunnel that may not exist.
func state(t *sshtunnel.Tunnel) (sshtunnel.State, <-chan struct{}) {
	if t == nil {
		return sshtunnel.State{}, nil
	}
	return t.State()
}

// heldPage is the obstacle of a login that may not show its page before at.
func heldPage(at time.Time) *relay.Obstacle {
	return &relay.Obstacle{
		Kind: kindSignIn, Text: "a sign-in is wanted; its page opens at " + at.Format(time.TimeOnly) + ", for the last one was opened shortly before and not used",
		Hints: []string{"wait for the link, or type sallyport login URL in a terminal, which opens a page at once"},
	}
}

// fold finds the first thing that is in the way, the nearest to us first.
func fold(tunnel, callback sshtunnel.State, login oauth.State) *relay.Obstacle {
	prompt := login.Prompt
	switch {
	case tunnel.Err != nil:
		return explain(tunnel.Err).obstacle()
	case callback.Err != nil && login.Busy: // else a workstation that sleeps is in nobody's way
		return explain(callback.Err).obstacle()
	case prompt.AuthorizeURL != "":
		link := cmp.Or(prompt.StartURL, prompt.AuthorizeURL) // hosts log what they are sent; the state is not for them
		o := &relay.Obstacle{
			Kind: kindSignIn, Text: "a sign-in waits for the person", URL: link, Code: prompt.UserCode,
			Hints: []string{"open this link in your browser: " + link},
		}
		if prompt.UserCode != "" {
			o.Hints = append(o.Hints, codeHint(prompt))
		}
		return o
	case login.Err != nil && !errors.Is(login.Err, context.Canceled):
		if o := explain(login.Err).obstacle(); o.Final != nil {
			return o
		}
	}
	if !login.NextPage.IsZero() {
		return heldPage(login.NextPage)
	}
	return nil
}
