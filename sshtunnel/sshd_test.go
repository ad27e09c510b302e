//go:build !windows

package sshtunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
)

// sshd is a real OpenSSH server on loopback: a listener of ours that runs `sshd -i` per connection.
type sshd struct {
	t       *testing.T
	dir     string
	addr    *net.TCPAddr
	hostKey ssh.PublicKey // of the first host key

	mu    sync.Mutex
	conns []net.Conn
	pids  map[int]bool
	wg    sync.WaitGroup
}

// needTool returns the path of a program, or skips; with CI=true a missing one is a failure.
func needTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && name == "sshd" {
		path, err = exec.LookPath("/usr/sbin/sshd")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: %v", name, err)
		}
		t.Skipf("%s is missing (.ci/install-parts gets it): %v", name, err)
	}
	return path
}

// startSSHD starts a server that lets authorized in. options are further sshd_config lines; a
// HostKey among them replaces the one that is made.
func startSSHD(t *testing.T, authorized ssh.PublicKey, options ...string) *sshd {
	t.Helper()
	return startSSHDBy(t, needTool(t, "sshd"), authorized, options...)
}

// startSSHDBy is startSSHD with a program of its own, which runs sshd with the arguments it gets.
func startSSHDBy(t *testing.T, bin string, authorized ssh.PublicKey, options ...string) *sshd {
	t.Helper()
	if os.Geteuid() == 0 {
		// Privilege separation insists on this directory; a package's boot script makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &sshd{t: t, dir: t.TempDir()}
	config := "\n" + strings.Join(options, "\n") + "\n" + // the first value counts
		"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n" +
		"AuthorizedKeysFile " + filepath.Join(s.dir, "authorized_keys") + "\n"
	if !strings.Contains(config, "\nHostKey ") {
		key := writeKey(t, filepath.Join(s.dir, "host_key"), "")
		s.hostKey = key.PublicKey()
		config += "HostKey " + filepath.Join(s.dir, "host_key") + "\n"
	}
	writeFile(t, filepath.Join(s.dir, "sshd_config"), config)
	if authorized != nil {
		writeFile(t, filepath.Join(s.dir, "authorized_keys"), string(ssh.MarshalAuthorizedKey(authorized)))
	}
	s.listen(bin, "-i", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	return s
}

// listen runs a program for each connection, on its stdin and stdout.
func (s *sshd) listen(argv ...string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().(*net.TCPAddr)
	s.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(argv, conn) })
		}
	})
	s.t.Cleanup(func() {
		ln.Close()
		s.drop()
		s.wg.Wait()
	})
}

func (s *sshd) serve(argv []string, conn net.Conn) {
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		conn.Close()
		return
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, s.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	f.Close()
	if err != nil {
		conn.Close()
		return
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn) // kept open: drop shuts it down
	if s.pids == nil {
		s.pids = map[int]bool{}
	}
	s.pids[cmd.Process.Pid] = true
	s.mu.Unlock()
	cmd.WaitDelay = time.Second
	cmd.Wait()
	s.mu.Lock()
	delete(s.pids, cmd.Process.Pid)
	s.mu.Unlock()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
	conn.Close()
}

// kill kills all that serve connections.
func (s *sshd) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid := range s.pids {
		syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// drop ends all connections.
func (s *sshd) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.(*net.TCPConn).CloseRead()
		c.(*net.TCPConn).CloseWrite()
	}
	s.conns = nil
}

// host returns the configuration that reaches s with one key file, its host key known.
func (s *sshd) host(t *testing.T, alias, keyFile string) *Host {
	t.Helper()
	h := newHost(t, alias, s.addr.String())
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	h.User = u.Username
	h.IdentityFiles, h.IdentityFilesSet = []string{keyFile}, true
	if s.hostKey != nil {
		writeFile(t, h.UserKnownHostsFiles[0], fmt.Sprintf("[127.0.0.1]:%d %s", s.addr.Port, ssh.MarshalAuthorizedKey(s.hostKey)))
	}
	return h
}

// newHost returns what Resolve would of an almost empty file, with a known_hosts file of its own.
func newHost(t *testing.T, alias, addr string) *Host {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return &Host{
		Alias: alias, HostName: a.IP.String(), Port: a.Port, User: "someone",
		UserKnownHostsFiles: []string{filepath.Join(t.TempDir(), "known_hosts")}, StrictHostKeyChecking: "yes",
		IdentityAgent: "none", PubkeyAuthentication: true, PasswordAuthentication: true, KbdInteractiveAuthentication: true,
		NumberOfPasswordPrompts: 3, ConnectionAttempts: 1, TCPKeepAlive: true,
	}
}

// fakeHost is the Host of an in-process server whose key is known.
func fakeHost(t *testing.T, alias string, s *sshtest.Server) *Host {
	t.Helper()
	h := newHost(t, alias, s.Addr())
	writeFile(t, h.UserKnownHostsFiles[0], s.KnownHosts(""))
	return h
}

// startFake starts an in-process server that anybody may use, unless cfg says how to log in.
func startFake(t *testing.T, cfg sshtest.Config) *sshtest.Server {
	t.Helper()
	if cfg.AuthorizedKeys == nil && cfg.Password == "" && cfg.Challenges == nil && cfg.Stall != sshtest.StallAuth {
		cfg.NoAuth = true
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	cfg.Log = testLog(t)
	s, err := sshtest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newTunnel makes a tunnel over a fixed chain, closed at the end of the test.
func newTunnel(t *testing.T, ask func(context.Context, Question) (string, error), chain ...*Host) *Tunnel {
	t.Helper()
	return tunnelOf(t, Config{Ask: ask, Chain: func(context.Context) ([]*Host, error) { return chain, nil }})
}

func tunnelOf(t *testing.T, cfg Config) *Tunnel {
	t.Helper()
	cfg.Log = testLog(t)
	tun, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return tun
}

// writeKey makes a private key file, encrypted if there is a passphrase, with its .pub.
func writeKey(t *testing.T, path, passphrase string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(pem.EncodeToMemory(block)))
	if passphrase != "" {
		// One round of bcrypt: x/crypto's sixteen take seconds under -race.
		run(t, "ssh-keygen", "-q", "-p", "-a", "1", "-N", passphrase, "-f", path)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+".pub", string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return signer
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), needTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// echo is a TCP server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	return ln.Addr().String()
}

func serveEcho(t *testing.T, ln net.Listener) {
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with ln
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the peer
				defer c.Close()
				io.Copy(c, c)
				if half, ok := c.(interface{ CloseWrite() error }); ok {
					half.CloseWrite()
				}
			}()
		}
	}()
}

// checkEcho sends a line through conn and expects it back.
func checkEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	const want = "hello through the tunnel\n"
	if _, err := io.WriteString(conn, want); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Fatalf("echo: got %q", got)
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			buf := make([]byte, 1<<18)
			t.Fatalf("never happened: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

// noLeak expects that f leaves no goroutine behind.
func noLeak(t *testing.T, f func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	f()
	eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
}

// waitPhase waits until the tunnel is in a phase.
func waitPhase(t *testing.T, tun *Tunnel, phase string) State {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		st, changed := tun.State()
		if st.Phase == phase {
			return st
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("phase %s (%v), want %s", st.Phase, st.Err, phase)
		}
	}
}
