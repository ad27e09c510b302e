//go:build linux

package machines

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Account is a system account on the machine of the tests. A nil Account is the current user.
type Account struct {
	Name string
	Home string
	UID  uint32
}

// accounts guards /etc/passwd and its sisters, in which no two tests may write at once.
var accounts sync.Mutex

// NewAccount makes an account with a home directory and no password. Its processes end with the
// test.
func NewAccount(t testing.TB) *Account {
	t.Helper()
	NeedMachine(t)
	// The real machine's processes are in sight, and so are those of other packages' tests. None of
	// them may have this number.
	uid := 100_000 + rand.Uint32N(1<<30)
	a := &Account{Name: fmt.Sprintf("person%d", uid), Home: filepath.Join(OpenDir(t), "home"), UID: uid}
	if err := os.Mkdir(a.Home, 0o755); err != nil {
		t.Fatal(err)
	}
	a.Own(t, a.Home)
	accounts.Lock()
	defer accounts.Unlock()
	for file, line := range map[string]string{
		"/etc/passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", a.Name, uid, uid, a.Home),
		"/etc/group":  fmt.Sprintf("%s:x:%d:\n", a.Name, uid),
		"/etc/shadow": a.Name + ":*:19000:0:99999:7:::\n", // sshd refuses an account that is locked with "!"
	} {
		if err := appendTo(file, line); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(a.killAll)
	return a
}

func appendTo(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// name is the account's name, or the current user's.
func (a *Account) name(t testing.TB) string {
	t.Helper()
	if a != nil {
		return a.Name
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// SetPassword gives the account a password.
func (a *Account) SetPassword(t testing.TB, password string) {
	t.Helper()
	cmd := exec.Command(NeedProgram(t, "chpasswd", "passwd"))
	cmd.Stdin = strings.NewReader(a.Name + ":" + password + "\n")
	accounts.Lock()
	defer accounts.Unlock()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
}

// SetShell gives the account another login shell.
func (a *Account) SetShell(t testing.TB, shell string) {
	t.Helper()
	const file = "/etc/passwd"
	accounts.Lock()
	defer accounts.Unlock()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("%s:x:%d:%d::%s:", a.Name, a.UID, a.UID, a.Home)
	before, after, found := strings.Cut(string(text), line+"/bin/sh\n")
	if !found {
		t.Fatalf("%s is not in %s", a.Name, file)
	}
	if err := os.WriteFile(file, []byte(before+line+shell+"\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Command returns a command that runs under the account, in its home, with an environment of its
// own. The current user's environment is kept.
func (a *Account) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if a == nil {
		cmd.Env = os.Environ()
		return cmd
	}
	cmd.Dir = a.Home
	cmd.Env = append(Environment(), "HOME="+a.Home, "USER="+a.Name, "LOGNAME="+a.Name, "SHELL=/bin/sh", "LANG=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.UID, Gid: a.UID}}
	return cmd
}

// Own gives files to the account: ssh refuses a private key that others could have written.
func (a *Account) Own(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Chown(path, int(a.UID), int(a.UID)); err != nil {
			t.Fatal(err)
		}
	}
}

// killAll ends what still runs under the account.
func (a *Account) killAll() {
	killWhere(func(dir string) bool {
		info, err := os.Stat(dir)
		return err == nil && info.Sys().(*syscall.Stat_t).Uid == a.UID
	})
}

// killWhere ends the processes whose directory below /proc is meant, and waits for their end.
func killWhere(meant func(dir string) bool) {
	for found := true; found; { // again, for one may have forked meanwhile
		found = false
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue // gone
			}
			if meant(dir) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
				found = true
				awaitEnd(fd)
			}
			unix.Close(fd)
		}
	}
}

// EndWhere ends the processes whose arguments are meant, and waits for their end. It is for
// programs that left the process group of whoever started them, as a browser does. What is meant
// must be the test's own only, such as a directory of it.
func EndWhere(meant func(arguments string) bool) {
	killWhere(func(dir string) bool {
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		return err == nil && filepath.Base(dir) != strconv.Itoa(os.Getpid()) && meant(string(text))
	})
}

// awaitEnd waits until the process of a pidfd has ended, for no longer than Patience, and tells
// whether it has.
func awaitEnd(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(Patience.Milliseconds()))
		if err != unix.EINTR {
			return n == 1
		}
	}
}
