//go:build linux

package machines

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace: a network of its own with nothing but a loopback interface, and its
// own /etc/hosts. To the programs in it, it is another machine. A nil Namespace, Here, is the machine of
// the tests; all methods work with that, too.
type Namespace struct{ Name string }

// Here is the machine of the tests.
var Here *Namespace

var namespaces atomic.Int32

// NewNamespace makes a network namespace in which the names resolve to 127.0.0.1; without names it is
// mcp.internal that does. Nothing outside resolves or reaches them. It ends with the test.
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

// Command returns a command that runs inside the namespace. It is the command itself that gets started,
// not a parent of it: `ip netns exec` ends in an execve.
func (ns *Namespace) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if ns == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", ns.Name, name}, args...)...)
}

// Move has a command that was made for the machine of the tests run inside the namespace. It returns the
// same command.
func (ns *Namespace) Move(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if ns != nil {
		moved := ns.Command(t, cmd.Path, cmd.Args[1:]...)
		cmd.Path, cmd.Args, cmd.Err = moved.Path, moved.Args, moved.Err
	}
	return cmd
}

// Enter runs f on a thread that is in the namespace: sockets that f opens and programs that it starts
// belong there, but they do not see the namespace's /etc/hosts.
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
	// A thread that cannot return must not be used again: it stays locked and ends with the goroutine.
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

// ClosedPort is a port of 127.0.0.1 that refuses connections. It is bound, so that nobody else takes it,
// but no program listens on it.
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
