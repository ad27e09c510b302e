package helper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"sallyport/cmd/sallyport/internal/localsock"
)

const (
	// folder is the directory of helper sockets within one of control sockets. It has nothing else
	// in it, so it can be mounted into a container.
	folder = "browser"
	// forwardedDir is where sshd makes forwarded sockets, and forwardedPrefix begins their names.
	forwardedDir, forwardedPrefix = "/tmp", "sallyport-"
)

// Dirs returns the directories of helper sockets, the best one first. They lie in those of control
// sockets. An MCP host and an SSH session may see different variables, so the usual places of
// XDG_RUNTIME_DIR and of the state are among them in any case. The former may be there only later,
// when somebody logs in. The paths of all these may be too long for a socket, so the last one lies
// in the directory of temporary files.
func Dirs(control []string, usualStateDir string) []string {
	all := slices.Clone(control)
	if uid := os.Getuid(); uid >= 0 { // there are numbers, so this is not Windows
		all = append(all, filepath.Join(usualRuntimeDir(uid), "sallyport"))
		if usualStateDir != "" {
			all = append(all, filepath.Join(usualStateDir, "run"))
		}
		all = append(all, filepath.Join(os.TempDir(), fmt.Sprintf("sallyport-%d", uid)))
	}
	var dirs []string
	for _, dir := range all {
		if dir = filepath.Join(dir, folder); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// usualRuntimeDir is where a system with systemd has the directory of a user's session.
func usualRuntimeDir(uid int) string { return fmt.Sprintf("/run/user/%d", uid) }

// Listen makes a helper socket in the first directory that can have one. The error is that of the
// last directory, a *localsock.DirError if it is somebody else's. The caller must close the
// listener.
func Listen(dirs []string) (*localsock.Listener, error) {
	err := errors.New("no directory for it")
	for _, dir := range dirs {
		// Whoever owns the directory above could put another one in the place of ours.
		above := filepath.Dir(dir)
		if run := usualRuntimeDir(os.Getuid()); filepath.Dir(above) == run {
			if _, err = os.Stat(run); err != nil { // it is the system's to make
				continue
			}
		}
		if err = os.MkdirAll(above, 0o700); err != nil {
			continue
		}
		if err = localsock.CheckDir(above); err != nil {
			continue
		}
		var l *localsock.Listener
		l, err = localsock.Listen(filepath.Join(dir, fmt.Sprintf("%d-%s.sock", os.Getpid(), rand.Text()[:6])))
		if err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no socket for the logins of this machine: %w", err)
}

// Sockets returns the paths of the helper sockets of this user: those in dirs, and those that an
// sshd has made for a helper elsewhere. A process that was killed leaves its socket behind.
func Sockets(dirs []string) []string {
	var paths []string
	for _, dir := range dirs {
		found, _ := localsock.List(dir) // a directory that is somebody else's has none of ours
		paths = append(paths, found...)
	}
	forwarded, _ := forwardedSockets()
	return append(paths, forwarded...)
}

// forwardedSockets returns the paths of this user's sockets that an sshd has made for a helper
// elsewhere, and of those to which others may connect. The latter are not used: the helper could
// not tell another user's login from ours.
func forwardedSockets() (private, open []string) {
	if runtime.GOOS == "windows" {
		return nil, nil
	}
	return localsock.ListAmongOthers(forwardedDir, forwardedPrefix)
}

// openSocketLine is the first line of a connection that tells a helper that others may connect to
// its socket. Nothing follows.
const openSocketLine = "open-socket\n"

// complain tells the helper behind a socket that the socket is open to others.
func complain(ctx context.Context, path string) error {
	ctx, cancel := runningTimeout(ctx, hereTimeout)
	defer cancel()
	conn, err := Dial(ctx, path)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(openSocketLine))
	return err
}

// errOtherNetwork says that a socket belongs to another machine that shares the directory.
var errOtherNetwork = errors.New("it is served in another network namespace")

// Dial connects to a helper socket. If nobody listens there, it removes the socket. The error is
// that of localsock.Dial, or says that the socket lies in a directory of temporary files and is
// served in another network namespace: containers may share such a directory, and mean nothing by
// it. The caller must close the connection.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	conn, err := localsock.Dial(ctx, path)
	if err != nil && localsock.Gone(err) {
		os.Remove(path)
	}
	if err == nil && isTemporary(path) && !localsock.SameNetwork(conn) {
		conn.Close()
		return nil, errOtherNetwork
	}
	return conn, err
}

// isTemporary reports whether a socket lies in a directory of temporary files.
func isTemporary(path string) bool {
	dir := filepath.Dir(path)
	return dir == forwardedDir || strings.HasPrefix(dir, filepath.Join(os.TempDir(), forwardedPrefix))
}

// Answering returns those of the sockets of Sockets behind which a helper answers. None is asked
// for anything.
func Answering(ctx context.Context, dirs []string) []string {
	paths := Sockets(dirs)
	answers := make([]bool, len(paths))
	var asking sync.WaitGroup
	for i, path := range paths {
		asking.Go(func() { // ends with the timeout
			ctx, cancel := runningTimeout(ctx, hereTimeout)
			defer cancel()
			conn, err := Dial(ctx, path)
			if err != nil {
				return
			}
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			answers[i] = NewConn(conn).Greet() == nil
		})
	}
	asking.Wait()
	var answering []string
	for i, path := range paths {
		if answers[i] {
			answering = append(answering, path)
		}
	}
	return answering
}

// forwardedPath returns a new name for a socket that sshd makes. The user is that of HOST, and is
// there for people. It may be empty.
func forwardedPath(user string) string {
	name := forwardedPrefix
	for _, c := range []byte(user) {
		if c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' {
			name += string(c)
		}
	}
	return forwardedDir + "/" + name[:min(len(name), 40)] + "-" + rand.Text()[:12] + ".sock"
}
