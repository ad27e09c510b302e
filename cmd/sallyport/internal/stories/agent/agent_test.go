//go:build linux

// The stories of a proxy whose MCP host has not passed SSH_AUTH_SOCK on. Real: ssh-agent, sshd, the
// Go SDK's host and server, a terminal.
package agent_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// place is a person's machine with a bastion, and what leads there.
type place struct {
	site *machines.PlainSite
	// home and run are the directories of the person. run is XDG_RUNTIME_DIR.
	home, run string
	// key is the file of the key that the bastion accepts.
	key string
	// flags are those of the bastion, without a key.
	flags []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	site := machines.NewPlainSite(t)
	p := &place{site: site, home: machines.OpenDir(t), run: machines.OpenDir(t), key: site.SSHD.IdentityFile}
	if err := os.Chmod(p.run, 0o700); err != nil {
		t.Fatal(err)
	}
	machines.EndShares(t, p.home)
	p.flags = []string{"-F", "none", "--grant", "none", "--token-store", "memory", "--via", "127.0.0.1", "-o", "Port=" + site.SSHD.Port, "-o", "User=" + site.SSHD.User,
		"-o", "UserKnownHostsFile=" + machines.WriteKnownHosts(t, site.SSHD.KnownHosts), "-o", "GlobalKnownHostsFile=none"}
	return p
}

// command is the real command of this person. The variables of a host are those in env, and
// SSH_AUTH_SOCK is not set unless env has it.
func (p *place) command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	args = append(args, p.flags...)
	cmd := exec.Command(machines.Sallyport(t), append(args, p.site.Upstream)...)
	cmd.Dir = p.home
	cmd.Env = slices.DeleteFunc(machines.Environment(), func(v string) bool { return strings.HasPrefix(v, "SSH_AUTH_SOCK=") })
	cmd.Env = append(append(cmd.Env, "HOME="+p.home, "XDG_RUNTIME_DIR="+p.run), env...)
	return cmd
}

// agentAt starts an ssh-agent at a path that holds the keys.
func agentAt(t *testing.T, socket string, keys ...string) *machines.Process {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	agent := machines.StartProcess(t, exec.Command(machines.NeedProgram(t, "ssh-agent", "openssh-client"), "-D", "-a", socket))
	agent.Out.Await(t, `SSH_AUTH_SOCK`)
	for _, key := range keys {
		add := exec.Command(machines.NeedProgram(t, "ssh-add", "openssh-client"), "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v: %s", err, out)
		}
	}
	return agent
}

// logins counts the logins at the bastion.
func (p *place) logins() int {
	return strings.Count(p.site.SSHD.Log.String(), "Accepted publickey for")
}

// login types `sallyport login` and returns its terminal.
func (p *place) login(t *testing.T, env ...string) *machines.Terminal {
	t.Helper()
	return machines.StartInTerminal(t, p.command(t, env, "login"))
}

// The session's agent has the key. A proxy that was not told of it finds it, and one that was told
// of none does not look.
func TestAgentOfTheSession(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	agentAt(t, filepath.Join(p.run, "gcr", "ssh"), p.key)
	machines.EchoOnce(t, p.command(t, nil))
	for _, tt := range []struct {
		name string
		env  []string
		args []string
	}{
		{"a variable that is empty", []string{"SSH_AUTH_SOCK="}, nil},
		{"IdentityAgent none", nil, []string{"-o", "IdentityAgent=none"}},
		{"IdentityAgent of a variable that is not set", nil, []string{"-o", "IdentityAgent=$NO_SUCH_AGENT"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			term := machines.StartInTerminal(t, p.command(t, tt.env, append([]string{"login"}, tt.args...)...))
			if status := term.Wait(t); status != machines.StatusSSHAuth {
				t.Errorf("status %d, want %d:\n%s", status, machines.StatusSSHAuth, term)
			}
			if strings.Contains(term.String(), "SSH_AUTH_SOCK is not set") {
				t.Errorf("it looked for an agent:\n%s", term)
			}
		})
	}
}

// The agent of the terminal lies where nobody would look. A login there opens the shared
// connection, and a proxy without the variable uses that, also when the agent has ended.
func TestConnectionOfALogin(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	socket := filepath.Join(machines.OpenDir(t), "agent.17")
	agent := agentAt(t, socket, p.key)
	if status := p.login(t, "SSH_AUTH_SOCK="+socket).Wait(t); status != 0 {
		t.Fatalf("login: status %d", status)
	}
	machines.EchoOnce(t, p.command(t, nil))
	agent.Stop()
	machines.EchoOnce(t, p.command(t, nil))
	if got := p.logins(); got != 1 {
		t.Errorf("%d logins, want 1", got)
	}
}

// No agent has the key, and it needs a passphrase. A proxy says so, the person types it in a
// terminal, and the proxy goes on by the connection of that login.
func TestPassphraseAtTheTerminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.flags = append(p.flags, "-o", "IdentityFile="+machines.EncryptKey(t, p.key, "open sesame"))
	empty := filepath.Join(machines.OpenDir(t), "agent.18")
	agentAt(t, empty)
	host := machines.StartHost(t, p.command(t, nil), nil)
	host.Stderr.Await(t, `hint: SSH_AUTH_SOCK is not set in this process, and no agent of yours was found; in the server's entry`)
	host.Stderr.Await(t, `hint: or type the answer in a terminal: sallyport login --via HOST URL \(its shared connection then serves the proxies, too\)`)
	term := p.login(t, "SSH_AUTH_SOCK="+empty)
	term.Type(t, `Enter passphrase for key '\S+': $`, "open sesame\n")
	if status := term.Wait(t); status != 0 {
		t.Fatalf("login: status %d", status)
	}
	host.Echo(t)
	host.Close(t)
	if got := p.logins(); got != 1 {
		t.Errorf("%d logins, want 1", got)
	}
}

// There is no agent. The words say so, and how the host that has started the proxy is told.
func TestWordsWithoutAnAgent(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for host, way := range map[string]string{
		"codex":  `env_vars = \["SSH_AUTH_SOCK"\]`,
		"gemini": `"SSH_AUTH_SOCK": "\$SSH_AUTH_SOCK"`,
		"other":  `the MCP host's configuration`,
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel() // each call waits as long as a host lets it
			cmd := p.command(t, nil)
			wrapper := exec.Command(machines.WriteFile(t, machines.OpenDir(t), host, "#!/bin/sh\n\"$@\"\nexit $?\n", 0o755), cmd.Args...)
			wrapper.Env, wrapper.Dir = cmd.Env, cmd.Dir
			proxy := machines.StartStdio(t, wrapper)
			proxy.Initialize(t)
			proxy.Err.Await(t, `hint: SSH_AUTH_SOCK is not set in this process, and no agent of yours was found; .*`+way)
			proxy.Answer(t, `"first"`)
			proxy.Send(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"+`{"jsonrpc":"2.0","id":"call","method":"tools/call","params":{"name":"echo"}}`+"\n")
			if e := machines.ParseError(t, proxy.Answer(t, `"call"`), `"call"`); e.Data.Kind != "ssh_needs_person" || !strings.Contains(e.Message, "SSH_AUTH_SOCK is not set") {
				t.Errorf("got %+v", e)
			}
			proxy.End(t)
		})
	}
}
