//go:build linux

package machines

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machineVariable holds, in a test process that has a machine of its own, the file descriptors of
// the network and the mounts that it came from.
const machineVariable = "SALLYPORT_TEST_MACHINE"

// machine is what this process knows about the machine that its tests run on.
var machine struct {
	// called tells that TestMain called Main.
	called bool
	// network and mounts are open files of the namespaces outside; nil if the tests share the real
	// machine.
	network, mounts *os.File
	// missing says why the tests share the real machine; empty if they do not.
	missing string
}

// ownMachine moves this process to a machine of its own, so that the tests neither disturb the real
// one nor are disturbed by it: a network with nothing but a loopback interface, on which every port
// is free, and a copy of /etc, for accounts and names. What is made there is gone with the process,
// however that ends. Processes, and files outside /etc, are shared with the real machine.
//
// Namespaces belong to threads. The only way to move all threads of a process is to move one of
// them and to start the program again from it; ownMachine returns in the process that was started
// so.
func ownMachine() error {
	if text := os.Getenv(machineVariable); text != "" {
		return enterMachine(text)
	}
	if os.Getuid() != 0 {
		machine.missing = "root, for a machine of the tests' own"
		return nil
	}
	network, err := openInherited("/proc/self/ns/net")
	if err != nil {
		return err
	}
	mounts, err := openInherited("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		runtime.UnlockOSThread()
		machine.missing = fmt.Sprintf("leave to make namespaces (%v)", err)
		return nil
	}
	if err := furnish(); err != nil {
		return err
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d %d", machineVariable, network, mounts))
	return unix.Exec("/proc/self/exe", os.Args, env)
}

// enterMachine takes what the process handed over to itself.
func enterMachine(text string) error {
	var network, mounts int
	if _, err := fmt.Sscan(text, &network, &mounts); err != nil {
		return fmt.Errorf("%s=%q: %w", machineVariable, text, err)
	}
	os.Unsetenv(machineVariable) // a child would take it for its own
	unix.CloseOnExec(network)
	unix.CloseOnExec(mounts)
	machine.network = os.NewFile(uintptr(network), "network outside")
	machine.mounts = os.NewFile(uintptr(mounts), "mounts outside")
	return nil
}

// openInherited opens a file for a program that this process executes.
func openInherited(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return fd, nil
}

// furnish makes the calling thread's fresh namespaces a machine that one can live on.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := copyEtc(); err != nil {
		return fmt.Errorf("a copy of /etc: %w", err)
	}
	// ip-netns(8) keeps the namespaces that it makes here.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("/run/netns: %w", err)
	}
	return nil
}

// raiseLoopback is `ip link set lo up`.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// copyEtc puts a copy of /etc in its place. Names are looked up in its files alone, for no name
// server can be reached.
func copyEtc() error {
	dir, err := os.MkdirTemp("", "sallyport-test-etc-")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", "/etc/.", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	for name, text := range map[string]string{
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := unix.Mount(dir, "/etc", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(dir)
}

// NeedMachine ends the test, as Need does, if it runs on the real machine.
func NeedMachine(t testing.TB) {
	t.Helper()
	if !machine.called {
		t.Fatal("the TestMain of this package has to call machines.Main")
	}
	Need(t, machine.missing == "", machine.missing, "run the tests as root, with CAP_SYS_ADMIN")
}

// outsideRole is the role of a program that leaves the machine of the tests for the real one.
const outsideRole = "outside"

func init() { Role(outsideRole, playOutside) }

// outsideConfig is what that program becomes.
type outsideConfig struct {
	Dir  string
	Args []string // the first is a path
}

// outside returns a command that runs on the real machine, where it can reach the internet, as a
// build may have to.
//
// A thread of this process could not go there: it could not come back, and if it ended, the kernel
// would kill every process that was started from it (PR_SET_PDEATHSIG in prctl(2)).
func outside(dir, program string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	args = append([]string{path}, args...)
	if machine.network == nil {
		cmd := exec.Command(path, args[1:]...)
		cmd.Dir = dir
		return cmd, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(outsideConfig{dir, args})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+outsideRole, roleConfigVariable+"="+string(config))
	cmd.ExtraFiles = []*os.File{machine.network, machine.mounts} // 3 and 4 in the child
	return cmd, nil
}

func playOutside(text []byte) error {
	var config outsideConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	runtime.LockOSThread()
	err := errors.Join(
		unix.Unshare(unix.CLONE_FS), // a thread that shares its working directory cannot change its mounts
		unix.Setns(3, unix.CLONE_NEWNET),
		unix.Setns(4, unix.CLONE_NEWNS),
		unix.Chdir(config.Dir),
	)
	if err != nil {
		return err
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	os.Unsetenv(roleVariable)
	os.Unsetenv(roleConfigVariable)
	return unix.Exec(config.Args[0], config.Args, os.Environ())
}

// goBuild is `go build` in a directory of this module, or of one below it.
func goBuild(dir string, args ...string) error {
	cmd, err := outside(dir, "go", append([]string{"build"}, args...)...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s in %s: %w: %s", strings.Join(args, " "), dir, err, out)
	}
	return nil
}
