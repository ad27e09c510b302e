// Package openssh lets tests use the OpenSSH programs of this machine: a real sshd on loopback,
// ssh, ssh-keygen. It also has the wait for what these programs bring about.
//
// A test that needs a program that is missing is skipped; with CI=true in the environment it fails.
package openssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
)

// Tool returns the path of a program.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && name == "sshd" {
		path, err = exec.LookPath("/usr/sbin/sshd")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: %v", name, err)
		}
		t.Skipf("%s is missing (.ci/install-parts gets it): %v", name, err)
	}
	return path
}

// Run runs a program to its end and returns what it printed. A status other than 0 fails the test.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// WriteKey makes an ed25519 key and writes it to path, encrypted if there is a passphrase, and its
// public half to path.pub.
func WriteKey(t testing.TB, path, passphrase string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, pem.EncodeToMemory(block))
	if passphrase != "" {
		// One round of bcrypt: x/crypto's sixteen take seconds under -race.
		Run(t, "ssh-keygen", "-q", "-p", "-a", "1", "-N", passphrase, "-f", path)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()))
	return signer
}

// ReadPublicKey reads a .pub file.
func ReadPublicKey(t testing.TB, path string) ssh.PublicKey {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// NewHost returns what a Resolver would make of an almost empty file for a host at addr, with a
// known_hosts file of its own that does not exist yet.
func NewHost(t testing.TB, alias, addr string) *sshconfig.Host {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return &sshconfig.Host{
		Alias: alias, HostName: a.IP.String(), Port: a.Port, User: "someone",
		UserKnownHostsFiles: []string{filepath.Join(t.TempDir(), "known_hosts")}, StrictHostKeyChecking: "yes",
		IdentityAgent: "none", PubkeyAuthentication: true, PasswordAuthentication: true, KbdInteractiveAuthentication: true,
		NumberOfPasswordPrompts: 3, ConnectionAttempts: 1, TCPKeepAlive: true,
	}
}

func writeFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// KeyLine returns a key as known_hosts and authorized_keys hold it, without a newline.
func KeyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
