package share

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"sync"

	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
)

// Shown is a share as `sallyport status` shows it.
type Shown struct {
	// Path is its socket.
	Path string
	// Status is what it says of itself, if Err is nil.
	Status mux.Status
	// Err is why it says nothing: a *SilentError, or a *localsock.PeerError.
	Err error
}

// SilentError says that a share does not answer. Its process may be stopped, or too busy.
type SilentError struct {
	// Path is its socket.
	Path string
	// Err is what happened instead.
	Err error
}

// Error names the socket.
func (e *SilentError) Error() string {
	if errors.Is(e.Err, context.DeadlineExceeded) {
		return "the shared connection at " + e.Path + " is silent"
	}
	return "the shared connection at " + e.Path + " does not answer: " + e.Err.Error()
}

// Unwrap returns what happened.
func (e *SilentError) Unwrap() error { return e.Err }

// Sockets returns the sockets of this user's shares in dirs. Directories that are not ours are left
// out, and each is a *localsock.DirError in refused.
func Sockets(dirs []string) (paths []string, refused []error) { return sockets(dirs, "") }

// sockets is Sockets for one key; an empty one stands for all.
func sockets(dirs []string, key string) (paths []string, refused []error) {
	for _, dir := range dirs {
		// Whoever owns the directory above could have put another one in the place of ours.
		err := localsock.CheckDir(filepath.Dir(dir))
		if err == nil {
			var found []string
			found, err = socketsOf(dir, key)
			paths = append(paths, found...)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			refused = append(refused, err)
		}
	}
	return paths, refused
}

// AskAll asks the shares at all paths how they are, at the same time.
func AskAll(ctx context.Context, paths []string) []Shown {
	return askAll(ctx, paths, func(ctx context.Context, conn net.Conn, shown *Shown) (err error) {
		shown.Status, err = mux.AskStatus(ctx, conn)
		return err
	})
}

// Stop ends the shares at all paths, at the same time. Their Status is empty.
func Stop(ctx context.Context, paths []string) []Shown {
	return askAll(ctx, paths, func(ctx context.Context, conn net.Conn, _ *Shown) error { return mux.AskStop(ctx, conn) })
}

// askAll asks the shares at all paths. Those that have ended are left out of what it returns.
func askAll(ctx context.Context, paths []string, question func(context.Context, net.Conn, *Shown) error) []Shown {
	all := make([]Shown, len(paths))
	var asking sync.WaitGroup
	for i, path := range paths {
		all[i].Path = path
		asking.Go(func() { // ends within greetingPatience
			err := ask(ctx, path, func(ctx context.Context, conn net.Conn) error { return question(ctx, conn, &all[i]) })
			if _, foreign := errors.AsType[*localsock.PeerError](err); err != nil && !foreign {
				err = &SilentError{path, err}
			}
			all[i].Err = err
		})
	}
	asking.Wait()
	var answers []Shown
	for _, shown := range all {
		// One that takes a connection and does not greet has just ended.
		if !localsock.Gone(shown.Err) && !errors.Is(shown.Err, io.EOF) {
			answers = append(answers, shown)
		}
	}
	return answers
}

// SocketsOf returns the sockets of the shares of one chain.
func (c *Client) SocketsOf(chain []*sshconfig.Host) []string {
	paths, _ := sockets(c.cfg.Dirs, c.way(chain).key()) // what was refused is told by Sockets
	return paths
}
