package doctor

import (
	"context"
	"log/slog"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/explain"
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
	settingRows{w}.open(ctx)
	w.hops(ctx)
	upstreamRows{w}.tell(ctx)
	signInRows{w}.tell(ctx)
	accountRows{w}.tell(ctx)
	callbackRows{w}.tell(ctx)
	localRows{w}.tell(ctx)
	return w.finish()
}

// Failed returns the report of a run that could not begin, because the settings cannot be read.
func Failed(cfg Config, err error) *Report {
	w := newWalk(cfg)
	w.begin(idSettings)
	w.fail(idSettings, err)
	return w.finish()
}
