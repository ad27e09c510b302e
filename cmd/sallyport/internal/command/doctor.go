package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/doctor"
	"sallyport/cmd/sallyport/internal/person"
)

// statusError ends a command that has reported everything itself.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// runDoctor walks the way to the upstream and prints what it finds. The first failure is told on
// stderr as that of any other command.
func runDoctor(ctx context.Context, a *app, c *cli.DoctorCommand) error {
	client := doctor.ClientOf(a.env)
	if c.Client != "" && client == nil {
		return doctorAs(ctx, a, c.Client)
	}
	cfg := doctor.Config{
		Command: c, Env: a.env, Words: a.words, Client: client, SocketDirs: a.controlDirs(c.Store), Log: a.log,
	}
	if c.Login {
		// What the sign-in changes is what the walk finds. Its own error is told, and no more.
		if err := a.login(ctx, c.Remote); err != nil {
			a.report(err)
		}
		if c.Share != "auto" {
			cfg.Ask = person.NewAsker(a.env, true).Ask
		}
	}
	return tellDoctor(ctx, a, cfg, func(cfg doctor.Config) *doctor.Report { return doctor.Run(ctx, cfg) }, c.JSON)
}

// tellDoctor prints the rows of a run as they come, or its report as JSON.
func tellDoctor(ctx context.Context, a *app, cfg doctor.Config, run func(doctor.Config) *doctor.Report, asJSON bool) error {
	live := person.IsTerminal(a.toHost) && a.env.Getenv("TERM") != "dumb"
	out := io.Writer(a.std.Out)
	if live {
		out = a.toHost // the rows are printable, and the gate would stop our own colours
	}
	if asJSON {
		out = io.Discard
	}
	printer := doctor.NewPrinter(out, live && !asJSON, live && a.env.Getenv("NO_COLOR") == "")
	cfg.Begin, cfg.Done = printer.Begin, printer.Done
	report := run(cfg)
	printer.Summary(report)
	printer.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if asJSON {
		if err := person.WriteJSON(a.std.Out, report); err != nil {
			return err
		}
	}
	if cfg.Command != nil && cfg.Command.Report != "" {
		if err := writeStrangers(a, cfg, report); err != nil {
			return err
		}
	}
	if first := report.First(); first != nil {
		a.messages.Report(first.Summary, first.Next)
		return &statusError{report.Status}
	}
	return nil
}

// writeStrangers writes the report that is fit for strangers.
func writeStrangers(a *app, cfg doctor.Config, report *doctor.Report) error {
	text := report.Strangers(doctor.NamesOf(cfg.Command, a.env))
	if err := os.WriteFile(cfg.Command.Report, []byte(person.Lines(text)), 0o600); err != nil {
		return &cli.UsageError{Text: "report: " + err.Error(), Hints: []string{"--report names a file that can be written"}}
	}
	a.messages.Say("%s has the report: names of hosts and people are replaced; read it before you send it", cfg.Command.Report)
	return nil
}

// doctorAs runs the same command with the environment and in the folder that an MCP host gives its
// servers.
func doctorAs(ctx context.Context, a *app, client string) error {
	environ, folder, ok := doctor.Environ(a.env, client, cli.IsOwnVariable)
	if !ok {
		return &cli.UsageError{Text: fmt.Sprintf("--client %q is not known", client),
			Hints: []string{"known are " + strings.Join(doctor.Clients(), ", ")}}
	}
	if a.env.Executable == "" {
		return errors.New("this program's file is not known, so it cannot be started again")
	}
	cmd := exec.CommandContext(ctx, a.env.Executable, a.args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env, cmd.Dir = environ, folder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.std.In, a.toHost, a.rawErr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &statusError{exit.ExitCode()}
	}
	return err
}

// doctorUnread is the doctor of settings that cannot be read.
func doctorUnread(ctx context.Context, a *app, args []string, err error) int {
	ended := tellDoctor(ctx, a, doctor.Config{Env: a.env, Words: a.words, Log: a.log},
		func(cfg doctor.Config) *doctor.Report { return doctor.Failed(cfg, err) }, slices.Contains(args, "--json"))
	if e, ok := errors.AsType[*statusError](ended); ok {
		return e.status
	}
	return a.report(err)
}
