//go:build !windows

package openssh

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
)

// Server is a real OpenSSH server on loopback: a listener of ours that runs `sshd -i` for each
// connection. It ends with the test.
type Server struct {
	// Addr is where it listens.
	Addr *net.TCPAddr
	// Dir holds sshd_config, authorized_keys and, unless an option names a HostKey, host_key.
	Dir string
	// HostKey is the key that was made; nil where an option names a HostKey.
	HostKey ssh.PublicKey

	t     testing.TB
	mu    sync.Mutex
	conns []net.Conn
	pids  map[int]bool
	// accepted counts the connections so far.
	accepted int
	wg       sync.WaitGroup
}

// Start starts a server that lets authorized in. options are further lines of sshd_config; a
// HostKey among them replaces the one that is made.
func Start(t testing.TB, authorized ssh.PublicKey, options ...string) *Server {
	t.Helper()
	return StartBy(t, Tool(t, "sshd"), authorized, options...)
}

// StartBy is Start with a program of its own, which runs sshd with the arguments that it gets.
func StartBy(t testing.TB, program string, authorized ssh.PublicKey, options ...string) *Server {
	t.Helper()
	if os.Geteuid() == 0 {
		// Privilege separation insists on this directory; a package's boot script makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{t: t, Dir: t.TempDir()}
	path := func(name string) string { return filepath.Join(s.Dir, name) }
	config := "\n" + strings.Join(options, "\n") + "\n" + // the first value counts
		// Below another shell, bash does not read the ~/.bashrc of this machine. That is slow, and
		// may print anything.
		"SetEnv SHLVL=9\n" +
		"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n" +
		"AuthorizedKeysFile " + path("authorized_keys") + "\n"
	if !strings.Contains(config, "\nHostKey ") {
		s.HostKey = WriteKey(t, path("host_key"), "").PublicKey()
		config += "HostKey " + path("host_key") + "\n"
	}
	writeFile(t, path("sshd_config"), []byte(config))
	if authorized != nil {
		writeFile(t, path("authorized_keys"), ssh.MarshalAuthorizedKey(authorized))
	}
	s.listen(program, "-i", "-e", "-f", path("sshd_config"))
	return s
}

// StartProgram starts a server that runs any program for each connection, on the program's stdin
// and stdout.
func StartProgram(t testing.TB, dir string, argv ...string) *Server {
	t.Helper()
	s := &Server{t: t, Dir: dir}
	s.listen(argv...)
	return s
}

func (s *Server) listen(argv ...string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.Addr = ln.Addr().(*net.TCPAddr)
	s.wg.Go(func() { // ends with ln
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
		s.Drop()
		s.wg.Wait()
	})
}

func (s *Server) serve(argv []string, conn net.Conn) {
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
	s.accepted++
	s.conns = append(s.conns, conn) // left open: Drop shuts it down
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

// Accepted returns how many connections have come so far.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Open returns how many connections are served now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pids)
}

// Kill kills all processes that serve connections.
func (s *Server) Kill() { s.Signal(syscall.SIGKILL) }

// Signal sends a signal to all processes that serve connections.
func (s *Server) Signal(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid := range s.pids {
		syscall.Kill(-pid, signal)
	}
}

// Drop ends all connections.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.(*net.TCPConn).CloseRead()
		c.(*net.TCPConn).CloseWrite()
	}
	s.conns = nil
}

// Host returns the configuration that reaches the server with one key file. If HostKey is set, it
// is known.
func (s *Server) Host(t testing.TB, alias, keyFile string) *sshconfig.Host {
	t.Helper()
	h := NewHost(t, alias, s.Addr.String())
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	h.User = u.Username
	h.IdentityFiles, h.IdentityFilesSet = []string{keyFile}, true
	if s.HostKey != nil {
		line := fmt.Sprintf("[127.0.0.1]:%d %s", s.Addr.Port, ssh.MarshalAuthorizedKey(s.HostKey))
		writeFile(t, h.UserKnownHostsFiles[0], []byte(line))
	}
	return h
}
