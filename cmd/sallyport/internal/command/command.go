// Package command is the whole program: [Run] parses the arguments and runs the command that they
// name. Each command has a file of its own.
package command

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/person"
)

// Stdio is the three standard streams.
type Stdio struct {
	// In is read by the proxy only.
	In io.Reader
	// Out gets what a command prints, and from the proxy nothing but JSON-RPC lines.
	Out io.Writer
	// Err gets messages for the person, and the log.
	Err io.Writer
}

// Environment is what the process was given besides its arguments and streams.
type Environment = environment.Environment

// app is what every command is given.
type app struct {
	// std holds the streams that Run got, with a gate in front of stdout and stderr that only
	// printable text passes.
	std Stdio
	// args are the arguments that Run got.
	args []string
	// rawErr is the stderr that Run got. screen is std.Err.
	rawErr io.Writer
	screen *person.Screen
	// toHost is the stdout that Run got, for the proxy alone.
	toHost io.Writer
	// env is the environment that Run got.
	env Environment
	// log writes to stderr, and to the log file if one is named. It discards until openLog.
	log *slog.Logger
	// fileLog writes to the log file alone. It discards if none is named.
	fileLog *slog.Logger
	// logSettings are those of the log.
	logSettings cli.Common
	// words explains errors to a person with the settings of the command.
	words explain.Explainer
	// messages tells the person something on stderr.
	messages *person.Messages
	// inFlight is how many requests of the MCP host are not answered yet.
	inFlight atomic.Int64
}

// Run runs the command that args name until it is done or ctx ends, reports its error on std.Err,
// and returns the exit status. It reads no variable, stream or argument of the process itself, so a
// test may call it several times in one process.
func Run(ctx context.Context, args []string, std Stdio, env Environment) (status int) {
	discard := slog.New(slog.DiscardHandler)
	toHost, rawErr := std.Out, std.Err // the proxy's, byte for byte
	screen := person.NewScreen(std.Err, env)
	std.Out, std.Err = person.Gate(std.Out), screen
	a := &app{std: std, toHost: toHost, args: args, rawErr: rawErr, screen: screen, env: env, log: discard, fileLog: discard, messages: person.NewMessages(std.Err, discard)}
	if isShareProcess(args, env) {
		return a.ended(ctx, shareProcess(ctx, a), false)
	}
	inv, err := cli.Parse(args, env, std.Out, std.Err)
	if errors.Is(err, cli.ErrHelp) {
		return explain.StatusDone
	}
	if err != nil && len(args) > 0 && args[0] == "doctor" {
		return doctorUnread(ctx, a, args, err)
	}
	if err != nil {
		return a.report(err)
	}
	a.words.Settings = remoteOf(inv.Command)
	closeLog, err := a.openLog(inv.Common, isLogin(inv.Command))
	if err != nil {
		return a.report(err)
	}
	defer closeLog()
	// Parse could not log these itself: it had to read the settings of the log first.
	for _, warning := range inv.Warnings {
		a.log.Warn(warning)
	}
	err = a.run(ctx, inv.Command)
	if e, ok := errors.AsType[*statusError](err); ok && ctx.Err() == nil {
		return e.status
	}
	_, isProxy := inv.Command.(*cli.ProxyCommand)
	return a.ended(ctx, err, isProxy)
}

// ended reports the error of a command that has ended, and returns the exit status.
func (a *app) ended(ctx context.Context, err error, isProxy bool) int {
	// An ended ctx means a signal. It counts more than the error, which is only its consequence.
	switch {
	case err == nil:
		return explain.StatusDone
	case ctx.Err() == nil:
		return a.report(err)
	case isProxy:
		return explain.StatusDone // some MCP hosts end a server by a signal
	}
	return explain.StatusInterrupted // the signal ended the command, whatever error that led to
}

// isLogin reports whether a command may sign in a person who waits for it.
func isLogin(command any) bool {
	switch command.(type) {
	case *cli.LoginCommand, *cli.DoctorCommand, *cli.InstallCommand:
		return true
	}
	return false
}

// remoteOf returns the settings of a command that has an upstream. For others they are empty.
func remoteOf(command any) cli.Remote {
	switch c := command.(type) {
	case *cli.ProxyCommand:
		return c.Remote
	case *cli.LoginCommand:
		return c.Remote
	case *cli.LogoutCommand:
		return c.Remote
	case *cli.DoctorCommand:
		return c.Remote
	case *cli.InstallCommand:
		return c.Remote
	case *cli.ToolsCommand:
		return c.Remote
	}
	return cli.Remote{}
}

// run calls the method of the command. The only command left for the default is version.
func (a *app) run(ctx context.Context, command any) error {
	switch c := command.(type) {
	case *cli.ProxyCommand:
		return a.proxy(ctx, c)
	case *cli.LoginCommand:
		if c.Paste {
			return paste(ctx, a, c)
		}
		return a.login(ctx, c.Remote)
	case *cli.LogoutCommand:
		if c.All && c.URL == "" {
			return a.logoutAll(ctx, c)
		}
		return a.logout(ctx, c)
	case *cli.StatusCommand:
		if c.Watch {
			return watchStatus(ctx, a, c)
		}
		return a.status(ctx, c.Store, c.JSON)
	case *cli.DoctorCommand:
		return runDoctor(ctx, a, c)
	case *cli.ToolsCommand:
		return tools(ctx, a, c)
	case *cli.CallbackCommand:
		return callbackCommand(ctx, a, c)
	case *cli.InstallCommand:
		return installEntry(ctx, a, c)
	case *cli.UninstallCommand:
		return uninstallEntry(ctx, a, c)
	case *cli.SSHConfigCommand:
		return a.sshConfig(ctx, c.SSH, c.Host)
	case *cli.FarEndCommand:
		return farEnd(ctx, a, c)
	case *cli.ShareCommand:
		return a.share(ctx, c)
	case *cli.TryCommand:
		return try(ctx, a)
	case *cli.HelpCommand:
		return help(a, c.Topic)
	case *cli.CompletionCommand:
		return completion(ctx, a, c)
	default:
		return a.version()
	}
}

// report writes err on stderr and returns the exit status. It is silent about an interruption,
// which the person caused.
func (a *app) report(err error) int {
	e := a.words.Error(err)
	if e.Status != explain.StatusInterrupted {
		a.messages.Report(e.Text, e.Hints)
	}
	return e.Status
}
