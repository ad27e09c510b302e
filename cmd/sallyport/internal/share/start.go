package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
)

// Config says how shares are found and started.
type Config struct {
	// Dirs are the directories of shares, the best one first.
	Dirs []string
	// Env is the environment of this process. A share is started from Env.Executable.
	Env environment.Environment
	// IsOwn reports whether a variable is a setting of this program, which a share does not get.
	IsOwn func(variable string) bool
	// AtTerminal says that a person typed the command, and that a ProxyCommand may ask at the
	// terminal. A share has none, so it is then used only if it is up.
	AtTerminal bool
	// Settings are those of a share that is started.
	Settings Settings
	// Log must not be nil.
	Log *slog.Logger
}

// Settings are what a share needs to know besides its chain. They have a JSON form.
type Settings struct {
	// ControlMaster is that of sshtunnel.Config. It is part of the key, and no other field is.
	ControlMaster sshtunnel.MasterUse
	// StateDir is the directory in whose "logins" all processes agree on logins.
	StateDir string
	// Idle is how long the share stays up unused, and Max how old it grows. 0 sets no limit.
	Idle, Max time.Duration
	// LogFile and LogLevel are those of its starter. Without a file it has no log.
	LogFile, LogLevel string
}

// Client finds shares for the tunnels of this process, and starts them. Its methods may be called
// concurrently.
type Client struct {
	cfg Config
	// dir is the working directory, and place where this process runs.
	dir, place string
	// silent has the paths of shares that did not answer.
	silent sync.Map
}

// NewClient returns a client. It touches nothing yet.
func NewClient(cfg Config) *Client {
	c := &Client{cfg: cfg, place: place()}
	c.dir, _ = os.Getwd() // without one, relative paths lead nowhere
	settings := &c.cfg.Settings
	settings.StateDir, settings.LogFile = under(c.dir, settings.StateDir), under(c.dir, settings.LogFile)
	c.cfg.Dirs = allUnder(c.dir, cfg.Dirs)
	return c
}

// atStep is told how far a start has come. Tests stop the process there.
var atStep = func(step string) {}

// Shared says which connection a chain shares, and how to get at it. The error of either wraps
// mux.ErrUnavailable if the chain is to be dialed in this process.
func (c *Client) Shared(_ context.Context, chain []*sshconfig.Host) (mux.Way, error) {
	if needsDir(chain) {
		return mux.Way{}, fmt.Errorf("%w: the ProxyCommand may depend on the working directory", mux.ErrAlone)
	}
	w := c.way(chain)
	var found atomic.Value // the path of the latest share
	return mux.Way{
		Key: w.key(),
		Find: func(ctx context.Context) (mux.Dialer, error) {
			obtain := c.obtain
			if c.cfg.AtTerminal && hasProxyCommand(w.chain) {
				obtain = c.obtainUp
			}
			path, err := obtain(ctx, w)
			if err != nil {
				return nil, err
			}
			c.noteAgent(filepath.Dir(path), w)
			found.Store(path)
			return dialer(path), nil
		},
		Silent: func() { c.silent.Store(found.Load(), nil) },
	}, nil
}

// hasProxyCommand reports whether a hop is reached by a command.
func hasProxyCommand(chain []*sshconfig.Host) bool {
	return slices.ContainsFunc(chain, func(h *sshconfig.Host) bool { return h.ProxyCommand != "" })
}

// obtainUp returns the path of a share's socket, if that is up. The error is mux.ErrAlone if there
// is none.
func (c *Client) obtainUp(ctx context.Context, w way) (string, error) {
	paths, _ := sockets(c.cfg.Dirs, w.key())
	for _, shown := range AskAll(ctx, paths) {
		if s := shown.Status; shown.Err == nil && s.Phase == sshtunnel.Up && !s.Draining {
			return shown.Path, nil
		}
	}
	return "", mux.ErrAlone
}

// way returns the way through a chain.
func (c *Client) way(chain []*sshconfig.Host) way {
	var environ []string
	for _, variable := range c.cfg.Env.Environ() {
		if !c.cfg.IsOwn(variable) {
			environ = append(environ, variable)
		}
	}
	w := way{controlMaster: fmt.Sprint(c.cfg.Settings.ControlMaster), place: c.place}
	for _, h := range chain {
		w.chain = append(w.chain, absolute(h, c.dir))
	}
	w.environ, w.counts = environOf(chain, environ)
	return w
}

// unavailable says why a chain cannot be shared.
func unavailable(why error) error { return fmt.Errorf("%w: %w", mux.ErrUnavailable, why) }

// obtain returns the path of a share's socket. It starts a share if there is none.
func (c *Client) obtain(ctx context.Context, w way) (string, error) {
	key := w.key()
	dir, err := makeDir(c.cfg.Dirs, key)
	if err != nil {
		return "", unavailable(err)
	}
	f := finder{dir: dir, key: key, version: versionOf(c.cfg.Env.Version), silent: &c.silent, log: c.cfg.Log}
	// A share that is started may have a newer one beside it by then, or be stopped or killed. Then
	// the next round finds another one, or starts it.
	var last error
	for range 3 {
		path, _, err := f.look(ctx)
		if path != "" {
			return path, nil
		}
		if err == nil {
			atStep("missing")
			path, err = c.start(ctx, w, f)
		}
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case err == nil:
			return path, nil
		case !errors.Is(err, errTaken) && !errors.Is(err, errNoShare):
			return "", unavailable(err)
		}
		last = err
		c.cfg.Log.Info("a shared connection was not started", "err", err)
	}
	return "", unavailable(last)
}

// start starts a share under the lock, unless another process was quicker. It returns the path of
// its socket. Shares of an older version are asked to drain.
func (c *Client) start(ctx context.Context, w way, f finder) (string, error) {
	program, err := programAt(c.cfg.Env.Executable)
	if err != nil {
		return "", err
	}
	lock, err := takeLock(ctx, f.dir, f.key)
	if err != nil {
		return "", err
	}
	defer lock.release()
	atStep("locked")
	path, outdated, err := f.look(ctx)
	if path != "" || err != nil {
		return path, err
	}
	number, err := lock.number(f.dir, f.key)
	if err != nil {
		return "", err
	}
	atStep("numbered")
	path = socketPath(f.dir, f.key, number)
	launch := launch{program: program, environ: w.environ, order: order{Version: orderVersion, Socket: path, Chain: w.chain, Settings: c.cfg.Settings}}
	if err := launch.start(ctx); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = errTaken // by one that came to the same number
		}
		return "", err
	}
	atStep("launched")
	err = c.await(ctx, path)
	if newest(f.dir, f.key) > number {
		return "", errTaken // while this process was stopped
	}
	if err != nil {
		return "", err
	}
	atStep("greeted")
	for _, old := range outdated {
		c.drain(ctx, old, "a newer version has taken over")
	}
	removeOld(f.dir)
	return path, nil
}

// errNoShare says that a process was started and does not answer. It may have been killed, or be
// stopped.
var errNoShare = errors.New("the process that was started does not answer")

// await waits for the greeting of a share that was just started.
func (c *Client) await(ctx context.Context, path string) error {
	_, err := hello(ctx, path, greetingPatience)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errNoShare, err)
}

// drain asks a share to take no new stream.
func (c *Client) drain(ctx context.Context, path, why string) {
	err := ask(ctx, path, func(ctx context.Context, conn net.Conn) error { return mux.AskDrain(ctx, conn, why) })
	if err != nil && !localsock.Gone(err) {
		c.cfg.Log.Info("a shared connection was not asked to drain", "path", path, "err", err)
	}
}
