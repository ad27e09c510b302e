package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/doctor"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
)

// statusError ends a command that has reported everything itself.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// runDoctor walks the way to the upstream and prints what it finds. The first failure is told on
// stderr as that of any other command.
func runDoctor(ctx context.Context, a *app, c *cli.DoctorCommand) error {
	client := doctor.ClientOf(a.env)
	if c.Client != "" && client == nil {
		return doctorAs(ctx, a, c)
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
			cfg.Ask = person.NewAsker(a.env, a.screen, true).Ask
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
	printer := doctor.NewPrinter(out, doctor.Look{
		Live: live && !asJSON, Color: live && a.env.Getenv("NO_COLOR") == "", Verbose: cfg.Command != nil && cfg.Command.Verbose,
	})
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

// doctorAs runs a doctor with the environment and in the folder that an MCP host gives its servers.
// The settings are those of the command line or, if that names nothing but a URL, or not even that,
// those of the host's entry.
func doctorAs(ctx context.Context, a *app, c *cli.DoctorCommand) error {
	entry, err := entryOf(a, c)
	if err != nil {
		return err
	}
	environ, folder, ok := doctor.Environ(a.env, c.Client, entry, cli.IsOwnVariable)
	if !ok {
		e := &cli.UsageError{Text: fmt.Sprintf("--client %q is not known", c.Client)}
		if near := cli.Nearest(c.Client, doctor.Clients()); near != "" {
			e.Hints = append(e.Hints, "did you mean --client "+near+"?")
		}
		e.Hints = append(e.Hints, "known are "+strings.Join(doctor.Clients(), ", "))
		return e
	}
	if a.env.Executable == "" {
		return errors.New("this program's file is not known, so it cannot be started again")
	}
	cmd := exec.CommandContext(ctx, a.env.Executable, doctorArgs(a, c, entry)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env, cmd.Dir = environ, folder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.std.In, a.toHost, a.rawErr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &statusError{exit.ExitCode()}
	}
	return err
}

// entryOf returns the entry whose settings count, or nil if those of the command line do.
func entryOf(a *app, c *cli.DoctorCommand) (*doctor.Entry, error) {
	isOther := func(g cli.Given) bool { return g.From == "command line" && g.Name != "URL" }
	if slices.ContainsFunc(c.Given, isOther) {
		return nil, nil
	}
	entries := doctor.EntriesOf(a.env, c.Client)
	if c.URL != "" {
		entries = slices.DeleteFunc(entries, func(e doctor.Entry) bool { return e.Upstream() != c.URL })
	}
	switch {
	case len(entries) == 0:
		return nil, nil
	case len(entries) == 1:
		return &entries[0], nil
	}
	e := &cli.UsageError{Text: fmt.Sprintf("%s has several entries of sallyport", entries[0].Host.Title)}
	for _, entry := range entries {
		e.Hints = append(e.Hints, fmt.Sprintf("%s in %s: sallyport doctor --client %s %s", entry.Name, entry.File, c.Client, session.BeforeQuery(entry.Upstream())))
	}
	return nil, e
}

// doctorArgs are the arguments of the doctor that doctorAs starts.
func doctorArgs(a *app, c *cli.DoctorCommand, entry *doctor.Entry) []string {
	args := a.args
	if entry != nil {
		args = []string{"doctor", "--client", c.Client}
		if c.JSON {
			args = append(args, "--json")
		}
		if c.Login {
			args = append(args, "--login")
		}
		if c.Verbose {
			args = append(args, "--verbose")
		}
		args = append(args, entry.Args()...)
	}
	if path, err := filepath.Abs(c.Report); err == nil && c.Report != "" { // the folder may be another one
		args = append(slices.Clip(args), "--report", path)
	}
	return args
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
