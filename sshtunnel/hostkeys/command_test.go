//go:build !windows

package hostkeys

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// KnownHostsCommand, with ssh beside: the same lines are believed, the same arguments given.
func TestKnownHostsCommandAgreesWithSSH(t *testing.T) {
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user := openssh.WriteKey(t, path("user"), "").PublicKey()
	s := openssh.Start(t, user)
	log := path("log")
	key := keyLine(s.HostKey)
	script := func(name, text string) string {
		if err := os.WriteFile(path(name), []byte("#!/bin/sh\necho \"$@\" >> "+log+"\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	at := fmt.Sprintf("[127.0.0.1]:%d", s.Addr.Port)
	const tokens = " %I %H %t %f %K %h %p %r %n %%"
	for _, tt := range []struct {
		name, command string
		ok            bool
	}{
		{"knows", script("knows", "echo '"+at+" "+key+"'") + tokens, true},
		{"pattern", script("pattern", "echo '* "+key+"'") + tokens, true},
		{"another host", script("another", "echo 'other "+key+"'") + tokens, false},
		{"bare name", script("bare", "echo '127.0.0.1 "+key+"'") + tokens, false}, // only for the name with its port
		{"another key", script("otherkey", "echo '"+at+" "+keyLine(sshtest.NewKey().PublicKey())+"'"), false},
		{"revoked", script("revoked", "echo '"+at+" "+key+"\n@revoked * "+key+"'"), false},
		{"quoted", `"` + script("with space", "echo '"+at+" "+key+"'") + `" "a b"`, true},
		{"fails", script("fails", "echo '"+at+" "+key+"'; echo why >&2; exit 3"), false},
		{"fails, knows nothing", script("fails2", "exit 1"), false},
		{"missing", path("nosuch"), false},
		{"not absolute", "true", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := s.Host(t, "127.0.0.1", path("user"))
			writeFile(t, h.UserKnownHostsFiles[0], "")
			calls := func() string {
				b, _ := os.ReadFile(log)
				os.Remove(log)
				return string(b)
			}
			if ok, out := sshConnects(t, h, path("user"), "KnownHostsCommand="+tt.command); ok != tt.ok {
				t.Errorf("ssh: %v: %s", ok, out)
			}
			// Before 10, ssh left out the port when it asked for the order.
			want := strings.Replace(calls(), "ORDER 127.0.0.1 ", "ORDER "+at+" ", 1)
			h.KnownHostsCommand = tt.command
			if err := connects(t, h, nil); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			if got := calls(); got != want {
				t.Errorf("called with %q, ssh %q", got, want)
			}
		})
	}
	t.Run("resolved", func(t *testing.T) { // %k, %u and others come from the Resolver
		h, err := (&sshconfig.Resolver{Home: "/home/x", User: "me", Options: []string{"KnownHostsCommand=/c %u %d %k %i", "HostKeyAlias=Web"}}).Resolve(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		got, err := h.ExpandTokens("%u %d %k %H", map[byte]string{'H': "host"}, nil)
		if want := "me /home/x web host"; err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		h := s.Host(t, "127.0.0.1", path("user"))
		h.KnownHostsCommand = script("slow", "echo x > "+path("started")+"; exec sleep 1000")
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // ends when the command has started
			eventually(t, "the command runs", func() bool { _, err := os.Stat(path("started")); return err == nil })
			cancel()
		}()
		if _, err := connect(t, ctx, h, nil, false); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// NoHostAuthenticationForLocalhost, with ssh beside: only what was dialed directly, and not revoked, counts.
func TestLocalhostAgreesWithSSH(t *testing.T) {
	dir := t.TempDir()
	path := func(n string) string { return filepath.Join(dir, n) }
	user := openssh.WriteKey(t, path("user"), "").PublicKey()
	s := openssh.Start(t, user)
	writeFile(t, path("revoked"), keyLine(s.HostKey)+"\n")
	proxy := fmt.Sprintf("exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/%d; cat <&3 & cat >&3; kill %%%%1'", s.Addr.Port)
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
			h := s.Host(t, "127.0.0.1", path("user"))
			writeFile(t, h.UserKnownHostsFiles[0], fmt.Sprintf("[127.0.0.1]:%d %s\n", h.Port, keyLine(sshtest.NewKey().PublicKey())))
			if ok, out := sshConnects(t, h, path("user"), append(tt.options, "NoHostAuthenticationForLocalhost=yes")...); ok != tt.ok {
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

// CheckHostIP by the rules of check_host_key. It is never done for a loopback address, so no server takes part.
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
