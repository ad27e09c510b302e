//go:build unix

package share

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/sshtunnel/sshtest/openssh"

	"golang.org/x/crypto/ssh"
)

func signalContext() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// site is a real sshd, and clients that reach it through a share.
type site struct {
	t      *testing.T
	server *openssh.Server
	// log is that of sshd, and shares that of the clients and the shares.
	log, shares string
	// role is that of the clients.
	role clientRole
	// program is theirs. It is this one if it is empty.
	program string
	// mu guards clients.
	mu sync.Mutex
	// clients are those that were started.
	clients []*clientProcess
}

// newSite starts sshd. When the test ends, clients and shares end.
func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "share") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, log: filepath.Join(dir, "sshd.log"), shares: filepath.Join(dir, "share.log")}
	sshd := filepath.Join(dir, "sshd")
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" 2>>%s\n", openssh.Tool(t, "sshd"), s.log)
	if err := os.WriteFile(sshd, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	key := openssh.WriteKey(t, filepath.Join(dir, "key"), "")
	s.server = openssh.StartBy(t, sshd, key.PublicKey(), "MaxStartups 200", "MaxSessions 200")
	known := fmt.Sprintf("[127.0.0.1]:%d %s", s.server.Addr.Port, ssh.MarshalAuthorizedKey(s.server.HostKey))
	os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(known), 0o600)
	s.role = clientRole{
		Config: filepath.Join(dir, "config"), Dirs: Dirs([]string{filepath.Join(dir, "run")}), Version: "1.0.0",
		Settings: Settings{Idle: time.Minute, LogFile: s.shares},
	}
	s.configure("")
	t.Cleanup(s.end)
	return s
}

// configure writes ssh_config anew, with further lines for the host.
func (s *site) configure(lines string) {
	s.t.Helper()
	dir := filepath.Dir(s.role.Config)
	text := fmt.Sprintf("Host site\n HostName 127.0.0.1\n Port %d\n IdentityFile %s/key\n IdentityAgent none\n UserKnownHostsFile %s/known_hosts\n%s",
		s.server.Addr.Port, dir, dir, lines)
	if err := os.WriteFile(s.role.Config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// end ends the clients, and then the shares that they have left.
func (s *site) end() {
	for _, c := range s.clients {
		c.end()
	}
	for _, pid := range s.sharePIDs() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	openssh.Eventually(s.t, "the end of all shares", func() bool { return len(s.sharePIDs()) == 0 })
	if s.t.Failed() {
		text, _ := os.ReadFile(s.shares)
		s.t.Logf("the log of clients and shares:\n%s", text)
	}
}

// sharePIDs are the processes of the shares of this site. Each has the site's directory in its
// environment.
func (s *site) sharePIDs() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if string(command) == "sallyport\x00share\x00" && strings.Contains(string(environ), dirVariable+"="+s.dir()+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *site) dir() string { return filepath.Dir(s.role.Config) }

// accepted counts the logins that sshd has let in.
func (s *site) accepted() int {
	text, _ := os.ReadFile(s.log)
	return strings.Count(string(text), "Accepted publickey")
}

// clientProcess is a client.
type clientProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	once  sync.Once
}

// start starts a client with further variables. It does not wait for it.
func (s *site) start(variables ...string) *clientProcess {
	s.t.Helper()
	role, err := json.Marshal(s.role)
	if err != nil {
		s.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	c := &clientProcess{cmd: exec.Command(cmp.Or(s.program, self)), lines: make(chan string, 100)}
	c.cmd.Env = append(os.Environ(), clientVariable+"="+string(role), dirVariable+"="+s.dir(), shareVersion+"="+s.role.Version)
	c.cmd.Env = append(c.cmd.Env, variables...)
	c.cmd.Stderr = s.t.Output()
	c.stdin, _ = c.cmd.StdinPipe()
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	go func() { // ends with the client
		defer close(c.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.lines <- lines.Text()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c
}

// line returns the next line that a client prints.
func (c *clientProcess) line(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-c.lines:
		if !ok {
			return "the client has ended"
		}
		return line
	case <-time.After(time.Minute):
		return "the client prints nothing"
	}
}

// awaitUp waits until a client is connected.
func (c *clientProcess) awaitUp(t *testing.T) {
	t.Helper()
	if line := c.line(t); line != "up" {
		t.Fatal(line)
	}
}

// echo runs a command through the client's tunnel.
func (c *clientProcess) echo(t *testing.T) {
	t.Helper()
	fmt.Fprintln(c.stdin, "echo hello")
	if line := c.line(t); line != `"hello\n" <nil>` {
		t.Error(line)
	}
}

// end ends a client, a stopped one too.
func (c *clientProcess) end() {
	c.once.Do(func() {
		c.stdin.Close()
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
}

// startUp starts clients at once, and waits until all are connected.
func (s *site) startUp(n int) []*clientProcess {
	s.t.Helper()
	var clients []*clientProcess
	for range n {
		clients = append(clients, s.start())
	}
	for _, c := range clients {
		c.awaitUp(s.t)
	}
	return clients
}

// checkLogins compares the number of logins so far.
func (s *site) checkLogins(want int) {
	s.t.Helper()
	if got := s.accepted(); got != want {
		s.t.Errorf("%d logins, want %d", got, want)
	}
}
