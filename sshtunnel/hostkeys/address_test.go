//go:build !windows

package hostkeys

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// CheckHostIP follows the rules of check_host_key. ssh does not do it for a loopback address, so no
// server takes part.
func TestCheckHostIP(t *testing.T) {
	key, other, third := sshtest.NewKey().PublicKey(), sshtest.NewKey().PublicKey(), sshtest.NewKey().PublicKey()
	const name, ip = "web.example.org", "192.0.2.1"
	line := func(hosts string, k ssh.PublicKey) string { return hosts + " " + keyLine(k) + "\n" }
	for _, tt := range []struct {
		name, strict  string
		known, global string
		answers       []string
		hash          bool
		ok            bool
		added         string // to the user's file
		says          string
		updatable     bool
	}{
		{name: "both known", strict: "yes", known: line(name+","+ip, key), ok: true, updatable: true},
		{name: "address unknown", strict: "yes", known: line(name, key), ok: true, added: line(ip, key), updatable: true},
		{name: "address of another", strict: "yes", known: line(name, key) + line(ip, other), says: "CheckHostIP"},
		{name: "address of another, accept-new", strict: "accept-new", known: line(name, key) + line(ip, other), says: "CheckHostIP"},
		{name: "address of another, no", strict: "no", known: line(name, key) + line(ip, other), ok: true, updatable: true},
		{name: "address of another, ask, yes", strict: "ask", known: line(name, key) + line(ip, other), answers: []string{"yes"}, ok: true, updatable: true},
		{name: "address of another, ask, no", strict: "ask", known: line(name, key) + line(ip, other), answers: []string{"no"}, says: "CheckHostIP"},
		{name: "address of another, nobody", strict: "ask", known: line(name, key) + line(ip, other), says: "CheckHostIP"},
		{name: "both new", strict: "accept-new", ok: true, added: line(name+","+ip, key)},
		{name: "name new", strict: "accept-new", known: line(ip, key), ok: true, added: line(name, key)},
		{name: "both new, hashed", strict: "accept-new", hash: true, ok: true},
		{name: "accepted", strict: "ask", answers: []string{"yes"}, ok: true, added: line(name+","+ip, key), updatable: true},
		{name: "address in the global file", strict: "yes", known: line(name, key), global: line(ip, key), ok: true},
		{name: "changed, address unchanged", strict: "yes", known: line(name, other) + line(ip, key), says: "192.0.2.1 is unchanged"},
		{name: "changed, address unknown", strict: "yes", known: line(name, other), says: "192.0.2.1 is unknown"},
		{name: "changed, address different", strict: "yes", known: line(name, other) + line(ip, third), says: "is different ("},
		{name: "changed together", strict: "yes", known: line(name+","+ip, other), says: "has changed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := openssh.NewHost(t, "web", "127.0.0.1:22")
			h.HostName, h.CheckHostIP, h.StrictHostKeyChecking, h.HashKnownHosts = name, true, tt.strict, tt.hash
			h.GlobalKnownHostsFiles = []string{filepath.Join(t.TempDir(), "global")}
			writeFile(t, h.UserKnownHostsFiles[0], tt.known)
			writeFile(t, h.GlobalKnownHostsFiles[0], tt.global)
			p := &person{answers: tt.answers}
			c, err := New(t.Context(), Config{Host: h, Log: testLog(t)})
			if err != nil {
				t.Fatal(err)
			}
			c.DialedDirectly(&net.TCPAddr{IP: net.ParseIP(ip), Port: 22})
			_, err = c.Verify(t.Context(), key, p.ask)
			if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if c.updatable != tt.updatable && err == nil {
				t.Errorf("updatable %v", c.updatable)
			}
			b, _ := os.ReadFile(h.UserKnownHostsFiles[0])
			if tt.hash {
				for _, n := range []string{name, ip} {
					if out := openssh.Run(t, "ssh-keygen", "-F", n, "-f", h.UserKnownHostsFiles[0]); !strings.Contains(out, "|1|") {
						t.Errorf("%s: %s", n, out)
					}
				}
			} else if string(b) != tt.known+tt.added {
				t.Errorf("known_hosts: %q", b)
			}
		})
	}
}
