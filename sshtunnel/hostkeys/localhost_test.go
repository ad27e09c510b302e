//go:build !windows

package hostkeys

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// NoHostAuthenticationForLocalhost, judged by a real ssh on the same server: it counts only for a
// key that is not revoked, on an address that was dialed directly.
func TestNoHostAuthenticationForLocalhostAgreesWithSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	s := serve(t, sshtest.NewKey())
	writeFile(t, path("revoked"), keyLine(s.HostKey())+"\n")
	_, port, _ := net.SplitHostPort(s.Addr())
	proxy := "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + port + "; cat <&3 & cat >&3; kill %%1'"
	for _, tt := range []struct {
		name    string
		options []string
		edit    func(*sshconfig.Host)
		proxied bool
		ok      bool
	}{
		{"direct", nil, func(*sshconfig.Host) {}, false, true},
		{"alias", []string{"HostKeyAlias=web"}, func(h *sshconfig.Host) { h.HostKeyAlias = "web" }, false, false},
		{"revoked", []string{"RevokedHostKeys=" + path("revoked")}, func(h *sshconfig.Host) { h.RevokedHostKeyFiles = []string{path("revoked")} }, false, false},
		{"by a command", []string{"ProxyCommand=" + proxy}, func(*sshconfig.Host) {}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "127.0.0.1", s.Addr())
			writeFile(t, h.UserKnownHostsFiles[0], fmt.Sprintf("[127.0.0.1]:%d %s\n", h.Port, keyLine(sshtest.NewKey().PublicKey())))
			if ok, out := sshConnects(t, h, append(tt.options, "NoHostAuthenticationForLocalhost=yes")...); ok != tt.ok {
				t.Errorf("ssh: %v: %s", ok, out)
			}
			h.NoHostAuthenticationForLocalhost = true
			tt.edit(h)
			if _, err := connect(t, t.Context(), h, nil, tt.proxied); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
