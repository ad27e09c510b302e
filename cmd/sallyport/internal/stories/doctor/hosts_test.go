//go:build linux

package doctor_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// What works in a terminal fails where an MCP host keeps something back, and the doctor with that
// host's environment says so.
func TestWhatHostsKeepBack(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	bin := machines.OpenDir(t)
	machines.WriteFile(t, bin, "carry-me", "#!/bin/sh\nexec nc \"$@\"\n", 0o755)
	socket := machines.StartAgent(t, s.SSHD.IdentityFile)
	agentOnly := agentOnly(t, s)
	program := []string{"-o", "ProxyCommand=carry-me %h %p"}
	for _, test := range []struct {
		fault
		client string
	}{
		{fault{name: "agent passed on", args: agentOnly}, "claude-code"},
		{fault{name: "agent dropped by codex", args: agentOnly, first: "hop.1.login", status: machines.StatusSSHAuth}, "codex"},
		{fault{name: "agent dropped by gemini", args: agentOnly, first: "hop.1.login", status: machines.StatusSSHAuth}, "gemini-cli"},
		{fault{name: "agent dropped by the SDK", args: agentOnly, first: "hop.1.login", status: machines.StatusSSHAuth}, "mcp-cli"},
		{fault{name: "program in PATH", args: program}, "codex"},
		{fault{name: "program not in the PATH of the desktop", args: program, first: "hop.1.tcp", status: machines.StatusUnreachable}, "cursor"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := s.Command(t, append([]string{"--client", test.client}, test.args...)...)
			if slices.Contains(test.args, "-F") { // the configuration alone counts
				cmd.Args = slices.Concat(cmd.Args[:1], []string{"--client", test.client}, test.args)
			}
			cmd.Env = slices.DeleteFunc(cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, "PATH=") })
			cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+socket, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			r, stderr := run(t, command(cmd))
			if r.FirstFailure != test.first || r.Status != test.status {
				t.Errorf("first failure %q, status %d; want %q, %d\n%s", r.FirstFailure, r.Status, test.first, test.status, stderr)
			}
			if test.first == "hop.1.login" && !strings.Contains(stderr, " does not pass on SSH_AUTH_SOCK; to pass it on, ") {
				t.Errorf("no word of the agent:\n%s", stderr)
			}
		})
	}
}

// After a login in a terminal the shared connection serves the proxies of a host that drops the
// agent, so that the doctor with its environment raises no alarm. The same holds for an encrypted
// key that no agent has.
func TestASharedConnectionServesHosts(t *testing.T) {
	t.Parallel()
	s := machines.NewPlainSite(t)
	run := func(name string, env, args []string, typed string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			login := machines.Command(t, home, append([]string{"login"}, args...)...)
			login.Env = append(login.Env, env...)
			terminal := machines.StartInTerminal(t, login)
			if typed != "" {
				terminal.Type(t, "passphrase", typed)
			}
			if status := terminal.Wait(t); status != machines.StatusDone {
				t.Fatalf("login ended with status %d:\n%s", status, terminal)
			}
			doctor := machines.Command(t, home, append([]string{"--client", "codex"}, args...)...)
			r, stderr := runClient(t, doctor, env)
			if r.Status != 0 || r.row("via.open").Result != "ok" || r.row("upstream.mcp").Result != "ok" {
				t.Errorf("status %d, %+v\n%s", r.Status, r.row("hop.1.login"), stderr)
			}
		})
	}
	run("agent", []string{"SSH_AUTH_SOCK=" + machines.StartAgent(t, s.SSHD.IdentityFile)}, agentOnly(t, s), "")
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: s.SSHD})
	encrypted := machines.WithIdentity(t, config, s.SSHD, machines.EncryptKey(t, s.SSHD.IdentityFile, "a passphrase"))
	run("encrypted key", nil, []string{"-F", encrypted, "--grant", "none", "--via", "bastion", s.Upstream}, "a passphrase\r")
}

// runClient runs a doctor with more variables.
func runClient(t *testing.T, cmd *exec.Cmd, env []string) (report, string) {
	t.Helper()
	cmd = command(cmd)
	cmd.Env = append(cmd.Env, env...)
	return run(t, cmd)
}
