package share

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/refusals"
	"sallyport/sshtunnel/sshconfig"
)

// watchInterval is the time between two looks at the directory.
const watchInterval = 2 * time.Second

// Process is `sallyport share` when another process of this program has started it.
type Process struct {
	// Env is its environment.
	Env environment.Environment
	// Stdin has the order.
	Stdin *os.File
	// Stdout gets a line when the share listens, if it makes its socket itself.
	Stdout *os.File
	// OpenLog returns the log that the starter's settings ask for. It is called once.
	OpenLog func(Settings) (log *slog.Logger, closeLog func())
}

// IsProcess reports whether this process is a part of a start, and not a command that was typed.
func IsProcess(env environment.Environment) bool { return env.Getenv(Stage) != "" }

// Run is the whole of that process. It ends when the share has ended, or with ctx, a signal.
func (p Process) Run(ctx context.Context) error {
	stage := p.Env.Getenv(Stage)
	p.Env.Hide(Stage)
	if stage == stageDetach {
		environ := slices.DeleteFunc(p.Env.Environ(), func(variable string) bool { return strings.HasPrefix(variable, Stage+"=") })
		return detach(p.Env.Executable, environ, p.Stdin, p.Stdout)
	}
	settleDown()
	o, err := readOrder(p.Stdin)
	if err != nil {
		return err
	}
	p.Stdin.Close()
	log, closeLog := p.OpenLog(o.Settings)
	defer closeLog()
	if err := p.serve(ctx, o, log); err != nil {
		log.Error("the shared connection has failed", "err", err)
		return err
	}
	return nil
}

// serve is the share until its end.
func (p Process) serve(ctx context.Context, o *order, log *slog.Logger) error {
	listener, err := p.listen(o.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	was, err := os.Lstat(o.Socket)
	if err != nil {
		return err
	}
	server, err := sshtunnel.NewServer(o.config(p.Env, log))
	if err != nil {
		return err
	}
	atStep("serving")
	log.Info("shared connection started", "socket", o.Socket)
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		o.watch(ctx, server, was)
	}()
	err = server.Serve(listener)
	cancel()
	<-watched
	log.Info("shared connection ended", "err", err)
	return err
}

// listen returns the listener that the starter has handed over. Or it makes the listener, and tells
// the starter.
func (p Process) listen(path string) (*localsock.Listener, error) {
	if handsOver {
		return localsock.FromFile(os.NewFile(socketFD, "socket"), path)
	}
	listener, err := localsock.Listen(path)
	if err == nil {
		io.WriteString(p.Stdout, listening) // a starter that is gone needs no words
	}
	p.Stdout.Close()
	return listener, err
}

// config describes the server.
func (o *order) config(env environment.Environment, log *slog.Logger) sshtunnel.ServerConfig {
	var ledger *refusals.Ledger
	if o.Settings.StateDir != "" {
		var err error
		if ledger, err = refusals.Open(filepath.Join(o.Settings.StateDir, "logins")); err != nil {
			log.Warn("refused logins are not shared with other processes", "err", err)
		}
	}
	return sshtunnel.ServerConfig{
		Tunnel: sshtunnel.Config{
			Chain:         func(context.Context) ([]*sshconfig.Host, error) { return o.Chain, nil },
			Getenv:        env.Getenv,
			Refusals:      ledger,
			ControlMaster: o.Settings.ControlMaster,
			Log:           log,
		},
		Version: versionOf(env.Version), Idle: o.Settings.Idle, Max: o.Settings.Max,
		Superseded: o.superseded, Log: log,
	}
}

// superseded reports whether a newer share has the place of this one.
func (o *order) superseded() bool {
	key, number := splitPath(o.Socket)
	return newest(filepath.Dir(o.Socket), key) > number
}

// watch ends the server with ctx, and lets it drain when nobody can find it any more.
func (o *order) watch(ctx context.Context, server *sshtunnel.Server, was fs.FileInfo) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	draining := false
	for {
		select {
		case <-ctx.Done():
			server.Stop()
			return
		case <-ticker.C:
		}
		switch {
		case draining:
		case o.superseded():
			draining = true
			server.Drain("a newer shared connection has taken over")
		case isGone(o.Socket, was):
			draining = true
			server.Drain("its socket is gone")
		}
	}
}
