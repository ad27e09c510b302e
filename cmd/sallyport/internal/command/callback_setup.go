package command

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/deploy"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/service"
	"sallyport/cmd/sallyport/internal/session"
)

// callbackCommand is `sallyport callback` with what may come before it.
func callbackCommand(ctx context.Context, a *app, c *cli.CallbackCommand) error {
	if c.Service && c.Remove {
		return removeService(ctx, a)
	}
	if c.Install {
		for _, host := range c.Host {
			if err := putProgram(ctx, a, c, host); err != nil {
				return err
			}
		}
	}
	if c.Service {
		return installService(ctx, a, c)
	}
	return a.callback(ctx, c)
}

// callbackSSH returns what makes the tunnels of `sallyport callback`. Without a person, it asks no
// question.
func callbackSSH(a *app, c *cli.CallbackCommand, atTerminal bool) session.SSH {
	return session.SSH{
		Settings: c.SSH, Env: a.env, Ask: person.NewAsker(a.env, a.screen, atTerminal).Ask, Notice: a.noticeOf(atTerminal),
		StateDir: session.StateDir(c.Store, a.env), AtTerminal: atTerminal, Log: a.log,
		Purpose: "sallyport callback", SocketDirs: a.controlDirs(c.Store), LogFile: a.logSettings.LogFile, LogLevel: a.logSettings.LogLevel,
	}
}

// putProgram puts this program on a host.
func putProgram(ctx context.Context, a *app, c *cli.CallbackCommand, host string) error {
	if a.env.Executable == "" {
		return &cli.UsageError{Text: "--install: the file of this program is not known"}
	}
	tunnel, _, err := callbackSSH(a, c, true).Tunnel(ctx, host)
	if err != nil {
		return err
	}
	defer tunnel.Close()
	if err := tunnel.Connect(ctx); err != nil {
		return err
	}
	r, err := deploy.Install(ctx, deploy.Config{
		Host: host, Exec: tunnel.Exec, Program: a.env.Executable, Version: strings.TrimPrefix(a.env.Version, "v"),
		OS: runtime.GOOS, Arch: runtime.GOARCH,
		Copying: func(size int64) { a.messages.Say("%s: copying sallyport, %d MB", host, (size+1e6-1)/1e6) },
	})
	if err != nil {
		return err
	}
	if r.Kept != "" {
		a.messages.Say("%s: sallyport %s is there already, as %s", host, r.Kept, r.Path)
	} else {
		a.messages.Say("%s: sallyport is there now, as %s", host, r.Path)
	}
	switch {
	case r.InShell == "":
		a.messages.Report(host+": the login shell there does not find it, because its directory is not in PATH", []string{
			"for your own use of it there, add to ~/.profile on " + host + `: PATH="$HOME/.local/bin:$PATH"; an MCP host takes the full path, ` + r.Path,
		})
	case r.InShell != r.Path:
		a.messages.Report(host+": the login shell there finds another one first, "+r.InShell, []string{"remove that one, or put ~/.local/bin first in PATH"})
	}
	return nil
}

// systemTimeout bounds one command of the system that takes a service over.
const systemTimeout = 30 * time.Second

// thisMachine is where a service is installed.
func thisMachine(env environment.Environment) service.Machine {
	return service.Machine{OS: runtime.GOOS, Env: env, UserID: os.Getuid(),
		Run: func(ctx context.Context, name string, args ...string) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, systemTimeout)
			defer cancel()
			out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
			return string(out), err
		}}
}

// installService lets `sallyport callback` run whenever the user is logged on, with the same hosts
// and flags. It prints what it wrote. A host that the service could not log in to is told: nobody
// can answer a question then.
func installService(ctx context.Context, a *app, c *cli.CallbackCommand) error {
	if a.env.Executable == "" {
		return &cli.UsageError{Text: "--service: the file of this program is not known"}
	}
	for _, host := range c.Host {
		if err := tryUnattended(ctx, a, c, host); err != nil {
			return err
		}
	}
	r, err := service.Install(ctx, thisMachine(a.env), service.Program{
		Path: a.env.Executable, Args: serviceArguments(a.env, c), Description: "sallyport callback: this machine's browser for " + strings.Join(c.Host, ", "),
	})
	if err != nil {
		return err
	}
	a.messages.Say("wrote %s", r.Place)
	if _, err := a.std.Out.Write([]byte(strings.TrimSuffix(r.Text, "\n") + "\n")); err != nil {
		return err
	}
	state := "the service is installed"
	if r.Running {
		state = "the service runs, and starts whenever you log on"
	}
	a.messages.Report(state, append(r.Notes, "to take it away: sallyport callback --service --remove"))
	return nil
}

// serviceArguments returns the arguments of the service. Variables of this terminal that decide
// where files are become flags, because the service does not have them.
func serviceArguments(env environment.Environment, c *cli.CallbackCommand) []string {
	args := []string{"callback", "--unattended"}
	for _, setting := range c.Given {
		args = append(args, setting.Arguments...)
	}
	if c.StateDir == "" && filepath.IsAbs(env.Getenv("XDG_STATE_HOME")) {
		args = append(args, "--state-dir", env.StateDir())
	}
	return append(args, c.Host...)
}

// tryUnattended logs in to a host as the service will, without a person, and tells what is in its
// way. The error is that of a wrong name, or of an interruption.
func tryUnattended(ctx context.Context, a *app, c *cli.CallbackCommand, host string) error {
	ssh := callbackSSH(a, c, false)
	ssh.Ask = nil
	tunnel, _, err := ssh.Tunnel(ctx, host)
	if err != nil {
		return err
	}
	defer tunnel.Close()
	if err := tunnel.Connect(ctx); err != nil && ctx.Err() == nil {
		e := a.words.Error(err)
		a.messages.Report("the service could not log in to "+host+" now, and will try again and again: "+e.Text,
			append(e.Hints, "sallyport callback "+host+", in a terminal, asks for what "+host+" wants to know"))
	}
	return ctx.Err()
}

// removeService takes the service away.
func removeService(ctx context.Context, a *app) error {
	r, err := service.Remove(ctx, thisMachine(a.env))
	switch {
	case err != nil:
		return err
	case r.Place == "":
		a.messages.Say("there is no service of sallyport here")
	default:
		a.messages.Report("the service is gone: "+person.OneLine(r.Place), r.Notes)
	}
	return nil
}
