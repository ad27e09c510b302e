package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/hostio"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
)

// share is the process of a shared connection, if another sallyport has started it. Typed by a
// person, it shows the shared connections, or ends them.
func (a *app) share(ctx context.Context, c *cli.ShareCommand) error {
	if share.IsProcess(a.env) {
		return a.shareProcess(ctx)
	}
	sockets := a.sharedSockets(c.Store)
	var chosen []share.Shown
	if c.Host != "" {
		var err error
		if chosen, err = a.sharedWith(ctx, c, sockets); err != nil {
			return err
		}
		sockets = nil
		for _, shown := range chosen {
			sockets = append(sockets, shown.Path)
		}
	}
	if c.Stop {
		return a.stopShares(ctx, sockets)
	}
	if c.Host == "" {
		chosen = share.AskAll(ctx, sockets)
	}
	var b strings.Builder
	b.WriteString("Sallyports of one user share an SSH connection to a bastion. The first one starts it, and it ends by itself.\n")
	if len(chosen) == 0 {
		b.WriteString("there is no shared connection\n")
	}
	for _, shown := range chosen {
		writeShared(&b, shown, time.Now())
	}
	_, err := io.WriteString(a.std.Out, b.String())
	return err
}

// sharedSockets returns the sockets of all shared connections. It reports a directory that is not
// ours.
func (a *app) sharedSockets(settings cli.Store) []string {
	sockets, refused := share.Sockets(share.Dirs(a.controlDirs(settings)))
	for _, err := range refused {
		e := a.words.Error(err)
		a.messages.Report(e.Text, e.Hints)
	}
	return sockets
}

// sharedWith returns the shared connections to the host of c: that of the same key, and those that
// pass hosts of the same names. The keys of these differ, because they were started with another
// environment or before an edit of ssh_config.
func (a *app) sharedWith(ctx context.Context, c *cli.ShareCommand, sockets []string) ([]share.Shown, error) {
	ssh := session.SSH{
		Settings: c.SSH, Env: a.env, StateDir: session.StateDir(c.Store, a.env), SocketDirs: a.controlDirs(c.Store), Log: a.log,
	}
	chain, err := ssh.Resolver().Chain(ctx, c.Host)
	if err != nil {
		return nil, err
	}
	own := ssh.Shares().SocketsOf(chain)
	return slices.DeleteFunc(share.AskAll(ctx, sockets), func(shown share.Shown) bool {
		return !slices.Contains(own, shown.Path) && !slices.Equal(shown.Status.Hops, aliases(chain))
	}), nil
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
			errs = append(errs, fmt.Errorf("the shared connection at %s does not answer: %w", shown.Path, shown.Err))
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

// shareProcess runs the process of a shared connection. It logs to the file of its starter alone.
func (a *app) shareProcess(ctx context.Context) error {
	stdin, ok := a.std.In.(*os.File)
	if !ok {
		return errors.New("share: stdin is no file")
	}
	process := share.Process{Env: a.env, Stdin: stdin, OpenLog: func(settings share.Settings) (*slog.Logger, func()) {
		closeLog, err := a.openLog(cli.Common{LogFile: settings.LogFile, LogLevel: settings.LogLevel})
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

// writeShared prints one shared connection.
func writeShared(b *strings.Builder, shown share.Shown, now time.Time) {
	s := shown.Status
	if shown.Err != nil {
		fmt.Fprintf(b, "shared connection at %s\n", person.OneLine(shown.Path))
		writeRow(b, "problem", "it does not answer: "+shown.Err.Error())
		return
	}
	fmt.Fprintf(b, "shared connection %d through %s, since %s\n",
		s.PID, person.OneLine(strings.Join(s.Hops, ", ")), s.Started.Local().Format(time.DateTime))
	state := s.Phase
	if s.Connections > 1 {
		state += fmt.Sprintf(", %d connections", s.Connections)
	}
	if s.RoundTrip > 0 {
		state += fmt.Sprintf(", round trip %s", s.RoundTrip.Round(time.Millisecond/10))
	}
	writeRow(b, "state", state)
	writeRow(b, "streams", fmt.Sprintf("%d open, %d in all, %s in, %s out", s.Streams, s.Opened, byteCount(s.BytesIn), byteCount(s.BytesOut)))
	for _, user := range s.Users {
		writeRow(b, "used by", fmt.Sprintf("%d %s", user.PID, user.Purpose))
	}
	writeRow(b, "ends", endOf(s, now))
}

// endOf says when a shared connection ends.
func endOf(s mux.Status, now time.Time) string {
	switch {
	case s.Draining:
		return "with its last stream; it takes no new one"
	case s.EndsAt.IsZero():
		return ""
	}
	return fmt.Sprintf("%s (in %s)", s.EndsAt.Local().Format(time.DateTime), max(0, s.EndsAt.Sub(now)).Round(time.Second))
}

// byteCount words a number of bytes.
func byteCount(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
