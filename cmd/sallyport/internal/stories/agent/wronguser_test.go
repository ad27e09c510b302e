//go:build linux

package agent_test

import (
	"path/filepath"
	"regexp"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// The user's name is wrong. A server that would also take a password refuses the key of the agent,
// or that of a file, and login and the proxy say so: no answer of a person would help, nor was one
// refused.
func TestWrongUser(t *testing.T) {
	t.Parallel()
	machines.NeedPAM(t)
	misleading := regexp.MustCompile(`needs a person|ssh_needs_person|was refused; to answer again`)
	for _, server := range []struct {
		name   string
		config []string
	}{
		{"password", []string{"PasswordAuthentication yes", "KbdInteractiveAuthentication no"}},
		{"keyboard-interactive", []string{"UsePAM yes", "PasswordAuthentication no", "KbdInteractiveAuthentication yes"}},
	} {
		sshd := machines.StartSSHD(t, machines.SSHDOptions{Config: server.config})
		known := machines.WriteKnownHosts(t, sshd.KnownHosts)
		encrypted := "IdentityFile=" + machines.EncryptKey(t, sshd.IdentityFile, "open sesame")
		for _, keys := range []struct {
			name     string
			hasAgent bool
			option   string
		}{
			{"a key in the agent", true, "IdentityFile=none"},
			{"a key in the agent and an encrypted one", true, encrypted},
			{"an encrypted key", false, encrypted},
			{"a key without a passphrase", false, "IdentityFile=" + sshd.IdentityFile},
		} {
			t.Run(server.name+"/"+keys.name, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t)
				p.flags = append([]string{"--share", "off", "-o", "Port=" + sshd.Port, "-o", "User=nosuchuser",
					"-o", "UserKnownHostsFile=" + known, "-o", keys.option}, p.flags...)
				var env []string
				if keys.hasAgent {
					socket := filepath.Join(machines.OpenDir(t), "agent")
					agentAt(t, socket, sshd.IdentityFile)
					env = []string{"SSH_AUTH_SOCK=" + socket}
				}
				login := machines.StartProcess(t, p.command(t, env, "login"))
				if status := login.Wait(t); status != machines.StatusSSHAuth {
					t.Errorf("status %d, want %d", status, machines.StatusSSHAuth)
				}
				host := machines.StartHost(t, p.command(t, env), nil)
				const cause = `permission denied for user nosuchuser[^\n]*\n(hint: [^\n]*\n)*hint: [^\n]*check User and IdentityFile`
				login.Err.Await(t, cause)
				host.Stderr.Await(t, cause+`(?s:.*)hint: sallyport help`)
				for _, text := range []string{login.Err.String(), host.Stderr.String()} {
					if word := misleading.FindString(text); word != "" {
						t.Errorf("%q misleads:\n%s", word, text)
					}
				}
			})
		}
	}
}
