package main

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
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// netns is a network namespace: a network of its own with nothing but a loopback interface, and its
// own /etc/hosts. A nil netns is the machine's own network.
type netns struct{ Name string }

var netnsCount atomic.Int32

// newNetns makes a network namespace in which the names resolve to 127.0.0.1, mcp.internal where
// none is given. Nothing outside resolves or reaches them.
func newNetns(t testing.TB, names ...string) *netns {
	t.Helper()
	needPart(t, os.Getuid() == 0, "root, for a network namespace", "run the tests as root")
	needProgram(t, "ip", "iproute2")
	if len(names) == 0 {
		names = []string{"mcp.internal"}
	}
	ns := &netns{Name: fmt.Sprintf("sallyport-%d-%d", os.Getpid(), netnsCount.Add(1))}

	// ip-netns(8): `ip netns exec` mounts the files of this directory over those in /etc.
	dir := filepath.Join("/etc/netns", ns.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove(filepath.Dir(dir)) // unless others use it
	})
	hosts := "127.0.0.1 localhost"
	for _, name := range names {
		hosts += " " + name
	}
	writeFile(t, dir, "hosts", hosts+"\n", 0o644)

	out, err := exec.Command("ip", "netns", "add", ns.Name).CombinedOutput()
	needPart(t, err == nil, fmt.Sprintf("leave to make a network namespace (%q)", out), "run the tests with CAP_SYS_ADMIN")
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", ns.Name).CombinedOutput(); err != nil {
			t.Errorf("ip netns delete: %v: %s", err, out)
		}
	})
	if out, err := ns.command(t, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("loopback in %s: %v: %s", ns.Name, err, out)
	}
	return ns
}

// command returns a command that runs inside the namespace. It is the command itself that gets
// started, not a parent of it: `ip netns exec` ends in an execve.
func (ns *netns) command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if ns == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", ns.Name, name}, args...)...)
}

// enter runs f on a thread that is in the namespace: sockets that f opens and programs that it starts
// belong there, though not the namespace's /etc/hosts.
func (ns *netns) enter(f func() error) error {
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
	there, err := os.Open("/run/netns/" + ns.Name)
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
	// A thread that cannot return is not to be used again: it ends with the goroutine.
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// listen listens inside the namespace, for this process, until the end of the test.
func (ns *netns) listen(t testing.TB, addr string) (listener net.Listener) {
	t.Helper()
	err := ns.enter(func() (err error) {
		listener, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// borrow makes an address on the machine's loopback, host:port, reachable at the same address
// inside the namespace: a server that both sides see, as the internet is for two real machines.
// What crosses goes through a Unix socket, which no network namespace confines.
func (ns *netns) borrow(t testing.TB, addr string) {
	t.Helper()
	socket := filepath.Join(openDir(t), "socket") // short: a socket path holds 108 bytes
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
	startRole(t, ns, "borrower", borrowerConfig{Addr: addr, Socket: socket})
}

type borrowerConfig struct{ Addr, Socket string }

func init() { roles["borrower"] = playBorrower }

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

// carry connects each connection that listener accepts to addr, until listener is closed; then it
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
				return // as if the connection were refused
			}
			defer far.Close()
			ended := make(chan struct{}, 2)
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
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
		})
	}
}

// needProgram ends the test where a Debian package's program is missing.
func needProgram(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	needPart(t, err == nil, name, "apt-get install "+debianPackage+", or .ci/install-parts")
	return path
}
