package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

// stdio is the three standard streams; tests pass pipes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// app is what every command is given.
type app struct {
	stdio
	env     environment
	log     *slog.Logger // stderr, and the log file where one is named
	fileLog *slog.Logger // the log file alone, for what stderr shows in another form
}

// run is the whole command: it parses args, runs the command that they name until ctx ends, reports
// its error on stderr, and returns the exit status.
func run(ctx context.Context, args []string, std stdio, env environment) (status int) {
	a := &app{stdio: std, env: env, log: slog.New(slog.DiscardHandler), fileLog: slog.New(slog.DiscardHandler)}
	var grammar cli
	inv, err := parseArgs(&grammar, args, env, std.out, std.err)
	if errors.Is(err, errHelp) {
		return 0
	}
	if err != nil {
		return a.report(err)
	}
	closeLog, err := a.openLog(commonFlagsOf(inv))
	if err != nil {
		return a.report(err)
	}
	defer closeLog()
	for _, warning := range inv.warnings {
		a.log.Warn(warning)
	}
	inv.BindTo(ctx, (*context.Context)(nil))
	err = inv.Run(a)
	switch {
	case err == nil:
		return statusDone
	case ctx.Err() == nil:
		return a.report(err)
	case inv.Selected() == nil || inv.Selected().Name == "proxy":
		return statusDone // a signal is how some hosts end a server
	}
	return statusInterrupted // whatever it was at when the signal came, that is not what ended it
}

// commonFlagsOf finds the commonFlags of the command that was chosen.
func commonFlagsOf(inv *invocation) commonFlags {
	var flags commonFlags
	for _, flag := range inv.Flags() {
		switch value, _ := inv.FlagValue(flag).(string); flag.Name {
		case "log-level":
			flags.LogLevel = value
		case "log-file":
			flags.LogFile = value
		}
	}
	return flags
}
