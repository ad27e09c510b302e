package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// terminal is a program that runs in a pseudo-terminal of its own, as if a person had typed it.
type terminal struct {
	*transcript // what the person sees
	keyboard    *os.File
	cmd         *exec.Cmd
	exited      chan struct{} // closed when err is set
	err         error
}

// startInTerminal starts cmd as the leader of a session whose terminal it reads and writes. It ends
// with the test.
func startInTerminal(t testing.TB, cmd *exec.Cmd) *terminal {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{transcript: newTranscript(t.Output()), keyboard: ours, cmd: cmd, exited: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.Copy(term.transcript, ours) // ends with the last holder of the terminal
		term.err = cmd.Wait()
		term.end()
		close(term.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-term.exited:
		default:
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-term.exited
		}
		ours.Close()
	})
	return term
}

// types waits until the screen matches pattern, then types text.
func (term *terminal) types(t testing.TB, pattern, text string) {
	t.Helper()
	term.await(t, pattern)
	if _, err := io.WriteString(term.keyboard, text); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the program to end by itself and returns its exit status.
func (term *terminal) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-term.exited:
	case <-time.After(patience):
		t.Fatalf("%s did not end; the screen:\n%s", term.cmd.Path, term)
	}
	if exit := (*exec.ExitError)(nil); term.err != nil && !errors.As(term.err, &exit) {
		t.Fatal(term.err)
	}
	return term.cmd.ProcessState.ExitCode()
}

const ctrlC = "\x03"

// TestQuestionsInTheTerminal has a person at `sallyport login`.
func TestQuestionsInTheTerminal(t *testing.T) {
	t.Parallel()
	s := newPlainSite(t)
	known := func(t *testing.T, text string) string {
		return writeFile(t, openDir(t), "known_hosts", text, 0o600)
	}
	login := func(t *testing.T, known, key string, more ...string) *terminal {
		return startInTerminal(t, s.command(t, append([]string{"login", "-o", "UserKnownHostsFile=" + known, "-o", "IdentityFile=" + key}, more...)...))
	}
	const unknownHost = `fingerprint is: SHA256:\S+\s+This key is not known by any other names\.\s+Are you sure you want to continue connecting \(yes/no/\[fingerprint\]\)\? $`

	t.Run("unknown host accepted", func(t *testing.T) {
		file := known(t, "")
		term := login(t, file, s.sshd.IdentityFile)
		term.types(t, unknownHost, "yes\n")
		if status := term.wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
		text, err := os.ReadFile(file)
		if err != nil || string(text) != s.sshd.KnownHosts {
			t.Errorf("known_hosts: got %q, %v, want %q", text, err, s.sshd.KnownHosts)
		}
		if again := login(t, file, s.sshd.IdentityFile); again.wait(t) != statusDone || strings.Contains(again.String(), "?") {
			t.Error("asked again")
		}
	})
	t.Run("unknown host refused", func(t *testing.T) {
		file := known(t, "")
		term := login(t, file, s.sshd.IdentityFile)
		term.types(t, unknownHost, "no\n")
		if status := term.wait(t); status != statusHostKey {
			t.Errorf("status %d, want %d", status, statusHostKey)
		}
		if text, _ := os.ReadFile(file); len(text) > 0 {
			t.Errorf("known_hosts: %q", text)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		term := login(t, known(t, ""), s.sshd.IdentityFile)
		term.types(t, unknownHost, ctrlC)
		if status := term.wait(t); status != statusInterrupted {
			t.Errorf("status %d, want %d", status, statusInterrupted)
		}
	})
	t.Run("passphrase", func(t *testing.T) {
		term := login(t, known(t, s.sshd.KnownHosts), encrypted(t, s.sshd.IdentityFile, "open sesame"))
		term.types(t, `Enter passphrase for key '\S+': $`, "open barley\n")
		term.types(t, `(?s)passphrase.*Enter passphrase for key '\S+': $`, "open sesame\n")
		if status := term.wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
		if strings.Contains(term.String(), "open") {
			t.Error("the passphrase was shown")
		}
	})
	t.Run("password", func(t *testing.T) {
		server, password := startPasswordSSHD(t, "PasswordAuthentication yes")
		term := login(t, known(t, server.KnownHosts), "none", "-o", "Port="+server.Port, "-o", "User="+server.User)
		term.types(t, server.User+`@\S+'s password: $`, "not it\n")
		term.types(t, `(?s)password: .*password: $`, password+"\n")
		if status := term.wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
	})
	t.Run("keyboard-interactive", func(t *testing.T) {
		_, err := os.Stat("/etc/pam.d/sshd")
		needPart(t, err == nil, "/etc/pam.d/sshd", "apt-get install openssh-server")
		server, password := startPasswordSSHD(t, "UsePAM yes", "KbdInteractiveAuthentication yes")
		term := login(t, known(t, server.KnownHosts), "none", "-o", "Port="+server.Port, "-o", "User="+server.User)
		term.types(t, `Password: $`, password+"\n")
		if status := term.wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
	})
}

// TestQuestionsUnderAHost has nobody at a terminal: the proxy uses the agent and SSH_ASKPASS, or
// says what is wanted.
func TestQuestionsUnderAHost(t *testing.T) {
	t.Parallel()
	s := newPlainSite(t)
	key := encrypted(t, s.sshd.IdentityFile, "open sesame")
	dir := openDir(t)
	asked := dir + "/asked"
	askpass := writeFile(t, dir, "askpass", "#!/bin/sh\n{ echo \"$*\"; env; } >>"+asked+"\necho 'open sesame'\n", 0o755)
	proxy := func(t *testing.T, env []string, args ...string) *mcpHost {
		cmd := s.command(t, args...)
		cmd.Env = append(cmd.Env, env...)
		return startHost(t, cmd, nil)
	}
	t.Run("SSH_ASKPASS", func(t *testing.T) {
		callEcho(t, proxy(t, []string{"SSH_ASKPASS=" + askpass, "SSH_ASKPASS_REQUIRE=force", "OAUTH2_CLIENT_SECRET=hush"}, "-o", "IdentityFile="+key).Session(t))
		text, err := os.ReadFile(asked)
		if err != nil || !strings.HasPrefix(string(text), "Enter passphrase for key '"+key+"'") || strings.Contains(string(text), "hush") {
			t.Errorf("the program was given %q, %v", text, err)
		}
	})
	t.Run("agent", func(t *testing.T) {
		socket := startAgent(t, s.sshd.IdentityFile)
		callEcho(t, proxy(t, []string{"SSH_AUTH_SOCK=" + socket}, "-o", "IdentityFile=none").Session(t))
	})
	t.Run("agent holds the encrypted key", func(t *testing.T) {
		socket := startAgent(t, s.sshd.IdentityFile)
		callEcho(t, proxy(t, []string{"SSH_AUTH_SOCK=" + socket}, "-o", "IdentityFile="+key, "-o", "IdentitiesOnly=yes").Session(t))
	})
	t.Run("certificate", func(t *testing.T) {
		authority := openDir(t) + "/ca"
		keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", authority)
		own := openDir(t) + "/id"
		keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", own)
		keygen(t, "-q", "-s", authority, "-I", "person", "-n", s.sshd.User, own+".pub")
		server := startSSHD(t, sshdOptions{Config: []string{"TrustedUserCAKeys " + authority + ".pub", "AuthorizedKeysFile none"}})
		known := writeFile(t, openDir(t), "known_hosts", server.KnownHosts, 0o600)
		callEcho(t, proxy(t, nil, "-o", "Port="+server.Port, "-o", "UserKnownHostsFile="+known, "-o", "IdentityFile="+own).Session(t))
	})
	t.Run("nobody", func(t *testing.T) {
		host := proxy(t, nil, "-o", "IdentityFile="+key)
		host.Stderr.await(t, `(?s)authentication needs a person.*\nhint: .*ssh-add.*\nhint: .*sallyport login`)
		if _, err := host.Session(t).CallTool(t.Context(), &mcp.CallToolParams{Name: "echo"}); err == nil {
			t.Error("a call was answered")
		}
		host.Wire.await(t, `"kind":"ssh_needs_person"`)
	})
}

// plainSite is an MCP server that asks for no token, behind one sshd.
type plainSite struct {
	sshd     *sshd
	upstream string
}

func newPlainSite(t testing.TB) *plainSite {
	t.Helper()
	return &plainSite{sshd: startSSHD(t, sshdOptions{}), upstream: startMCP(t, nil)}
}

// command is sallyport through the sshd, with a home of its own; settings in args win.
func (s *plainSite) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	known := writeFile(t, openDir(t), "known_hosts", s.sshd.KnownHosts, 0o600)
	args = append(args, "-F", "none", "--grant", "none", "--via", "127.0.0.1", "-o", "Port="+s.sshd.Port, "-o", "User="+s.sshd.User,
		"-o", "IdentityFile="+s.sshd.IdentityFile, "-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=none", s.upstream)
	cmd := exec.Command(buildSallyport(t), args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	return cmd
}

// encrypted copies a private key and protects the copy.
func encrypted(t testing.TB, key, passphrase string) string {
	t.Helper()
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, openDir(t), "id_encrypted", string(text), 0o600)
	keygen(t, "-q", "-p", "-P", "", "-N", passphrase, "-f", file)
	return file
}

func keygen(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(needProgram(t, "ssh-keygen", "openssh-client"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, out)
	}
}

// startAgent starts an ssh-agent that holds key and returns its socket.
func startAgent(t testing.TB, key string) string {
	t.Helper()
	socket := openDir(t) + "/agent"
	agent := startProcess(t, exec.Command(needProgram(t, "ssh-agent", "openssh-client"), "-D", "-a", socket))
	agent.Out.await(t, `SSH_AUTH_SOCK`)
	add := exec.Command(needProgram(t, "ssh-add", "openssh-client"), "-q", key)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v: %s", err, out)
	}
	return socket
}

// startPasswordSSHD starts an sshd into an account of its own that has a password.
func startPasswordSSHD(t testing.TB, config ...string) (server *sshd, password string) {
	t.Helper()
	a := newAccount(t)
	password = "correct horse"
	cmd := exec.Command(needProgram(t, "chpasswd", "passwd"))
	cmd.Stdin = strings.NewReader(a.Name + ":" + password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
	return startSSHD(t, sshdOptions{User: a, Config: config}), password
}
