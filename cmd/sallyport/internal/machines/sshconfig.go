//go:build linux

package machines

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Hop is one Host block of an ssh_config.
type Hop struct {
	Alias string
	SSHD  *SSHD
	// Config holds more lines of ssh_config(5) for it, which win over ours.
	Config []string
}

// WriteSSHConfig writes an ssh_config in which each hop is reached through the one before it, each with
// its own port, user, key and known_hosts file. It returns the file's path. The known_hosts file of a hop
// has that path plus "." plus the alias.
func WriteSSHConfig(t testing.TB, hops ...Hop) string {
	t.Helper()
	dir := OpenDir(t)
	var b strings.Builder
	for i, h := range hops {
		known := WriteFile(t, dir, "config."+h.Alias, h.SSHD.KnownHosts, 0o644)
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
	return WriteFile(t, dir, "config", b.String(), 0o644)
}

// WithIdentity copies an ssh_config and gives the copy another IdentityFile for the server.
func WithIdentity(t testing.TB, config string, server *SSHD, key string) string {
	t.Helper()
	text := strings.ReplaceAll(ReadFile(t, config), server.IdentityFile, key)
	return WriteFile(t, OpenDir(t), "config", text, 0o644)
}

// WriteKnownHosts writes a known_hosts file of a test's own and returns its path.
func WriteKnownHosts(t testing.TB, text string) string {
	t.Helper()
	return WriteFile(t, OpenDir(t), "known_hosts", text, 0o600)
}

// KnownHostsLine is a line of known_hosts that gives the server a key, which need not be its own.
func KnownHostsLine(server *SSHD, key ssh.PublicKey) string {
	return fmt.Sprintf("[127.0.0.1]:%s %s", server.Port, ssh.MarshalAuthorizedKey(key))
}
