package obstacle

import (
	"context"
	"errors"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
	"sallyport/relay"
	"sallyport/sshtunnel"
)

// Watcher follows the states of one session. It tells the person on stderr when the obstacle
// changes. Its methods may be called concurrently.
type Watcher struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	current *relay.Obstacle
	// problem is what the last answer to the MCP host said was wrong. It is nil after a success.
	problem  *relay.Explanation
	changed  chan struct{} // closed and replaced after each change of a state
	reported string        // the last text on stderr; "" if the next one is news in any case
	stages   Stages
}

// Config says what a Watcher follows.
type Config struct {
	// Tunnel leads to the upstream, by way of the host Via. It is nil if requests leave directly.
	Tunnel *sshtunnel.Tunnel
	Via    string
	// Callback is the tunnel to the workstation. It is nil if the callback is accepted here.
	Callback *sshtunnel.Tunnel
	// Hops and CallbackHops are the aliases of the hosts that the tunnels pass, in order.
	Hops, CallbackHops []string
	// SignIn is the sign-in.
	SignIn *oauth.Transport
	// Lent returns what helpers show of the login under way, and a channel that is closed at the
	// next change.
	Lent func() (helper.Shown, <-chan struct{})
	// Elsewhere says what the person does if the browser is on another machine. It is asked when a
	// login waits, because it may look up a name. It is nil if the browser of this machine serves.
	Elsewhere func() string
	// Words explains errors.
	Words explain.Explainer
	// Report shows a line and hints to the person.
	Report func(text string, hints []string)
}

// NewWatcher returns a watcher. It follows the states while the caller runs Run.
func NewWatcher(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, changed: make(chan struct{}), stages: Stages{Hops: cfg.Hops, CallbackHops: cfg.CallbackHops}}
}

// Stage says what the way to the upstream, or the sign-in, is at. It is empty if nothing is under
// way.
func (w *Watcher) Stage() string {
	s, _ := Look(w.cfg.Tunnel, w.cfg.Callback, w.cfg.SignIn)
	return w.stage(s)
}

// stage is Stage with the states. It notes what they show of the sign-in.
func (w *Watcher) stage(s States) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stages.Now(s, time.Now())
}

// Obstacle returns what is in the way, and a channel that is closed after the next change of a
// state. It serves as relay.Config.Obstacle.
func (w *Watcher) Obstacle() (*relay.Obstacle, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, w.changed
}

// Explain words the error of one request. It serves as relay.Config.Explain.
func (w *Watcher) Explain(err error) relay.Explanation {
	e := w.cfg.Words.Error(err)
	return relay.Explanation{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Final: e.Final, NotRun: e.NotRun}
}

// Answered notes what the MCP host was told, and tells the person the same. A nil e stands for an
// answer of the upstream. It serves as relay.Config.Answered.
func (w *Watcher) Answered(e *relay.Explanation) {
	w.mu.Lock()
	if e == nil && w.problem == nil { // the usual case
		w.mu.Unlock()
		return
	}
	w.problem = e
	if e == nil {
		w.reported = ""
	}
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	if e != nil {
		w.report(&relay.Obstacle{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Final: e.Final})
	}
}

// Problem returns what is wrong at present: the obstacle in the way, or else what the last answer
// told the MCP host, or else why the last sign-in failed. It returns nil if nothing is wrong.
func (w *Watcher) Problem() *relay.Explanation {
	w.mu.Lock()
	o, e := w.current, w.problem
	w.mu.Unlock()
	if o != nil {
		return &relay.Explanation{Kind: o.Kind, Text: o.Text, Hints: o.Hints}
	}
	if e != nil {
		return e
	}
	if s, _ := w.cfg.SignIn.State(); s.Err != nil && !errors.Is(s.Err, context.Canceled) {
		x := w.cfg.Words.Error(s.Err)
		return &relay.Explanation{Kind: x.Kind, Text: x.Text, Hints: x.Hints}
	}
	return nil
}

// Run follows the states until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	wasDown := false
	for {
		s, changes := Look(w.cfg.Tunnel, w.cfg.Callback, w.cfg.SignIn)
		if w.cfg.Elsewhere != nil && s.SignIn.Prompt != (oauth.Prompt{}) {
			s.Elsewhere = w.cfg.Elsewhere()
		}
		var lent <-chan struct{}
		s.Lent, lent = w.cfg.Lent()
		w.stage(s)
		o := printable(Current(s, w.cfg.Words))
		w.set(o)
		w.report(o)
		switch {
		case s.Tunnel.Err != nil:
			wasDown = true
		case wasDown && s.Tunnel.Phase == sshtunnel.Up:
			wasDown = false
			w.cfg.Report("the tunnel via "+w.cfg.Via+" is up", nil)
		}
		select {
		case <-changes.Tunnel:
		case <-changes.Callback:
		case <-changes.SignIn:
		case <-lent:
		case <-ctx.Done():
			return
		}
	}
}

// report writes o on stderr unless it was the last to be written. The login has shown its link
// itself, and a final obstacle is reported as the command's error.
func (w *Watcher) report(o *relay.Obstacle) {
	if o == nil || o.Kind == explain.KindSignIn && o.URL != "" || o.Final != nil {
		return
	}
	w.mu.Lock()
	known := w.reported == o.Text
	w.reported = o.Text
	w.mu.Unlock()
	if !known {
		w.cfg.Report(o.Text, o.Hints)
	}
}

func (w *Watcher) set(o *relay.Obstacle) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	if o == nil && w.current != nil && w.current.Text == w.reported {
		w.reported = "" // it is over, so it is reported again the next time
	}
	w.current, w.changed = o, make(chan struct{})
}

// Changes are closed when what they are named after has changed.
type Changes struct {
	// Tunnel and Callback are nil, which never delivers, if there is no such tunnel.
	Tunnel, Callback, SignIn <-chan struct{}
}

// Look returns the states of the tunnels, which may be nil, and of the sign-in.
func Look(tunnel, callback *sshtunnel.Tunnel, signIn *oauth.Transport) (s States, c Changes) {
	s.Tunnel, c.Tunnel = tunnelState(tunnel)
	s.Callback, c.Callback = tunnelState(callback)
	s.SignIn, c.SignIn = signIn.State()
	return s, c
}

// tunnelState returns the state of a tunnel that may not exist. A nil channel never delivers.
func tunnelState(t *sshtunnel.Tunnel) (sshtunnel.State, <-chan struct{}) {
	if t == nil {
		return sshtunnel.State{}, nil
	}
	return t.State()
}
