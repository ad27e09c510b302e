package command

import (
	"context"
	"runtime"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/deploy"
	"sallyport/cmd/sallyport/internal/person"
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
		Settings: c.SSH, Env: a.env, Ask: person.NewAsker(a.env, atTerminal).Ask, Notice: a.noticeOf(atTerminal),
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
