package doctor

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
)

// walk is one run.
type walk struct {
	Config
	report *Report

	// mu guards the report and the calls of Begin and Done.
	mu sync.Mutex
	// began is when the row began that is being looked at.
	began time.Time

	// s is nil if the settings cannot be used.
	s *session.Session
	// why says why s is nil, in few words.
	why string
	// chains are those of the tunnels of s, in their order.
	chains []*chain
	// met is what the first request to the upstream met. It is nil if there was none.
	met *meeting
	// found is what the login server's metadata says.
	found signInFacts
	// signedIn says that the store has a token, or what renews one.
	signedIn bool
	// viaShared says that tunnels may go through a shared connection that is up.
	viaShared bool
	// skipped is what the log says of the parts of ssh_config that are skipped.
	skipped skippedConfig
	// closers end what was opened.
	closers []func()
}

func newWalk(cfg Config) *walk {
	if cfg.Begin == nil {
		cfg.Begin = func(string) {}
	}
	if cfg.Done == nil {
		cfg.Done = func(Check) {}
	}
	version := cfg.Env.Version
	if version == "" {
		version = "devel"
	}
	w := &walk{Config: cfg, report: &Report{
		Version: Version, Sallyport: version, System: runtime.GOOS + "/" + runtime.GOARCH, Checks: []Check{},
	}}
	if cfg.Client != nil {
		w.report.Client = cfg.Client.Name
	}
	if cfg.Command != nil {
		w.report.Via = cfg.Command.Via
	}
	return w
}

// close ends what the run has opened.
func (w *walk) close() {
	for _, f := range slices.Backward(w.closers) {
		f()
	}
	if w.s != nil {
		w.s.Close()
	}
}

// finish returns the report.
func (w *walk) finish() *Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	if first := w.report.First(); first != nil {
		w.report.FirstFailure = first.ID
	}
	return w.report
}

// begin says which row is being looked at.
func (w *walk) begin(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = time.Now()
	w.Begin(id)
}

// add adds a row that is known now.
func (w *walk) add(c Check) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	c.Summary, c.Why = person.OneLine(c.Summary), whyOf(c.ID)
	if !w.began.IsZero() && c.Result != Skipped {
		c.Milliseconds = now.Sub(w.began).Milliseconds()
	}
	w.began = now
	w.report.Checks = append(w.report.Checks, c)
	w.Done(c)
}

// ok adds a row about something that is as it should be.
func (w *walk) ok(id, summary string, evidence ...string) {
	w.add(Check{ID: id, Result: OK, Summary: summary, Evidence: evidence})
}

// skip adds a row that is not looked at.
func (w *walk) skip(id, because string, next ...string) {
	w.add(Check{ID: id, Result: Skipped, Summary: because, Next: next})
}

// skipAll adds rows that are not looked at, for one reason.
func (w *walk) skipAll(because string, ids ...string) {
	for _, id := range ids {
		w.skip(id, because)
	}
}

// fail adds a row about something that does not work, in the words for err.
func (w *walk) fail(id string, err error, evidence ...string) {
	e := w.Words.Error(err)
	w.failWith(id, e, evidence...)
}

// failWith adds such a row with given words.
func (w *walk) failWith(id string, e explain.Explanation, evidence ...string) {
	w.mu.Lock()
	if w.report.Status == explain.StatusDone {
		w.report.Status = e.Status
	}
	w.mu.Unlock()
	w.add(Check{ID: id, Result: Fail, Summary: e.Text, Evidence: evidence, Next: e.Hints, Kind: e.Kind})
}

// openSession opens a session that only looks.
func (w *walk) openSession(ctx context.Context) (*session.Session, error) {
	if !w.viaShared {
		w.chains = nil
	}
	return session.Open(ctx, session.Config{
		Settings: w.Command.Remote, Env: w.Env, SocketDirs: w.SocketDirs, OnlyLooks: true, Ask: w.Ask,
		Log:    slog.New(configLog{Handler: w.Log.Handler(), skipped: &w.skipped}),
		Adjust: w.adjust,
		Logins: session.Logins{Offer: func(*session.Session) session.Offer {
			return func(context.Context, oauth.Prompt, func(func(helper.Shown))) {}
		}},
	})
}

// hops dials the tunnels and makes the rows of their hops.
func (w *walk) hops(ctx context.Context) {
	for _, c := range w.chains {
		if c.hosts == nil {
			return
		}
		if c.up = w.tellHops(ctx, c); !c.up && c.prefix == viaPrefix {
			lastHopRows{w, c}.takeShared(ctx)
		}
		if c.prefix == viaPrefix {
			lastHopRows{w, c}.tell(ctx)
		}
		if c.up && c.dialed {
			lastHopRows{w, c}.tellTrips(ctx)
		}
	}
}

// reached reports whether the row of the connection to the upstream is good.
func (w *walk) reached() bool { return w.resultOf(idTCP) == OK }

// resultOf returns the result of a row, or "".
func (w *walk) resultOf(id string) Result {
	for _, c := range w.report.Checks {
		if c.ID == id {
			return c.Result
		}
	}
	return ""
}

// attended reports whether a person takes part in the grant of the settings.
func (w *walk) attended() bool {
	return slices.Contains([]string{"", oauth.GrantAuto, oauth.GrantAuthorizationCode, oauth.GrantDeviceCode}, w.s.Parts.Grant())
}
