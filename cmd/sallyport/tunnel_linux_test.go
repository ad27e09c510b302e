package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sys/unix"
)

// TestProxyCommandEnds ends the proxy while a ProxyCommand and its child run: both are to go with it.
func TestProxyCommandEnds(t *testing.T) {
	t.Parallel()
	const (
		stubborn = `trap "" HUP; sleep 1000 & echo "one is $$, one is $!." >&2; wait`
		deaf     = `trap "" HUP; echo "one is $$." >&2; exec sleep 1000` // reads no input, whose end would tell it; HUP as under nohup
	)
	for _, test := range []struct {
		name    string
		command string
		end     func(p *process, stdin io.Closer)
		status  int // -1: by a signal
	}{
		{"end of input", stubborn, func(_ *process, stdin io.Closer) { stdin.Close() }, statusDone},
		{"SIGTERM", stubborn, func(p *process, _ io.Closer) { p.cmd.Process.Signal(syscall.SIGTERM) }, statusDone},
		{"SIGKILL", deaf, func(p *process, _ io.Closer) { p.cmd.Process.Kill() }, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(buildSallyport(t), "-F", "none", "--grant", "none", "--via", "bastion", "-o", "ProxyCommand=sh -c '"+test.command+"'", "https://mcp.internal/mcp")
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
			p, host := startWithInput(t, cmd)
			io.WriteString(host, initializeLine)
			told := p.Err.await(t, `ProxyCommand says.*one is (\d+)(?:, one is (\d+))?\.`)
			var running []unix.PollFd
			for _, word := range told[1:] {
				if pid, err := strconv.Atoi(word); err == nil {
					fd, err := unix.PidfdOpen(pid, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer unix.Close(fd)
					defer unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
					running = append(running, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
				}
			}
			test.end(p, host)
			if status := p.wait(t); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			for i := range running {
				if n, err := unix.Poll(running[i:i+1], int(patience.Milliseconds())); n != 1 {
					t.Errorf("process %s runs on (%v)", told[1+i], err)
				}
			}
		})
	}
}

// TestProxyCommandThroughSSH is the way that was used before there was ProxyJump.
func TestProxyCommandThroughSSH(t *testing.T) {
	t.Parallel()
	s, jump := newPlainSite(t), startSSHD(t, sshdOptions{})
	known := writeFile(t, openDir(t), "known_hosts", jump.KnownHosts, 0o600)
	needProgram(t, "ssh", "openssh-client")
	host := startHost(t, s.command(t, "-o", "ProxyCommand=sh -c 'echo knocking at %h >&2; exec ssh -F none -o UserKnownHostsFile="+known+
		" -i "+jump.IdentityFile+" -p "+jump.Port+" "+jump.User+"@127.0.0.1 -W %h:%p'"), nil)
	session := host.Session(t)
	callEcho(t, session)
	host.Stderr.await(t, "knocking at 127.0.0.1")
	jump.Drop()
	for { // a call on the dying link may have run, and gets an error
		if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: echoArguments{"x"}}); err == nil {
			break
		}
	}
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
}

// TestControlMasterOfABastionWithTwoFactors lets the user log in once, by the real ssh, and the
// proxy ride along.
func TestControlMasterOfABastionWithTwoFactors(t *testing.T) {
	t.Parallel()
	_, err := os.Stat("/etc/pam.d/sshd")
	needPart(t, err == nil, "/etc/pam.d/sshd", "apt-get install openssh-server")
	server, password := startPasswordSSHD(t, "UsePAM yes", "KbdInteractiveAuthentication yes", "AuthenticationMethods publickey,keyboard-interactive")
	s := &plainSite{sshd: server, upstream: startMCP(t, nil)}
	needProgram(t, "ssh", "openssh-client")
	socket := openDir(t) + "/%C"
	known := writeFile(t, openDir(t), "known_hosts", server.KnownHosts, 0o600)
	logIn := func() *terminal {
		term := startInTerminal(t, exec.Command("ssh", "-F", "none", "-N", "-v", "-o", "ControlMaster=auto", "-S", socket, "-o", "UserKnownHostsFile="+known, "-i", server.IdentityFile,
			"-p", server.Port, "-l", server.User, "127.0.0.1"))
		term.types(t, `Password: $`, password+"\n")
		term.await(t, `Entering interactive session`)
		return term
	}
	rides := []string{"--control-master", "-o", "ControlPath=" + socket}

	// Without one, and without --control-master, the person is asked.
	term := startInTerminal(t, s.command(t, append([]string{"login"}, rides...)...))
	term.types(t, `Password: $`, password+"\n")
	if status := term.wait(t); status != statusDone || !strings.Contains(term.String(), "no ControlMaster answers") {
		t.Errorf("no master: status %d", status)
	}
	master := logIn()
	term = startInTerminal(t, s.command(t, "login", "-o", "ControlPath="+socket))
	term.types(t, `Password: $`, password+"\n")
	if status := term.wait(t); status != statusDone {
		t.Errorf("without --control-master: status %d", status)
	}

	term = startInTerminal(t, s.command(t, append([]string{"login"}, rides...)...))
	if status := term.wait(t); status != statusDone || strings.Contains(term.String(), "assword") {
		t.Errorf("with --control-master: status %d, or a question", status)
	}
	host := startHost(t, s.command(t, rides...), nil)
	session := host.Session(t)
	callEcho(t, session)

	// The user's master ends: a person is wanted, until there is another.
	master.cmd.Process.Kill()
	<-master.exited
	call := func() error {
		_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: echoArguments{"x"}})
		return err
	}
	for call() == nil { // the first may be answered by a connection that is about to end
	}
	for !strings.Contains(host.Wire.String(), `"kind":"ssh_needs_person"`) {
		call()
	}
	if text := host.Stderr.String(); !strings.Contains(text, "hint: ") {
		t.Errorf("stderr: %s", text)
	}
	logIn()
	again := time.NewTicker(time.Second) // the proxy tries for a person once in 30 s
	defer again.Stop()
	for began := time.Now(); call() != nil; <-again.C {
		if time.Since(began) > patience {
			t.Fatal("the proxy does not find the new master")
		}
	}
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
}

// TestKnownHostsOfManyProcesses lets eight proxies at once write into one file: first each adds the key
// that it met, then, by UpdateHostKeys, the server's other one, which rewrites the file. No line is lost.
func TestKnownHostsOfManyProcesses(t *testing.T) {
	t.Parallel()
	keygen := needProgram(t, "ssh-keygen", "openssh-client")
	upstream := startMCP(t, nil)
	for _, hash := range []string{"no", "yes"} {
		t.Run("HashKnownHosts "+hash, func(t *testing.T) {
			dir := openDir(t)
			const mine = "# mine\n\nelsewhere ssh-ed25519 not-a-key\nno newline at the end"
			known := writeFile(t, dir, "known_hosts", mine, 0o600)
			var servers []*sshd
			for range 8 {
				_, second := newKey(t, openDir(t), "second")
				servers = append(servers, startSSHD(t, sshdOptions{Config: []string{"HostKey " + second}}))
			}
			for keys, strict := range []string{"accept-new", "yes"} {
				var hosts []*mcpHost
				for _, server := range servers {
					hosts = append(hosts, startHost(t, (&plainSite{sshd: server, upstream: upstream}).command(t, "-o", "UserKnownHostsFile="+known,
						"-o", "StrictHostKeyChecking="+strict, "-o", "UpdateHostKeys=yes", "-o", "HashKnownHosts="+hash), nil))
				}
				again := time.NewTicker(50 * time.Millisecond)
				defer again.Stop()
				for began := time.Now(); countKeys(t, known) < (keys+1)*len(servers) && time.Since(began) < patience; {
					<-again.C
				}
				for _, host := range hosts {
					if err := host.Session(t).Close(); err != nil {
						t.Errorf("a proxy ended with %v", err)
					}
				}
			}
			text, err := os.ReadFile(known)
			if rest, ok := strings.CutPrefix(string(text), mine+"\n"); err != nil || !ok || strings.Count(rest, "\n") != 2*len(servers) {
				t.Errorf("known_hosts: %v\n%s", err, text)
			}
			for _, server := range servers {
				out, err := exec.Command(keygen, "-f", known, "-F", "["+server.Host+"]:"+server.Port).Output()
				if n := strings.Count(string(out), " ssh-ed25519 "); err != nil || n != 2 {
					t.Errorf("ssh-keygen finds %d keys of port %s, want 2: %v", n, server.Port, err)
				}
			}
			if hashed := strings.Count(string(text), "|1|"); hashed != map[string]int{"no": 0, "yes": 2 * len(servers)}[hash] {
				t.Errorf("%d hashed lines", hashed)
			}
			left, _ := filepath.Glob(dir + "/*")
			for _, file := range left {
				if file != known && file != known+".old" {
					t.Errorf("%s is left behind", file)
				}
			}
		})
	}
}

// countKeys counts the whole keys in a known_hosts file.
func countKeys(t testing.TB, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), " ssh-ed25519 AAAA")
}
