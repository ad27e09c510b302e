package main

import (
	"io"
	"os"
	"os/exec"
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
		deaf     = `echo "one is $$." >&2; exec sleep 1000` // reads no input, whose end would tell it
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
			stdin, host, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			cmd.Stdin = stdin
			p := startProcess(t, cmd)
			stdin.Close()
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
