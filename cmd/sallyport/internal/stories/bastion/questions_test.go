//go:build linux

// The stories of a person whose bastion asks something, or is reached in a way of its own: unknown
// host keys, passphrases, passwords, two factors, agents, ProxyCommand, ControlMaster, a
// known_hosts file that many processes write. Real: sshd with PAM, ssh, ssh-agent, ssh-keygen, a
// pseudo-terminal.
package bastion_test

import (
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// unknownHost is the question as ssh asks it.
const unknownHost = `fingerprint is: SHA256:\S+\s+This key is not known by any other names\.\s+Are you sure you want to continue connecting \(yes/no/\[fingerprint\]\)\? $`

// atTheTerminal is a person who types `sallyport login`.
type atTheTerminal struct{ *machines.PlainSite }

func (p atTheTerminal) login(t *testing.T, known, key string, more ...string) *machines.Terminal {
	t.Helper()
	args := append([]string{"login", "-o", "UserKnownHostsFile=" + known, "-o", "IdentityFile=" + key}, more...)
	return machines.StartInTerminal(t, p.Command(t, args...))
}

// A person at a terminal is asked what ssh would ask.
func TestQuestionsAtTheTerminal(t *testing.T) {
	t.Parallel()
	p := atTheTerminal{machines.NewPlainSite(t)}
	t.Run("unknown host", p.unknownHost)
	t.Run("passphrase", func(t *testing.T) {
		term := p.login(t, machines.WriteKnownHosts(t, p.SSHD.KnownHosts),
			machines.EncryptKey(t, p.SSHD.IdentityFile, "open sesame"))
		term.Type(t, `Enter passphrase for key '\S+': $`, "open barley\n")
		term.Type(t, `(?s)passphrase.*Enter passphrase for key '\S+': $`, "open sesame\n")
		if status := term.Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
		if strings.Contains(term.String(), "open") {
			t.Error("the passphrase was shown")
		}
	})
	t.Run("password", func(t *testing.T) {
		server, password := machines.StartPasswordSSHD(t, "PasswordAuthentication yes")
		term := p.login(t, machines.WriteKnownHosts(t, server.KnownHosts), "none", "-o", "Port="+server.Port,
			"-o", "User="+server.User)
		term.Type(t, server.User+`@\S+'s password: $`, "not it\n")
		term.Type(t, `(?s)password: .*password: $`, password+"\n")
		if status := term.Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
	})
	t.Run("keyboard-interactive", func(t *testing.T) {
		machines.NeedPAM(t)
		server, password := machines.StartPasswordSSHD(t, "UsePAM yes", "KbdInteractiveAuthentication yes")
		term := p.login(t, machines.WriteKnownHosts(t, server.KnownHosts), "none", "-o", "Port="+server.Port,
			"-o", "User="+server.User)
		term.Type(t, `Password: $`, password+"\n")
		if status := term.Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
	})
}

func (p atTheTerminal) unknownHost(t *testing.T) {
	t.Run("accepted", func(t *testing.T) {
		known := machines.WriteKnownHosts(t, "")
		term := p.login(t, known, p.SSHD.IdentityFile)
		term.Type(t, unknownHost, "yes\n")
		if status := term.Wait(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
		if text := machines.ReadFile(t, known); text != p.SSHD.KnownHosts {
			t.Errorf("known_hosts: got %q, want %q", text, p.SSHD.KnownHosts)
		}
		if again := p.login(t, known, p.SSHD.IdentityFile); again.Wait(t) != machines.StatusDone ||
			strings.Contains(again.String(), "?") {
			t.Error("asked again")
		}
	})
	t.Run("refused", func(t *testing.T) {
		known := machines.WriteKnownHosts(t, "")
		term := p.login(t, known, p.SSHD.IdentityFile)
		term.Type(t, unknownHost, "no\n")
		if status := term.Wait(t); status != machines.StatusHostKey {
			t.Errorf("status %d, want %d", status, machines.StatusHostKey)
		}
		if text := machines.ReadFile(t, known); text != "" {
			t.Errorf("known_hosts: %q", text)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		term := p.login(t, machines.WriteKnownHosts(t, ""), p.SSHD.IdentityFile)
		term.Type(t, unknownHost, machines.CtrlC)
		if status := term.Wait(t); status != machines.StatusInterrupted {
			t.Errorf("status %d, want %d", status, machines.StatusInterrupted)
		}
	})
}

// Under a host nobody is at a terminal: the proxy uses the agent and SSH_ASKPASS, or says what is
// wanted.
func TestQuestionsUnderAHost(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	key := machines.EncryptKey(t, s.SSHD.IdentityFile, "open sesame")
	proxy := func(t *testing.T, env []string, args ...string) *machines.Host {
		cmd := s.Command(t, args...)
		cmd.Env = append(cmd.Env, env...)
		return machines.StartHost(t, cmd, nil)
	}
	t.Run("SSH_ASKPASS", func(t *testing.T) {
		dir := machines.OpenDir(t)
		asked := filepath.Join(dir, "asked")
		askpass := machines.WriteFile(t, dir, "askpass", "#!/bin/sh\n{ echo \"$*\"; env; } >>"+asked+"\necho 'open sesame'\n", 0o755)
		proxy(t, []string{"SSH_ASKPASS=" + askpass, "SSH_ASKPASS_REQUIRE=force", "OAUTH2_CLIENT_SECRET=hush"},
			"-o", "IdentityFile="+key).Echo(t)
		if text := machines.ReadFile(t, asked); !strings.HasPrefix(text, "Enter passphrase for key '"+key+"'") ||
			strings.Contains(text, "hush") {
			t.Errorf("the program was given %q", text)
		}
	})
	t.Run("agent", func(t *testing.T) {
		socket := machines.StartAgent(t, s.SSHD.IdentityFile)
		proxy(t, []string{"SSH_AUTH_SOCK=" + socket}, "-o", "IdentityFile=none").Echo(t)
	})
	t.Run("agent holds the encrypted key", func(t *testing.T) {
		socket := machines.StartAgent(t, s.SSHD.IdentityFile)
		proxy(t, []string{"SSH_AUTH_SOCK=" + socket}, "-o", "IdentityFile="+key, "-o", "IdentitiesOnly=yes").Echo(t)
	})
	t.Run("certificate", func(t *testing.T) {
		authority, own := filepath.Join(machines.OpenDir(t), "ca"), filepath.Join(machines.OpenDir(t), "id")
		machines.Keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", authority)
		machines.Keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", own)
		machines.Keygen(t, "-q", "-s", authority, "-I", "person", "-n", s.SSHD.User, own+".pub")
		server := machines.StartSSHD(t, machines.SSHDOptions{Config: []string{"TrustedUserCAKeys " + authority + ".pub",
			"AuthorizedKeysFile none"}})
		known := machines.WriteKnownHosts(t, server.KnownHosts)
		proxy(t, nil, "-o", "Port="+server.Port, "-o", "UserKnownHostsFile="+known, "-o", "IdentityFile="+own).Echo(t)
	})
	t.Run("nobody can answer", func(t *testing.T) {
		t.Parallel() // the call waits for half a minute
		host := proxy(t, nil, "-o", "IdentityFile="+key)
		host.Stderr.Await(t, `(?s)authentication needs a person.*\nhint: .*ssh-add.*\nhint: .*sallyport login`)
		if err := host.EchoError(t); err == nil {
			t.Error("a call was answered")
		}
		host.Wire.Await(t, `"kind":"ssh_needs_person"`)
	})
}
