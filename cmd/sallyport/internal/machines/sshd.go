//go:build linux

package machines

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// SSHDOptions says what an SSH server is like. The zero value is a plain hop into the current
// user's account.
type SSHDOptions struct {
	// NS is where its sessions and channels live; nil is the machine of the tests. It listens on
	// the loopback of that machine in any case, unless Listen is set.
	NS *Namespace
	// Listen is host:port inside NS to listen on instead.
	Listen string
	// Daemon makes it one sshd that listens itself, as a bastion has it: with MaxStartups and all
	// else that sshd does about connections that are not logged in. It needs Listen, in a namespace
	// of the test's own.
	Daemon bool
	// User is the account that may log in; nil is the current user.
	User *Account
	// HostCA gives the host a certificate; KnownHosts then names the authority. Nil means a plain
	// key.
	HostCA ssh.Signer
	// Config holds lines of sshd_config(5), which win over ours.
	Config []string
}

// SSHD is a real OpenSSH server: a listener of ours, and one `sshd -i` for each connection. Or, as
// a Daemon, it is one `sshd -D`.
type SSHD struct {
	// Addr is host:port; Host and Port are its parts.
	Addr, Host, Port string
	// User is the name that may log in, IdentityFile the private key that may.
	User, IdentityFile string
	// HostKey is the server's plain host key.
	HostKey ssh.PublicKey
	// KnownHosts is the line of known_hosts for it, with a newline.
	KnownHosts string
	// Log is sshd's own log, at level VERBOSE.
	Log *Transcript

	options  SSHDOptions
	config   string
	mark     string // an environment entry by which the commands of its sessions are known
	listener net.Listener
	daemon   *exec.Cmd // nil unless options.Daemon
	wg       sync.WaitGroup
	sessions struct {
		sync.Mutex
		running map[*exec.Cmd]bool
		stopped bool
	}
}

const sshdPath = "/usr/sbin/sshd" // sshd insists on an absolute path

// StartSSHD starts an SSH server. It ends with the test.
func StartSSHD(t testing.TB, o SSHDOptions) *SSHD {
	t.Helper()
	needSSHD(t)
	dir := OpenDir(t)
	hostSigner, hostKey := NewKey(t, dir, "host_key")
	clientSigner, identity := NewKey(t, dir, "id_ed25519")
	s := &SSHD{
		User: o.User.name(t), IdentityFile: identity, HostKey: hostSigner.PublicKey(), Log: NewTranscript(t.Output()),
		mark: "SALLYPORT_TEST_SSHD=" + rand.Text(), options: o,
	}
	s.sessions.running = map[*exec.Cmd]bool{}
	if o.Listen != "" {
		s.listener = o.NS.Listen(t, o.Listen)
	} else {
		s.listener = Here.Listen(t, "127.0.0.1:0")
	}
	s.Addr = s.listener.Addr().String()
	s.Host, s.Port, _ = net.SplitHostPort(s.Addr)

	config := append(o.Config[:len(o.Config):len(o.Config)],
		"HostKey "+hostKey,
		"AuthorizedKeysFile "+WriteFile(t, dir, "authorized_keys",
			string(ssh.MarshalAuthorizedKey(clientSigner.PublicKey())), 0o644),
		"PermitRootLogin prohibit-password",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"UsePAM no",
		"StrictModes no", // the keys lie in a temporary directory
		"PidFile none",
		"PrintMotd no",
		"UseDNS no",
		"LogLevel VERBOSE",
		"SetEnv "+s.mark,
	)
	name := fmt.Sprintf("[%s]:%s ", s.Host, s.Port)
	if o.HostCA != nil {
		config = append(config, "HostCertificate "+hostCertificate(t, dir, hostSigner.PublicKey(), o.HostCA))
		s.KnownHosts = "@cert-authority " + name + string(ssh.MarshalAuthorizedKey(o.HostCA.PublicKey()))
	} else {
		s.KnownHosts = name + string(ssh.MarshalAuthorizedKey(s.HostKey))
	}
	s.config = WriteFile(t, dir, "sshd_config", strings.Join(config, "\n")+"\n", 0o600)

	if o.Daemon {
		s.listener.Close() // nobody else takes the port: the namespace is the test's own
		s.startDaemon(t)
	} else {
		s.listen(s.listener)
	}
	t.Cleanup(s.Stop)
	return s
}

// startDaemon starts sshd at the address, and waits until it listens.
func (s *SSHD) startDaemon(t testing.TB) {
	t.Helper()
	listens := len(s.Log.String())
	s.daemon = exec.Command(sshdPath, "-D", "-e", "-f", s.config, "-o", "ListenAddress="+s.Addr)
	s.daemon.Stderr, s.daemon.WaitDelay = s.Log, Patience
	OwnGroup(s.daemon)
	if err := s.options.NS.Enter(s.daemon.Start); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() { s.daemon.Wait() }) // ends with the daemon
	Poll(t, func() bool { return strings.Contains(s.Log.String()[listens:], "Server listening on ") }, "sshd to listen")
}

// needSSHD ends the test, as Need does, if no sshd can run here.
func needSSHD(t testing.TB) {
	t.Helper()
	_, err := os.Stat(sshdPath)
	Need(t, err == nil, sshdPath, "apt-get install openssh-server, or .ci/install-parts")
	if os.Getuid() == 0 {
		_, err = os.Stat("/run/sshd")
		Need(t, err == nil, "/run/sshd", "mkdir /run/sshd, or .ci/install-parts")
	}
}

// StartPasswordSSHD starts an SSH server into an account of its own that has a password.
func StartPasswordSSHD(t testing.TB, config ...string) (server *SSHD, password string) {
	t.Helper()
	a := NewAccount(t)
	password = "correct horse"
	a.SetPassword(t, password)
	return StartSSHD(t, SSHDOptions{User: a, Config: config}), password
}

// NeedPAM ends the test, as Need does, if sshd has no PAM configuration, which keyboard-interactive
// authentication takes.
func NeedPAM(t testing.TB) {
	t.Helper()
	_, err := os.Stat("/etc/pam.d/sshd")
	Need(t, err == nil, "/etc/pam.d/sshd", "apt-get install openssh-server, or .ci/install-parts")
}

func (s *SSHD) listen(listener net.Listener) {
	s.listener = listener
	s.wg.Go(func() { s.serve(listener) })
}

// serve accepts connections until Stop or Close.
func (s *SSHD) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		s.wg.Go(func() {
			if err := s.session(conn.(*net.TCPConn)); err != nil {
				fmt.Fprintf(s.Log, "sshd on %s: %v\n", s.Addr, err)
			}
		})
	}
}

// session hands one connection to an sshd of its own and waits for that to end.
func (s *SSHD) session(conn *net.TCPConn) error {
	socket, err := conn.File()
	conn.Close()
	if err != nil {
		return err
	}
	defer socket.Close()
	name, args := sshdPath, []string{"-i", "-e", "-f", s.config}
	start := func(cmd *exec.Cmd) error { return cmd.Start() }
	switch {
	case s.options.Listen != "":
		start = func(cmd *exec.Cmd) error { return s.options.NS.Enter(cmd.Start) } // no `ip` that costs time
	case s.options.NS != nil:
		name, args = "ip", append([]string{"netns", "exec", s.options.NS.Name, sshdPath}, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, s.Log
	cmd.WaitDelay = Patience // a command of the session may keep stderr open
	OwnGroup(cmd)

	s.sessions.Lock()
	if s.sessions.stopped {
		s.sessions.Unlock()
		return nil
	}
	err = start(cmd)
	if err == nil {
		s.sessions.running[cmd] = true
	}
	s.sessions.Unlock()
	if err != nil {
		return err
	}
	socket.Close() // sshd has its own; ours would keep the connection open after it
	var exit *exec.ExitError
	if err = cmd.Wait(); errors.As(err, &exit) {
		err = nil // 255 is how a connection that was cut or refused ends
	}
	s.sessions.Lock()
	delete(s.sessions.running, cmd)
	s.sessions.Unlock()
	return err
}

// Drop cuts every connection that stands. New ones are welcome. Commands of the sessions run on, as
// they do when a network fails.
func (s *SSHD) Drop() { s.signal(syscall.SIGKILL) }

// Pause stops the processes of every connection that stands. Their connections stay, and TCP goes
// on. New ones are welcome.
func (s *SSHD) Pause() { s.signal(syscall.SIGSTOP) }

// Continue is the end of Pause.
func (s *SSHD) Continue() { s.signal(syscall.SIGCONT) }

// signal sends a signal to the processes of every connection.
func (s *SSHD) signal(sig syscall.Signal) {
	if s.daemon != nil {
		for _, pid := range descendants(s.daemon.Process.Pid) {
			syscall.Kill(pid, sig)
		}
		return
	}
	s.sessions.Lock()
	defer s.sessions.Unlock()
	for cmd := range s.sessions.running {
		syscall.Kill(-cmd.Process.Pid, sig)
	}
}

// Close cuts every connection and refuses new ones, until Reopen: the server's machine starts anew.
func (s *SSHD) Close() {
	s.shut()
}

// shut ends the listening and every connection.
func (s *SSHD) shut() {
	s.listener.Close()
	if s.daemon != nil {
		s.daemon.Process.Signal(syscall.SIGSTOP) // nobody is the parent of its children later
		defer s.daemon.Process.Kill()
	}
	s.Drop()
}

// descendants are the processes that a process has started, and those that they have.
func descendants(pid int) (all []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil // it is gone
	}
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(append(all, child), descendants(child)...)
		}
	}
	return all
}

// Reopen listens again after Close, at the same address.
func (s *SSHD) Reopen(t testing.TB) {
	t.Helper()
	if s.options.Daemon {
		s.startDaemon(t)
		return
	}
	s.listen(s.options.NS.Listen(t, s.Addr))
}

// Stop cuts every connection, ends the commands of its sessions and refuses new connections. It may
// be called again.
func (s *SSHD) Stop() {
	s.sessions.Lock()
	s.sessions.stopped = true
	s.sessions.Unlock()
	s.shut()
	s.wg.Wait()
	// The command of a session outlives an sshd that was killed.
	killWhere(func(dir string) bool {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		return err == nil && slices.Contains(strings.Split(string(environ), "\x00"), s.mark)
	})
}

// SSHDaemon is an SSH server that listens itself, as the service of a system does, and that can be
// restarted with other settings.
type SSHDaemon struct {
	*SSHD
	process *Process
	// ours are the lines of sshd_config after those of Restart.
	ours string
}

// StartSSHDaemon starts an SSH server on the loopback of the machine of the tests. It ends with the
// test. Config of the options is what it starts with.
func StartSSHDaemon(t testing.TB, o SSHDOptions) *SSHDaemon {
	t.Helper()
	config := o.Config
	o.Config = nil
	d := &SSHDaemon{SSHD: StartSSHD(t, o)}
	d.SSHD.listener.Close() // the daemon takes its port
	d.SSHD.wg.Wait()
	d.ours = ReadFile(t, d.config)
	t.Cleanup(d.Kill)
	d.Start(t, config...)
	return d
}

// Start starts the daemon, in a new process, with the given lines of sshd_config.
func (d *SSHDaemon) Start(t testing.TB, config ...string) {
	t.Helper()
	text := strings.Join(append(config, "ListenAddress "+d.Addr, d.ours), "\n")
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.process = StartProcess(t, exec.Command(sshdPath, "-D", "-e", "-f", d.config))
	d.process.Err.Await(t, `Server listening on`)
}

// Kill ends the daemon alone, as the restart of the service does: the connections that stand go on.
func (d *SSHDaemon) Kill() { d.process.Stop() }

// KillAll ends the daemon and every connection, as the end of the machine does.
func (d *SSHDaemon) KillAll() {
	d.Kill()
	name := "sshd: " + d.User
	EndWhere(func(arguments string) bool {
		return strings.HasPrefix(arguments, name+" ") || strings.HasPrefix(arguments, name+"@")
	})
}
