package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// account is a system account that exists as long as a test.
type account struct {
	Name string
	Home string
	uid  uint32
	gid  uint32
}

// newAccount makes an account with a home directory and no password.
func newAccount(t testing.TB) *account {
	t.Helper()
	needPart(t, os.Getuid() == 0, "root, for an account of its own", "run the tests as root")
	needProgram(t, "useradd", "passwd")
	var suffix [4]byte
	rand.Read(suffix[:])
	a := &account{Name: "sallyport-" + hex.EncodeToString(suffix[:])}
	a.Home = filepath.Join(openDir(t), "home")
	// '*' is no password; useradd's '!' would be a locked account, which sshd refuses.
	out, err := exec.Command("useradd", "--create-home", "--home-dir", a.Home, "--shell", "/bin/sh", "--password", "*", a.Name).CombinedOutput()
	if err != nil {
		t.Fatalf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() {
		a.killAll()
		if out, err := exec.Command("userdel", a.Name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
	})
	u, err := user.Lookup(a.Name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	a.uid, a.gid = uint32(uid), uint32(gid)
	return a
}

// killAll ends what still runs under the account: one with processes cannot be removed.
func (a *account) killAll() {
	killWhere(func(dir string) bool {
		info, err := os.Stat(dir)
		return err == nil && a.uid != 0 && info.Sys().(*syscall.Stat_t).Uid == a.uid
	})
}

// killWhere ends the processes whose directory below /proc is one of those meant, and waits for
// their end.
func killWhere(meant func(dir string) bool) {
	for found := true; found; { // again: one may have forked meanwhile
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
				unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			}
			unix.Close(fd)
		}
	}
}

// command returns a command that runs under the account, in its home, with an environment of its
// own. A nil account is the current user, whose environment is kept.
func (a *account) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if a == nil {
		cmd.Env = os.Environ()
		return cmd
	}
	cmd.Dir = a.Home
	cmd.Env = []string{"HOME=" + a.Home, "USER=" + a.Name, "LOGNAME=" + a.Name, "SHELL=/bin/sh", "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
	return cmd
}

// own gives files to the account: ssh refuses a private key that others could have written.
func (a *account) own(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// sshdOptions says what a hop is like; the zero value is a plain hop into the current user's account.
type sshdOptions struct {
	NS     *netns     // where its sessions and channels live; it listens on the machine's loopback all the same
	Listen string     // host:port inside NS to listen on instead
	User   *account   // who logs in; nil the current user
	HostCA ssh.Signer // gives the host a certificate; KnownHosts then names the authority
	Config []string   // lines of sshd_config(5), which win over ours
}

// sshd is an OpenSSH server as a hop: a listener of ours, and one `sshd -i` for each connection.
type sshd struct {
	Addr         string        // host:port
	Host, Port   string        // of Addr
	User         string        // who may log in
	IdentityFile string        // the private key that may
	HostKey      ssh.PublicKey // its plain host key
	KnownHosts   string        // the line of known_hosts for it, with a newline
	Log          *transcript   // sshd's own log, at level VERBOSE

	options  sshdOptions
	config   string
	listener net.Listener
	wg       sync.WaitGroup
	mu       sync.Mutex
	running  map[*exec.Cmd]bool
	stopped  bool
}

const sshdPath = "/usr/sbin/sshd" // sshd insists on an absolute path

// startSSHD starts a hop. It ends with the test.
func startSSHD(t testing.TB, o sshdOptions) *sshd {
	t.Helper()
	_, err := os.Stat(sshdPath)
	needPart(t, err == nil, sshdPath, "apt-get install openssh-server, or .ci/install-parts")
	if os.Getuid() == 0 {
		_, err = os.Stat("/run/sshd")
		needPart(t, err == nil, "/run/sshd", "mkdir /run/sshd, or .ci/install-parts")
	}
	dir := openDir(t)
	hostSigner, hostKey := newKey(t, dir, "host_key")
	clientSigner, identity := newKey(t, dir, "id_ed25519")

	s := &sshd{
		IdentityFile: identity, HostKey: hostSigner.PublicKey(), Log: newTranscript(t.Output()),
		options: o, running: map[*exec.Cmd]bool{},
	}
	if o.User != nil {
		s.User = o.User.Name
	} else {
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		s.User = u.Username
	}
	if o.Listen != "" {
		s.listener = o.NS.listen(t, o.Listen)
	} else if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.Addr = s.listener.Addr().String()
	s.Host, s.Port, _ = net.SplitHostPort(s.Addr)

	config := append(o.Config[:len(o.Config):len(o.Config)],
		"HostKey "+hostKey,
		"AuthorizedKeysFile "+writeFile(t, dir, "authorized_keys", string(ssh.MarshalAuthorizedKey(clientSigner.PublicKey())), 0o644),
		"PermitRootLogin prohibit-password",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"UsePAM no",
		"StrictModes no", // the keys lie in a temporary directory
		"PidFile none",
		"PrintMotd no",
		"UseDNS no",
		"LogLevel VERBOSE",
		"SetEnv "+s.mark(),
	)
	name := fmt.Sprintf("[%s]:%s", s.Host, s.Port)
	if o.HostCA != nil {
		config = append(config, "HostCertificate "+hostCertificate(t, dir, hostSigner.PublicKey(), o.HostCA))
		s.KnownHosts = "@cert-authority " + name + " " + string(ssh.MarshalAuthorizedKey(o.HostCA.PublicKey()))
	} else {
		s.KnownHosts = name + " " + string(ssh.MarshalAuthorizedKey(s.HostKey))
	}
	s.config = writeFile(t, dir, "sshd_config", strings.Join(config, "\n")+"\n", 0o600)

	s.wg.Go(s.serve)
	t.Cleanup(s.Stop)
	return s
}

func (s *sshd) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed by Stop
		}
		s.wg.Go(func() {
			if err := s.session(conn.(*net.TCPConn)); err != nil {
				fmt.Fprintf(s.Log, "sshd on %s: %v\n", s.Addr, err)
			}
		})
	}
}

// session hands one connection to an sshd of its own and waits for that to end.
func (s *sshd) session(conn *net.TCPConn) error {
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
		start = func(cmd *exec.Cmd) error { return s.options.NS.enter(cmd.Start) } // no `ip` that costs time
	case s.options.NS != nil:
		name, args = "ip", append([]string{"netns", "exec", s.options.NS.Name, sshdPath}, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, s.Log
	cmd.WaitDelay = patience // a command of the session may keep stderr open
	ownGroup(cmd)

	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	err = start(cmd)
	if err == nil {
		s.running[cmd] = true
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	socket.Close() // sshd has its own; ours would keep the connection open after it
	var exit *exec.ExitError
	if err = cmd.Wait(); errors.As(err, &exit) {
		err = nil // 255 is how a connection that was cut or refused ends
	}
	s.mu.Lock()
	delete(s.running, cmd)
	s.mu.Unlock()
	return err
}

// Drop cuts every connection that stands; new ones are welcome. Commands of the sessions run on, as
// they do when a network fails.
func (s *sshd) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cmd := range s.running {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// Stop cuts every connection, ends the commands of its sessions and refuses new connections; idempotent.
func (s *sshd) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.listener.Close()
	s.Drop()
	s.wg.Wait()
	// The command of a session outlives an sshd that was killed.
	killWhere(func(dir string) bool {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		return err == nil && slices.Contains(strings.Split(string(environ), "\x00"), s.mark())
	})
}

// mark is the environment entry by which the commands of its sessions are known.
func (s *sshd) mark() string { return "SALLYPORT_TEST_SSHD=" + s.Addr }

// newKey makes an ed25519 key, written in OpenSSH's form to dir/name.
func newKey(t testing.TB, dir, name string) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, writeFile(t, dir, name, string(pem.EncodeToMemory(block)), 0o600)
}

// newHostCA makes a key that can vouch for host keys.
func newHostCA(t testing.TB) ssh.Signer {
	t.Helper()
	signer, _ := newKey(t, t.TempDir(), "ca")
	return signer
}

// hostCertificate writes the certificate by which ca vouches for key as 127.0.0.1.
func hostCertificate(t testing.TB, dir string, key ssh.PublicKey, ca ssh.Signer) string {
	t.Helper()
	cert := &ssh.Certificate{Key: key, CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "host_key-cert.pub", string(ssh.MarshalAuthorizedKey(cert)), 0o644)
}

// hop is one Host block of an ssh_config.
type hop struct {
	Alias  string
	SSHD   *sshd
	Config []string // more lines of ssh_config(5) for it, which win over ours
}

// writeSSHConfig writes an ssh_config in which each hop is reached through the one before it, each
// with its own port, user, key and known_hosts file. It returns the file's path; the known_hosts
// file of a hop is its path plus "." plus the alias.
func writeSSHConfig(t testing.TB, hops ...hop) string {
	t.Helper()
	dir := openDir(t)
	var b strings.Builder
	for i, h := range hops {
		known := writeFile(t, dir, "config."+h.Alias, h.SSHD.KnownHosts, 0o644)
		fmt.Fprintf(&b, "Host %s\n", h.Alias)
		for _, line := range h.Config {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		fmt.Fprintf(&b, "  HostName %s\n  Port %s\n  User %s\n", h.SSHD.Host, h.SSHD.Port, h.SSHD.User)
		fmt.Fprintf(&b, "  IdentityFile %s\n  IdentitiesOnly yes\n", h.SSHD.IdentityFile)
		fmt.Fprintf(&b, "  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n", known)
		if i > 0 {
			fmt.Fprintf(&b, "  ProxyJump %s\n", hops[i-1].Alias)
		}
		b.WriteString("\n")
	}
	return writeFile(t, dir, "config", b.String(), 0o644)
}
