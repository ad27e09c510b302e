//go:build linux

package machines

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// WriteSSHConfig writes an ssh_config in which each hop is reached through the one before it, each
// with its own port, user, key and known_hosts file. It returns the file's path. The known_hosts
// file of a hop has that path plus "." plus the alias.
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

// NewKey makes an ed25519 key and writes it, in OpenSSH's form, to dir/name.
func NewKey(t testing.TB, dir, name string) (signer ssh.Signer, file string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err = ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, WriteFile(t, dir, name, string(pem.EncodeToMemory(block)), 0o600)
}

// NewHostCA makes a key that can vouch for host keys.
func NewHostCA(t testing.TB) ssh.Signer {
	t.Helper()
	signer, _ := NewKey(t, t.TempDir(), "ca")
	return signer
}

// hostCertificate writes the certificate by which ca vouches for key as 127.0.0.1.
func hostCertificate(t testing.TB, dir string, key ssh.PublicKey, ca ssh.Signer) string {
	t.Helper()
	cert := &ssh.Certificate{Key: key, CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"},
		ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return WriteFile(t, dir, "host_key-cert.pub", string(ssh.MarshalAuthorizedKey(cert)), 0o644)
}

// Keygen runs ssh-keygen.
func Keygen(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(NeedProgram(t, "ssh-keygen", "openssh-client"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, out)
	}
}

// EncryptKey copies a private key and protects the copy with a passphrase. It returns the copy's
// path.
func EncryptKey(t testing.TB, key, passphrase string) string {
	t.Helper()
	file := WriteFile(t, OpenDir(t), "id_encrypted", ReadFile(t, key), 0o600)
	Keygen(t, "-q", "-p", "-P", "", "-N", passphrase, "-f", file)
	return file
}

// StartAgent starts an ssh-agent that holds a key and returns its socket. It ends with the test.
func StartAgent(t testing.TB, key string) string {
	t.Helper()
	socket := filepath.Join(OpenDir(t), "agent")
	agent := StartProcess(t, exec.Command(NeedProgram(t, "ssh-agent", "openssh-client"), "-D", "-a", socket))
	agent.Out.Await(t, `SSH_AUTH_SOCK`)
	add := exec.Command(NeedProgram(t, "ssh-add", "openssh-client"), "-q", key)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v: %s", err, out)
	}
	return socket
}
