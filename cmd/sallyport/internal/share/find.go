package share

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/netwatch"
)

const (
	// greetingPatience is how long a share may take to greet, while this process runs.
	greetingPatience = 3 * time.Second
	// secondPatience is how long one may that has been silent for this process before.
	secondPatience = netwatch.RunningTick
)

// finder looks for the shares of one key in one directory.
type finder struct {
	dir, key string
	// version is that of this program.
	version string
	// silent has the paths of shares that did not answer.
	silent *sync.Map
	log    *slog.Logger
}

// look returns the path of the newest share that takes new streams, or "". In outdated are those of
// an older version of this program, which take streams, too.
func (f finder) look(ctx context.Context) (path string, outdated []string, err error) {
	paths, err := socketsOf(f.dir, f.key)
	if err != nil {
		return "", nil, err
	}
	for _, path := range paths {
		greeting, err := f.greet(ctx, path)
		_, foreign := errors.AsType[*localsock.PeerError](err)
		switch {
		case ctx.Err() != nil:
			return "", nil, context.Cause(ctx)
		case foreign:
			f.log.Warn("a socket of a shared connection is not used", "path", path, "err", err)
		case err != nil:
			f.log.Debug("a shared connection does not answer", "path", path, "err", err)
		case greeting.Draining || greeting.Mux != mux.Version:
		case isNewer(f.version, greeting.Version):
			outdated = append(outdated, path)
		default:
			return path, nil, nil
		}
	}
	return "", outdated, nil
}

// isNewer reports whether ours is a later version than theirs. Builds without a version are not.
func isNewer(ours, theirs string) bool {
	order, ok := environment.CompareVersions(ours, theirs)
	return ok && order > 0
}

// greet returns the greeting of the share at a path, which was listed. If nobody listens there, it
// removes the socket: no name is used twice. A share that is silent is not touched, and the next
// time it is waited for with less patience.
func (f finder) greet(ctx context.Context, path string) (greeting mux.Greeting, err error) {
	patience := greetingPatience
	if _, silent := f.silent.Load(path); silent {
		patience = secondPatience
	}
	greeting, err = hello(ctx, path, patience)
	switch {
	case err == nil:
		f.silent.Delete(path)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		f.silent.Store(path, nil)
	case localsock.Gone(err) && (tellsFullQueue || stillGone(ctx, path)):
		os.Remove(path)
	}
	return greeting, err
}

// tellsFullQueue says that a queue that is full does not look as if nobody listened.
const tellsFullQueue = runtime.GOOS == "linux" || runtime.GOOS == "windows"

// hello returns the greeting of the share at a path, and touches nothing.
func hello(ctx context.Context, path string, patience time.Duration) (greeting mux.Greeting, err error) {
	ctx, cancel := netwatch.WithRunningTimeout(ctx, patience)
	defer cancel()
	conn, err := localsock.Dial(ctx, path)
	if err != nil {
		if localsock.Gone(err) && (tellsFullQueue || stillGone(ctx, path)) {
			os.Remove(path)
		}
		return greeting, err
	}
	defer conn.Close()
	c := mux.NewConn(conn)
	err = c.Within(ctx, func() error { return c.ReadLine(&greeting) })
	return greeting, err
}

// stillGone looks a second time whether nobody listens. On macOS and the BSD systems, a queue that
// is full looks the same.
func stillGone(ctx context.Context, path string) bool {
	select {
	case <-time.After(netwatch.RunningTick):
	case <-ctx.Done():
		return false
	}
	conn, err := localsock.Dial(ctx, path)
	if err == nil {
		conn.Close()
	}
	return err != nil && localsock.Gone(err)
}

// dialer opens connections to the share at a path.
func dialer(path string) mux.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return localsock.Dial(ctx, path) }
}

// ask calls f with a connection to the share at a path. A share that does not answer is given up
// after a time.
func ask(ctx context.Context, path string, f func(context.Context, net.Conn) error) error {
	ctx, cancel := netwatch.WithRunningTimeout(ctx, greetingPatience)
	defer cancel()
	conn, err := localsock.Dial(ctx, path)
	if err != nil {
		return err
	}
	return f(ctx, conn)
}

// versionOf returns a version that is never empty.
func versionOf(version string) string { return cmp.Or(version, "devel") }
