//go:build linux

package bastion_test

import (
	"fmt"
	"net"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/sshtunnel/sshtest/openssh"
	"sallyport/sshtunnel/sshtest/servers"
)

// An MCP host works through a bastion of every kind of SSH server.
func TestEachKindOfServer(t *testing.T) {
	t.Parallel()
	upstream := machines.StartMCP(t, nil)
	for _, kind := range servers.All(t) {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			signer, identity := machines.NewKey(t, machines.OpenDir(t), "id")
			s := kind.Start(t, signer.PublicKey())
			name, port, err := net.SplitHostPort(s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			known := machines.WriteKnownHosts(t, fmt.Sprintf("[%s]:%s %s\n", name, port, openssh.KeyLine(s.HostKey)))
			host := machines.StartHost(t, machines.Command(t, t.TempDir(), "-F", "none", "--grant", "none", "--via", name,
				"-o", "Port="+port, "-o", "User="+s.User, "-o", "IdentityFile="+identity, "-o", "IdentityAgent=none",
				"-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=none", upstream), nil)
			host.Echo(t)
			host.Close(t)
		})
	}
}
