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
		newSharedConnection(shown).write(&b, time.Now())
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
	stdout, ok := a.toHost.(*os.File)
	if !ok {
		return errors.New("share: stdout is no file")
	}
	process := share.Process{Env: a.env, Stdin: stdin, Stdout: stdout, OpenLog: func(settings share.Settings) (*slog.Logger, func()) {
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

// sharedConnection is a shared connection as `sallyport status --json` prints it.
type sharedConnection struct {
	mux.Status
	// Socket is the path of its socket.
	Socket string `json:"socket"`
	// Problem is why the process does not say how it is. All but Socket is empty then.
	Problem string `json:"problem,omitempty"`
}

func newSharedConnection(shown share.Shown) sharedConnection {
	c := sharedConnection{Status: shown.Status, Socket: shown.Path}
	if shown.Err != nil {
		c.Problem = "it does not answer: " + shown.Err.Error()
	}
	for i := range c.Users {
		c.Users[i].Purpose = session.BeforeQuery(c.Users[i].Purpose)
	}
	return c
}

// write prints the connection for people. The time now tells how long it goes on.
func (c sharedConnection) write(b *strings.Builder, now time.Time) {
	if c.Problem != "" {
		fmt.Fprintf(b, "shared connection at %s\n", person.OneLine(c.Socket))
		writeRow(b, "problem", c.Problem)
		return
	}
	fmt.Fprintf(b, "shared connection %d through %s, since %s\n",
		c.PID, person.OneLine(strings.Join(c.Hops, ", ")), c.Started.Local().Format(time.DateTime))
	state := c.Phase
	if c.Connections > 1 {
		state += fmt.Sprintf(", %d connections", c.Connections)
	}
	if c.RoundTrip > 0 {
		state += fmt.Sprintf(", round trip %s", c.RoundTrip.Round(time.Millisecond/10))
	}
	writeRow(b, "state", state)
	writeRow(b, "streams", fmt.Sprintf("%d open, %d in all, %s in, %s out", c.Streams, c.Opened, byteCount(c.BytesIn), byteCount(c.BytesOut)))
	for _, user := range c.Users {
		writeRow(b, "used by", fmt.Sprintf("%d %s", user.PID, user.Purpose))
	}
	if !c.IdleSince.IsZero() {
		writeRow(b, "unused", "since "+c.IdleSince.Local().Format(time.DateTime))
	}
	writeRow(b, "ends", c.end(now))
}

// end says when the connection ends.
func (c sharedConnection) end(now time.Time) string {
	switch {
	case c.Draining:
		return "with its last stream; it takes no new one"
	case c.EndsAt.IsZero():
		return ""
	}
	return fmt.Sprintf("%s (in %s)", c.EndsAt.Local().Format(time.DateTime), max(0, c.EndsAt.Sub(now)).Round(time.Second))
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
