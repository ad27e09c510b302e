package doctor

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// Version is the version of the form of a Report.
const Version = 1

// Result is what came of a check.
type Result string

// The results of a check.
const (
	// OK means that it is as it should be.
	OK Result = "ok"
	// Warn means that it works, and may not for long or not everywhere.
	Warn Result = "warn"
	// Fail means that it does not work.
	Fail Result = "fail"
	// Skipped means that it was not looked at. The summary says why.
	Skipped Result = "skipped"
)

// Check is one row of a report.
type Check struct {
	// ID names the row. It never changes its meaning: see the package comment.
	ID string `json:"id"`
	// Result is one of the constants.
	Result Result `json:"result"`
	// Summary is one line: what was found, what is wrong, or why it was not looked at.
	Summary string `json:"summary"`
	// Why says what the row matters for.
	Why string `json:"why"`
	// Evidence is what the result was concluded from, one line each.
	Evidence []string `json:"evidence,omitempty"`
	// Next says what to type or to do next, one line each.
	Next []string `json:"next,omitempty"`
	// Kind is the kind of a failure (explain.Explanation). It is empty for other results.
	Kind string `json:"kind,omitempty"`
	// Milliseconds is how long the row took.
	Milliseconds int64 `json:"milliseconds"`
}

// Report is all that a run has found.
type Report struct {
	// Version is that of this form.
	Version int `json:"version"`
	// Sallyport is the version of the program, and System its operating system and architecture.
	Sallyport string `json:"sallyport"`
	System    string `json:"system"`
	// Client is the MCP host whose environment was used. It is empty for that of the terminal.
	Client string `json:"client,omitempty"`
	// Upstream is the URL without its query. It is empty if the settings name none.
	Upstream string `json:"upstream,omitempty"`
	// Via is the SSH host as the person named it.
	Via string `json:"via,omitempty"`
	// Status is the exit status: that of the first failure, else 0.
	Status int `json:"status"`
	// FirstFailure is the ID of the first check that failed. It is empty if none did.
	FirstFailure string `json:"first_failure,omitempty"`
	// Checks are the rows in their order.
	Checks []Check `json:"checks"`

	// hosts are the hops, for Strangers.
	hosts []*sshconfig.Host
}

// First returns the first check that failed, or nil.
func (r *Report) First() *Check {
	for i := range r.Checks {
		if r.Checks[i].Result == Fail {
			return &r.Checks[i]
		}
	}
	return nil
}

// Config says what is looked at.
type Config struct {
	// Command holds the settings of the person.
	Command *cli.DoctorCommand
	// Env is the environment of the process.
	Env environment.Environment
	// Words explains errors with these settings.
	Words explain.Explainer
	// Client is the MCP host whose environment the process has. It is nil for that of the terminal.
	Client *Client
	// Entries returns the entries of sallyport in the files of MCP hosts. If it is nil, they are
	// not looked for.
	Entries func() ([]Entry, error)
	// Ask puts a question of SSH to the person. If it is nil, nobody is asked, and no key is used
	// that needs a touch.
	Ask func(context.Context, sshtunnel.Question) (string, error)
	// SocketDirs are the directories of control sockets.
	SocketDirs []string
	// Begin is told which row is being looked at. It may be nil.
	Begin func(id string)
	// Done is told each row when it is known. It may be nil. Begin and Done are never called at the
	// same time.
	Done func(Check)
	// Log must not be nil.
	Log *slog.Logger
}

// Entry is an entry of sallyport in the file of an MCP host.
type Entry struct {
	// Host is the MCP host's name, and File its file.
	Host, File string
	// Name is what the host calls the server.
	Name string
	// Command is the program, and Args its arguments.
	Command string
	Args    []string
	// Err is what is wrong with the file or the entry. It is nil if nothing is.
	Err error
}

// wholeRun bounds a run. Each row has a bound of its own.
const wholeRun = 150 * time.Second

// Run looks at everything and returns what it found. It begins no sign-in, asks nobody unless
// Config.Ask is set, and changes nothing on the disk or at a server. It takes at most some minutes,
// and ends earlier with ctx.
func Run(ctx context.Context, cfg Config) *Report {
	ctx, cancel := context.WithTimeout(ctx, wholeRun)
	defer cancel()
	w := newWalk(cfg)
	defer w.close()
	w.client()
	w.open(ctx)
	w.hops(ctx)
	w.upstream(ctx)
	w.signIn(ctx)
	w.account(ctx)
	w.callback(ctx)
	w.local(ctx)
	return w.finish()
}

// Failed returns the report of a run that could not begin, because the settings cannot be read.
func Failed(cfg Config, err error) *Report {
	w := newWalk(cfg)
	w.begin(idSettings)
	w.fail(idSettings, err)
	return w.finish()
}

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
	// later are rows that follow the next one.
	later []Check
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
