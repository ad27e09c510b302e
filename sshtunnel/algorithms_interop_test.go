//go:build !windows

package sshtunnel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// A server that takes few algorithms is reached with just the configurations with which ssh reaches
// it. SALLYPORT_SSH names an ssh to compare with, and SALLYPORT_SSHD another sshd than that of the
// machine.
func TestAlgorithmsAgainstOpenSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, rsaKey, rsaHostKey := filepath.Join(dir, "id"), filepath.Join(dir, "id_rsa"), filepath.Join(dir, "host_rsa")
	openssh.WriteKey(t, key, "")
	for _, path := range []string{rsaKey, rsaHostKey} {
		openssh.Run(t, "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", path)
	}
	const onlyRSA = "PubkeyAuthentication yes\nPubkeyAcceptedAlgorithms ssh-rsa"
	for _, tt := range []struct {
		server, client string
		want           bool
	}{
		{"KexAlgorithms diffie-hellman-group-exchange-sha256", "", true},
		{"KexAlgorithms diffie-hellman-group16-sha512", "", true},
		{"KexAlgorithms diffie-hellman-group14-sha256", "", true},
		{"KexAlgorithms curve25519-sha256@libssh.org", "", true},
		{"KexAlgorithms curve25519-sha256@libssh.org", "KexAlgorithms curve25519-sha256@libssh.org", true},
		{"KexAlgorithms diffie-hellman-group14-sha1", "", false},
		{"KexAlgorithms diffie-hellman-group14-sha1", "KexAlgorithms +diffie-hellman-group14-sha1", true},
		{"KexAlgorithms diffie-hellman-group1-sha1", "KexAlgorithms +diffie-hellman-group1-sha1", true},
		{"KexAlgorithms diffie-hellman-group-exchange-sha1", "", false},
		{"KexAlgorithms diffie-hellman-group-exchange-sha1", "KexAlgorithms ^diffie-hellman-group-exchange-sha1", true},
		{"Ciphers 3des-cbc", "", false},
		{"Ciphers 3des-cbc", "Ciphers +3des-cbc", true},
		{"Ciphers aes128-cbc", "Ciphers aes128-cbc", true},
		{"Ciphers aes256-ctr", "Ciphers -aes256-ctr", false},
		{"Ciphers aes256-ctr\nMACs hmac-sha1-96", "", false},
		{"Ciphers aes256-ctr\nMACs hmac-sha1-96", "MACs +hmac-sha1-96", true},
		{"Ciphers aes256-ctr\nMACs hmac-sha1", "", true},
		{"Ciphers aes256-gcm@openssh.com", "MACs -*", true},
		{"HostKey " + rsaHostKey + "\nHostKeyAlgorithms ssh-rsa", "", false},
		{"HostKey " + rsaHostKey + "\nHostKeyAlgorithms ssh-rsa", "HostKeyAlgorithms +ssh-rsa", true},
		{"HostKey " + rsaHostKey, "HostKeyAlgorithms ssh-ed25519", false},
		{"HostKey " + rsaHostKey, "RequiredRSASize 3072", false},
		{onlyRSA, "IdentityFile " + rsaKey, false},
		{onlyRSA, "IdentityFile " + rsaKey + "\nPubkeyAcceptedAlgorithms ssh-rsa", true},
		{"", "IdentityFile " + rsaKey + "\nRequiredRSASize 3072", false},
		{"", "IdentityFile " + key + "\nPubkeyAcceptedAlgorithms -*", false},
	} {
		t.Run(fmt.Sprintf("%.40q to %.40q", tt.client, tt.server), func(t *testing.T) {
			t.Parallel()
			sshd := os.Getenv("SALLYPORT_SSHD")
			if sshd == "" {
				sshd = openssh.Tool(t, "sshd")
			}
			s := openssh.StartBy(t, sshd, nil, tt.server)
			hostKey := s.HostKey
			if hostKey == nil {
				hostKey = openssh.ReadPublicKey(t, rsaHostKey+".pub")
			}
			writeFile(t, filepath.Join(s.Dir, "authorized_keys"), openssh.KeyLine(openssh.ReadPublicKey(t, key+".pub"))+"\n"+
				openssh.KeyLine(openssh.ReadPublicKey(t, rsaKey+".pub"))+"\n")
			known := filepath.Join(s.Dir, "known_hosts")
			writeFile(t, known, "old "+openssh.KeyLine(hostKey)+"\n")
			config := filepath.Join(s.Dir, "config")
			identity := ""
			if tt.server != onlyRSA && tt.client == "" || len(tt.client) < 12 || tt.client[:12] != "IdentityFile" {
				identity = "IdentityFile " + key + "\n"
			}
			writeFile(t, config, fmt.Sprintf("%s\n%sHost old\nHostName 127.0.0.1\nPort %d\nHostKeyAlias old\nUserKnownHostsFile %s\n"+
				"GlobalKnownHostsFile none\nIdentityAgent none\nBatchMode yes\n",
				tt.client, identity, s.Addr.Port, known))
			r := &sshconfig.Resolver{UserFile: config, UserFileRequired: true, Getenv: os.Getenv, Log: testLog(t)}
			chain, err := r.Chain(t.Context(), "old")
			if err == nil {
				err = newTunnel(t, nil, chain...).Connect(t.Context())
			}
			if (err == nil) != tt.want {
				t.Errorf("Connect = %v, want success: %v", err, tt.want)
			}
			if ssh := os.Getenv("SALLYPORT_SSH"); ssh != "" {
				out, sshErr := exec.CommandContext(t.Context(), ssh, "-F", config, "old", "true").CombinedOutput()
				if (sshErr == nil) != (err == nil) {
					t.Errorf("ssh: %v: %s", sshErr, out)
				}
			}
		})
	}
}
