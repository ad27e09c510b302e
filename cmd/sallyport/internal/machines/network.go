//go:build linux

package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace: a network of its own with nothing but a loopback interface, and
// its own /etc/hosts. To the programs in it, it is another machine. A nil Namespace, Here, is the
// machine of the tests; all methods work with that, too.
type Namespace struct{ Name string }

// Here is the machine of the tests.
var Here *Namespace

var namespaces atomic.Int32

// NewNamespace makes a network namespace in which the names resolve to 127.0.0.1; without names it
// is mcp.internal that does. Nothing outside resolves or reaches them. It ends with the test.
func NewNamespace(t testing.TB, names ...string) *Namespace {
	t.Helper()
	NeedMachine(t)
	NeedProgram(t, "ip", "iproute2")
	if len(names) == 0 {
		names = []string{"mcp.internal"}
	}
	ns := &Namespace{Name: fmt.Sprintf("sallyport-%d", namespaces.Add(1))}

	// ip-netns(8): `ip netns exec` mounts the files of this directory over those in /etc.
	dir := filepath.Join("/etc/netns", ns.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	WriteFile(t, dir, "hosts", "127.0.0.1 localhost "+strings.Join(names, " ")+"\n", 0o644)

	if out, err := exec.Command("ip", "netns", "add", ns.Name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(ns.file(), unix.MNT_DETACH), os.Remove(ns.file()), os.RemoveAll(dir)); err != nil {
			t.Errorf("the end of namespace %s: %v", ns.Name, err)
		}
	})
	if err := ns.Enter(raiseLoopback); err != nil {
		t.Fatalf("loopback in %s: %v", ns.Name, err)
	}
	return ns
}

// file is the path that stands for the namespace.
func (ns *Namespace) file() string { return filepath.Join("/run/netns", ns.Name) }

// Command returns a command that runs inside the namespace. It is the command itself that gets
// started, not a parent of it: `ip netns exec` ends in an execve.
func (ns *Namespace) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if ns == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", ns.Name, name}, args...)...)
}

// Move has a command that was made for the machine of the tests run inside the namespace. It
// returns the same command.
func (ns *Namespace) Move(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if ns != nil {
		moved := ns.Command(t, cmd.Path, cmd.Args[1:]...)
		cmd.Path, cmd.Args, cmd.Err = moved.Path, moved.Args, moved.Err
	}
	return cmd
}

// Enter runs f on a thread that is in the namespace: sockets that f opens and programs that it
// starts belong there, but they do not see the namespace's /etc/hosts.
func (ns *Namespace) Enter(f func() error) error {
	if ns == nil {
		return f()
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	there, err := os.Open(ns.file())
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = f()
	// A thread that cannot return must not be used again: it stays locked and ends with the
	// goroutine.
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// Listen listens inside the namespace, for this process, until the end of the test.
func (ns *Namespace) Listen(t testing.TB, addr string) (listener net.Listener) {
	t.Helper()
	err := ns.Enter(func() (err error) {
		listener, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// Listens tells whether a program listens on a port of 127.0.0.1 inside the namespace.
func (ns *Namespace) Listens(t testing.TB, port int) bool {
	t.Helper()
	out, err := ns.Command(t, "cat", "/proc/net/tcp", "/proc/net/tcp6").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		field := strings.Fields(line) // number, local address, remote address, state, ...: proc_net_tcp.txt
		if len(field) < 4 || field[3] != "0A" {
			continue
		}
		ip, text, _ := strings.Cut(field[1], ":")
		got, err := strconv.ParseUint(text, 16, 16)
		if err == nil && int(got) == port && (ip == "0100007F" || strings.Trim(ip, "0") == "") {
			return true
		}
	}
	return false
}

// ClosedPort is a port of 127.0.0.1 that refuses connections. It is bound, so that nobody else
// takes it, but no program listens on it.
func ClosedPort(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(addr.(*unix.SockaddrInet4).Port)
}

func init() { Role("borrower", playBorrower) }

type borrowerConfig struct{ Addr, Socket string }

// Borrow makes an address on the loopback of the tests' machine, host:port, reachable at the same
// address inside the namespace: a server that both see, as two real machines see the internet. What
// crosses goes through a Unix socket, which no network namespace confines.
func (ns *Namespace) Borrow(t testing.TB, addr string) {
	t.Helper()
	socket := filepath.Join(OpenDir(t), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { carry(listener, "tcp", addr) })
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	StartRole(t, ns, "borrower", borrowerConfig{Addr: addr, Socket: socket})
}

// playBorrower listens on an address and carries what comes to a Unix socket.
func playBorrower(text []byte) error {
	var config borrowerConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		return err
	}
	fmt.Println("lent", config.Addr)
	carry(listener, "unix", config.Socket)
	return nil
}

// carry connects each connection that listener accepts to addr, until listener is closed. Then it
// cuts them.
func carry(listener net.Listener, network, addr string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer near.Close()
			far, err := net.Dial(network, addr)
			if err != nil {
				return // as if the connection was refused
			}
			defer far.Close()
			join(ctx, near, far)
		})
	}
}

// join copies both ways until both ends have ended, or ctx.
func join(ctx context.Context, near, far net.Conn) {
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() { // ends when its reader does, at the latest when the caller closes both
			io.Copy(pair[0], pair[1])
			pair[0].(interface{ CloseWrite() error }).CloseWrite()
			ended <- struct{}{}
		}()
	}
	for range 2 {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
