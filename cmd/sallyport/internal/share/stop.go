package share

import (
	"context"
	"errors"
	"io/fs"
	"net"
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
	// Err is why it says nothing. It may be stopped.
	Err error
}

// Sockets returns the sockets of this user's shares in dirs. Directories that are not ours are left
// out, and each is a *localsock.DirError in refused.
func Sockets(dirs []string) (paths []string, refused []error) { return sockets(dirs, "") }

// sockets is Sockets for one key; an empty one stands for all.
func sockets(dirs []string, key string) (paths []string, refused []error) {
	for _, dir := range dirs {
		found, err := socketsOf(dir, key)
		paths = append(paths, found...)
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
			all[i].Err = ask(ctx, path, func(ctx context.Context, conn net.Conn) error { return question(ctx, conn, &all[i]) })
		})
	}
	asking.Wait()
	var answers []Shown
	for _, shown := range all {
		if !localsock.Gone(shown.Err) {
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
