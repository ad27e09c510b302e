package share

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"

	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
)

// Stage is the variable that makes `sallyport share` a part of a start.
const Stage = "SALLYPORT_SHARE_STAGE"

// The values of Stage. The first process starts the second and ends, so that the second is nobody's
// child: an MCP host that ends its servers with all their children does not find it. On Windows,
// `taskkill /t` looks for children by the number of their parent, which is gone by then.
const (
	stageDetach = "detach"
	stageRun    = "run"
)

// socketFD is the descriptor of the socket in both processes: the first of exec.Cmd's ExtraFiles.
const socketFD = 3

// orderVersion is the version of the form of an order. The file of the program may have been
// replaced by another version since this process was started.
const orderVersion = 1

// order is what a share reads from its stdin.
type order struct {
	// Version is orderVersion.
	Version int
	// Socket is the path of its socket.
	Socket string
	// Chain has all hops, with absolute paths.
	Chain []*sshconfig.Host
	// Settings are those of its starter.
	Settings Settings
}

// launch is the start of one share.
type launch struct {
	// program is the file to run.
	program string
	// environ is the environment of the share, without Stage.
	environ []string
	// order is what the share is told.
	order order
}

// programAt returns the file of this program, which was at path. If it was replaced or removed
// since this process was started, Linux still has the old one.
func programAt(path string) (string, error) {
	if path == "" {
		return "", errors.New("the file of this program is not known")
	}
	const running = "/proc/self/exe"
	if own, err := os.Stat(running); runtime.GOOS == "linux" && err == nil {
		if named, err := os.Stat(path); err != nil || !os.SameFile(own, named) {
			return running, nil
		}
	}
	return path, nil
}

// start makes the socket and starts the process. The process has the socket when start returns. The
// error is fs.ErrExist if the path is taken. Where sockets cannot be handed over, the process makes
// its own.
func (l launch) start(ctx context.Context) error {
	text, err := l.order.encode()
	if err != nil {
		return err
	}
	if !handsOver {
		return l.run(ctx, text, nil)
	}
	listener, err := localsock.Listen(l.order.Socket)
	if err != nil {
		return err
	}
	atStep("listening")
	file, err := listener.File()
	if err == nil {
		err = l.run(ctx, text, file)
		file.Close()
	}
	if err != nil && ctx.Err() == nil {
		listener.Close()
		return err
	}
	// Whoever does not want to wait any more may have handed the socket over already. A name on
	// which nobody listens is removed by the next who looks.
	listener.Leave()
	return err
}

// run starts the process with the socket, and writes the order to it. Without a socket it waits
// until the process has made one.
func (l launch) run(ctx context.Context, text []byte, socket *os.File) error {
	stdin, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	cmd := exec.Command(l.program, "share")
	cmd.Args[0] = "sallyport"
	cmd.Dir, cmd.Stdin = rootOf(l.program), stdin
	cmd.Env = append(slices.Clone(l.environ), Stage+"="+stageDetach)
	var listens <-chan error
	if socket != nil {
		cmd.ExtraFiles = []*os.File{socket}
		err = localsock.StartDetached(cmd)
	} else {
		listens, err = startHeard(cmd)
	}
	stdin.Close()
	if err != nil {
		return err
	}
	waits := ctx
	ctx, cancel := netwatch.WithRunningTimeout(ctx, launchPatience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { write.Close() })()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the first process
	if _, err := write.Write(text); err != nil {
		return fmt.Errorf("%w: %w", errNoShare, err)
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		if waits.Err() == nil {
			cmd.Process.Kill()
		}
		err = context.Cause(ctx)
	}
	if err == nil && listens != nil {
		select {
		case err = <-listens:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoShare, err)
	}
	return nil
}

// startHeard starts a command as localsock.StartDetached does. The channel gets nil when the share
// says that it listens, and an error if it ends before.
func startHeard(cmd *exec.Cmd) (listens <-chan error, err error) {
	read, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = stdout
	err = localsock.StartDetached(cmd)
	stdout.Close()
	if err != nil {
		read.Close()
		return nil, err
	}
	said := make(chan error, 1)
	go func() { // ends when the share listens, and with it
		defer read.Close()
		_, err := read.Read(make([]byte, len(listening)))
		said <- err
	}()
	return said, nil
}

// listening is what a share says on stdout when it has made its socket.
const listening = "listening\n"

// rootOf returns a directory that nobody needs to unmount.
func rootOf(program string) string { return filepath.VolumeName(program) + string(filepath.Separator) }

// encode returns the JSON form of an order. JSON cannot hold every file name, and one that is
// changed on the way would be another way.
func (o order) encode() ([]byte, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	read, err := readOrder(bytes.NewReader(text))
	if err == nil && !reflect.DeepEqual(read, &o) {
		err = errors.New("the SSH configuration is not UTF-8")
	}
	return text, err
}

// readOrder reads what encode has written.
func readOrder(in io.Reader) (*order, error) {
	o := &order{}
	if err := json.NewDecoder(in).Decode(o); err != nil {
		return nil, err
	}
	if o.Version != orderVersion {
		return nil, fmt.Errorf("the order has version %d, not %d: the program was replaced", o.Version, orderVersion)
	}
	return o, nil
}

// detach starts the second process by the program at path, with the streams and the socket of this
// one. A stdout is given where the share has to say that it listens.
func detach(path string, environ []string, stdin, stdout *os.File) error {
	atStep("detaching")
	program, err := programAt(path)
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "share")
	cmd.Args[0] = "sallyport"
	cmd.Env = append(environ, Stage+"="+stageRun)
	cmd.Dir, cmd.Stdin = rootOf(program), stdin
	if handsOver {
		cmd.ExtraFiles = []*os.File{os.NewFile(socketFD, "socket")}
	} else {
		cmd.Stdout = stdout
	}
	return localsock.StartDetached(cmd)
}
