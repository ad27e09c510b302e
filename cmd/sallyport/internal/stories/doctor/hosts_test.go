//go:build linux

package doctor_test

import (
	"os"
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
