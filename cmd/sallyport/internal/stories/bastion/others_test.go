//go:build linux

package bastion_test

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// The proxy ends while a ProxyCommand and its child run: both go with it.
func TestProxyCommandEndsWithTheProxy(t *testing.T) {
	t.Parallel()
	const (
		stubborn = `trap "" HUP; sleep 1000 & echo "one is $$, one is $!." >&2; wait`
		deaf     = `trap "" HUP; echo "one is $$." >&2; exec sleep 1000` // reads no input, whose end would tell it; HUP as under nohup
	)
	for _, test := range []struct {
		name    string
		command string
		signal  syscall.Signal // 0 is the end of input
		status  int            // -1 is an end by a signal
	}{
		{"end of input", stubborn, 0, machines.StatusDone},
		{"SIGTERM", stubborn, syscall.SIGTERM, machines.StatusDone},
		{"SIGKILL", deaf, syscall.SIGKILL, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := machines.StartStdio(t, machines.Command(t, t.TempDir(), "--share", "off", "-F", "none", "--grant", "none", "--via", "bastion",
				"-o", "ProxyCommand=sh -c '"+test.command+"'", "https://mcp.internal/mcp"))
			p.Initialize(t)
			var running []*machines.Watched
			for _, word := range p.Err.Await(t, `ProxyCommand says.*one is (\d+)(?:, one is (\d+))?\.`)[1:] {
				if pid, err := strconv.Atoi(word); err == nil {
					running = append(running, machines.Watch(t, pid))
				}
			}
			if test.signal == 0 {
				p.Input.Close()
			} else {
				p.Signal(t, test.signal)
			}
			if status := p.Wait(t); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			for _, child := range running {
				child.CheckEnds(t)
			}
		})
	}
}

// A person has `ssh -W` as ProxyCommand, as was usual before there was ProxyJump.
func TestProxyCommandIsSSH(t *testing.T) {
	t.Parallel()
	s, jump := machines.NewPlainSite(t), machines.StartSSHD(t, machines.SSHDOptions{})
	known := machines.WriteKnownHosts(t, jump.KnownHosts)
	machines.NeedProgram(t, "ssh", "openssh-client")
	host := machines.StartHost(t, s.Command(t, "--share", "off", "-o", "ProxyCommand=sh -c 'echo knocking at %h >&2; exec ssh -F none -o UserKnownHostsFile="+known+
		" -i "+jump.IdentityFile+" -p "+jump.Port+" "+jump.User+"@127.0.0.1 -W %h:%p'"), nil)
	host.Echo(t)
	host.Stderr.Await(t, "knocking at 127.0.0.1")
	jump.Drop()
	for host.EchoError(t) != nil { // a call on the dying connection may have run, and gets an error
	}
	host.Close(t)
}

// A ProxyCommand may ask at the terminal of a command that a person has typed, and nowhere else.
func TestProxyCommandAndTheTerminal(t *testing.T) {
	t.Parallel()
	machines.NeedProgram(t, "ssh", "openssh-client")
	s := machines.NewPlainSite(t)
	t.Run("ssh -W asks for a password", func(t *testing.T) {
		t.Parallel()
		jump, password := machines.StartPasswordSSHD(t, "PasswordAuthentication yes")
		known := machines.WriteKnownHosts(t, jump.KnownHosts)
		term := machines.StartInTerminal(t, s.Command(t, "login", "-o", "ProxyCommand=ssh -F none -o PubkeyAuthentication=no "+
			"-o UserKnownHostsFile="+known+" -p "+jump.Port+" "+jump.User+"@127.0.0.1 -W %h:%p"))
		term.Type(t, jump.User+`@\S+'s password: $`, "not it\n")
		term.Type(t, `(?s)password: .*password: `, password+"\n")
		if status := term.Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		term := machines.StartInTerminal(t, s.Command(t, "login", "-o", "ProxyCommand=sh -c 'trap \"\" INT; echo one is $$. >&2; "+
			"read answer </dev/tty'"))
		pid, err := strconv.Atoi(term.Await(t, `one is (\d+)\.`)[1])
		if err != nil {
			t.Fatal(err)
		}
		child := machines.Watch(t, pid)
		term.Type(t, "one is", machines.CtrlC)
		if status := term.Wait(t); status != machines.StatusInterrupted {
			t.Errorf("status %d", status)
		}
		child.CheckEnds(t)
	})
	t.Run("the proxy in a terminal", func(t *testing.T) {
		t.Parallel()
		term := machines.StartInTerminal(t, s.Command(t, "--share", "off", "-o", "ProxyCommand=sh -c 'read answer </dev/tty; echo got $answer. >&2'"))
		term.Type(t, "", `{"jsonrpc":"2.0","id":1,"method":"ping"}`+"\n")
		term.Await(t, `ProxyCommand says.*/dev/tty: No such device or address`)
	})
}

// twoFactors is a bastion that wants a key and a password, and a person who has both.
type twoFactors struct {
	machines.PlainSite
	password, known, socket string
}

// ssh logs in by the real ssh, which becomes the ControlMaster.
func (b *twoFactors) ssh(t *testing.T) *machines.Terminal {
	t.Helper()
	term := machines.StartInTerminal(t, exec.Command("ssh", "-F", "none", "-N", "-v", "-o", "ControlMaster=auto",
		"-S", b.socket,
		"-o", "UserKnownHostsFile="+b.known, "-i", b.SSHD.IdentityFile, "-p", b.SSHD.Port, "-l", b.SSHD.User, "127.0.0.1"))
	term.Type(t, `Password: $`, b.password+"\n")
	term.Await(t, `Entering interactive session`)
	return term
}

// login types `sallyport login` and the password if it is wanted.
func (b *twoFactors) login(t *testing.T, asked bool, args ...string) (screen string) {
	t.Helper()
	term := machines.StartInTerminal(t, b.Command(t, append([]string{"login"}, args...)...))
	if asked {
		term.Type(t, `Password: $`, b.password+"\n")
	}
	if status := term.Wait(t); status != machines.StatusDone {
		t.Errorf("sallyport login %q: status %d", args, status)
	}
	return term.String()
}

// A person logs in to a bastion with two factors once, by the real ssh, and the proxy takes that
// connection.
func TestControlMasterOfABastionWithTwoFactors(t *testing.T) {
	t.Parallel()
	machines.NeedPAM(t)
	machines.NeedProgram(t, "ssh", "openssh-client")
	server, password := machines.StartPasswordSSHD(t, "UsePAM yes", "KbdInteractiveAuthentication yes",
		"AuthenticationMethods publickey,keyboard-interactive")
	b := &twoFactors{
		machines.PlainSite{SSHD: server, Upstream: machines.StartMCP(t, nil)},
		password, machines.WriteKnownHosts(t, server.KnownHosts), filepath.Join(machines.OpenDir(t), "%C"),
	}
	socket := []string{"-o", "ControlPath=" + b.socket}
	socket = append(socket, "--share", "off") // each of the logins is to be one
	rides := append([]string{"--control-master"}, socket...)

	// Without a master, and with --control-master=off, the person is asked.
	if screen := b.login(t, true, rides...); !strings.Contains(screen, "no ControlMaster answers") {
		t.Errorf("no master: the screen shows %s", screen)
	}
	master := b.ssh(t)
	b.login(t, true, append([]string{"--control-master=off"}, socket...)...)
	for _, args := range [][]string{rides, socket} {
		if screen := b.login(t, false, args...); strings.Contains(screen, "assword") {
			t.Errorf("sallyport login %q: a question: %s", args, screen)
		}
	}
	host := machines.StartHost(t, b.Command(t, rides...), nil)
	host.Echo(t)

	// The person's master ends. A person is wanted, until there is another.
	master.Stop()
	for host.EchoError(t) == nil { // the first may be answered by a connection that is about to end
	}
	for !strings.Contains(host.Wire.String(), `"kind":"ssh_needs_person"`) {
		host.EchoError(t)
	}
	if text := host.Stderr.String(); !strings.Contains(text, "hint: ") {
		t.Errorf("stderr: %s", text)
	}
	b.ssh(t)
	// The proxy tries for a person once in 30 s.
	machines.Poll(t, func() bool { return host.EchoError(t) == nil }, "the proxy to find the new master")
	host.Close(t)
}
