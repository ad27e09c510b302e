package command

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/hostio"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/sshtunnel/sshconfig"
)

// share shows the shared connections, or ends them.
func (a *app) share(ctx context.Context, c *cli.ShareCommand) error {
	sockets := a.sharedSockets(c.Store)
	if c.Host != "" {
		var err error
		if sockets, err = a.socketsTo(ctx, c, sockets); err != nil {
			return err
		}
	}
	if c.Stop {
		return a.stopShares(ctx, sockets)
	}
	var b strings.Builder
	b.WriteString("Sallyports of one user share an SSH connection to a bastion. The first one starts it, and it ends by itself.\n")
	list := a.sharedConnections(ctx, sockets)
	if len(list) == 0 {
		b.WriteString("there is no shared connection\n")
	}
	for _, shared := range list {
		shared.write(&b, time.Now())
	}
	_, err := io.WriteString(a.std.Out, b.String())
	return err
}

// sharedSockets returns the sockets of all shared connections. It reports a directory that is not
// ours.
func (a *app) sharedSockets(settings cli.Store) []string {
	sockets, refused := share.Sockets(share.Dirs(a.controlDirs(settings)))
	reportEach(a, refused)
	return sockets
}

// socketsTo returns the sockets of the shared connections to the host of c: that of the same key,
// and those that pass hosts of the same names. The keys of these differ, because they were started
// with another environment or before an edit of ssh_config.
func (a *app) socketsTo(ctx context.Context, c *cli.ShareCommand, sockets []string) ([]string, error) {
	ssh := session.SSH{
		Settings: c.SSH, Env: a.env, StateDir: session.StateDir(c.Store, a.env), SocketDirs: a.controlDirs(c.Store), Log: a.log,
	}
	chain, err := ssh.Resolver().Chain(ctx, c.Host)
	if err != nil {
		return nil, err
	}
	own := ssh.Shares(ctx, chain).SocketsOf(chain)
	var chosen []string
	for _, shown := range share.AskAll(ctx, sockets) {
		if slices.Contains(own, shown.Path) || slices.Equal(shown.Status.Hops, aliases(chain)) {
			chosen = append(chosen, shown.Path)
		}
	}
	return chosen, nil
}

// aliases returns the names of the hops.
func aliases(chain []*sshconfig.Host) []string {
	var names []string
	for _, h := range chain {
		names = append(names, h.Alias)
	}
	return names
}

// stopShares ends the shared connections on the sockets. The error is that of one which does not
// answer.
func (a *app) stopShares(ctx context.Context, sockets []string) error {
	var ended int
	var errs []error
	for _, shown := range share.Stop(ctx, sockets) {
		if shown.Err != nil {
			errs = append(errs, shown.Err)
		} else {
			ended++
		}
	}
	switch {
	case ended == 1:
		a.messages.Say("1 shared connection has ended")
	case ended > 1 || len(errs) == 0:
		a.messages.Say("%d shared connections have ended", ended)
	}
	return errors.Join(errs...)
}

// isShareProcess reports whether this is the process of a shared connection, which another
// sallyport has started, and no command that was typed. It has no flags, and all who wait for the
// connection would wait for the grammar: it takes twice as long as the rest of the start.
func isShareProcess(args []string, env Environment) bool {
	return slices.Equal(args, []string{"share"}) && share.IsProcess(env)
}

// shareProcess runs that process. It logs to the file of its starter alone.
func shareProcess(ctx context.Context, a *app) error {
	stdin, ok := a.std.In.(*os.File)
	if !ok {
		return errors.New("share: stdin is no file")
	}
	stdout, ok := a.toHost.(*os.File)
	if !ok {
		return errors.New("share: stdout is no file")
	}
	process := share.Process{Env: a.env, Stdin: stdin, Stdout: stdout, OpenLog: func(settings share.Settings) (*slog.Logger, func()) {
		closeLog, err := a.openLog(cli.Common{LogFile: settings.LogFile, LogLevel: settings.LogLevel}, false)
		if err != nil || settings.LogFile == "" { // nobody sees stderr
			return slog.New(slog.DiscardHandler), func() {}
		}
		log := a.fileLog.With("share", os.Getpid())
		if err := crashTo(settings.LogFile); err != nil {
			log.Warn("a crash would leave no words", "err", err)
		}
		return log, closeLog
	}}
	hostio.CollectLess()
	return process.Run(ctx)
}

// crashTo makes the runtime write to a file why the process crashes.
func crashTo(path string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // the runtime keeps a copy
	return debug.SetCrashOutput(file, debug.CrashOptions{})
}
