package sshtunnel

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
	"sallyport/sshtunnel/sshtest/servers"
)

const lookupEnv = "SALLYPORT_TEST_LOOKUP" // set in the process whose name server is silent

// A name server that is silent keeps sshd and dropbear from everything else for longer than a
// connection may be silent otherwise. Nothing is lost by that: the name is refused in the end, and
// what was open goes on. The test runs itself once more in a network of its own, whose only name
// server swallows packets.
func TestSlowLookup(t *testing.T) {
	if os.Getenv(lookupEnv) != "" {
		for _, name := range []string{"dropbear", "asyncssh", "ssh2", "sshd of this machine"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				testSlowLookup(t, name)
			})
		}
		t.Run("libssh connects", func(t *testing.T) {
			t.Parallel()
			testSlowConnect(t)
		})
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, for network namespaces")
		}
		t.Skip("needs root, for network namespaces")
	}
	t.Parallel() // it waits most of the time
	openssh.Tool(t, "ip")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, resolv, "nameserver 10.79.0.2\noptions timeout:4 attempts:3\n")
	cmd := exec.CommandContext(t.Context(), openssh.Tool(t, "unshare"), "-n", "-m", "sh", "-e", "-c", `
		ip link set lo up
		ip link add near type veth peer name far
		ip link set near up
		ip link set far up
		ip addr add 10.79.0.1/24 dev near
		ip neigh add 10.79.0.2 lladdr 02:00:00:00:00:01 dev near
		ip neigh add 10.79.0.3 lladdr 02:00:00:00:00:01 dev near
		mount --bind "$1" /etc/resolv.conf
		exec "$2" -test.v -test.run '^TestSlowLookup$'`, "sh", resolv, self)
	cmd.Env = append(os.Environ(), lookupEnv+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// hostOf starts a server of a kind, and returns the configuration that reaches it.
func hostOf(t *testing.T, kind string) *sshconfig.Host {
	key := filepath.Join(t.TempDir(), "id")
	pub := openssh.WriteKey(t, key, "").PublicKey()
	var server servers.Server
	for _, k := range servers.All(t) {
		if k.Name == kind {
			server = k.Start(t, pub)
		}
	}
	h := openssh.NewHost(t, "bastion", server.Addr)
	h.User, h.HostKeyAlias, h.IdentityFiles, h.IdentityFilesSet = server.User, "server", []string{key}, true
	writeFile(t, h.UserKnownHostsFiles[0], "server "+string(ssh.MarshalAuthorizedKey(server.HostKey)))
	return h
}

// A server of libssh may do nothing else while it connects to an address that swallows packets. It
// is not given up for that.
func testSlowConnect(t *testing.T) {
	h := hostOf(t, "libssh")
	tun := tunnelOf(t, Config{Chain: chainOf(h), settings: settings{aliveInterval: defaultAliveInterval}})
	p, end := poolOf(tun)
	defer end()
	if err := tun.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := linkOf(tun)
	<-l.last().heartbeat().ping(&l.tasks)
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() { // ends by cancel
		_, _, err := opensOver(ctx, p, "10.79.0.3:80")
		opened <- err
	}()
	openssh.Eventually(t, "a server that is silent", func() bool { return isSilent(l) })
	if l.life.Err() != nil || !l.last().heartbeat().heard.Load() {
		t.Errorf("the connection was given up: %v", context.Cause(l.life))
	}
	cancel()
	<-opened
}

func testSlowLookup(t *testing.T, kind string) {
	h, target := hostOf(t, kind), echo(t)
	noLeak(t, func() {
		tun := tunnelOf(t, Config{Chain: chainOf(h), settings: settings{aliveInterval: defaultAliveInterval}})
		p, end := poolOf(tun)
		defer end()
		before, first, err := opensOver(t.Context(), p, target)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		checkEcho(t, before)
		type answer struct {
			err  error
			took time.Duration
		}
		named := make(chan answer, 1)
		go func() { // ends when the lookup has failed
			began := time.Now()
			_, _, err := opensOver(t.Context(), p, "nowhere.example.com:80")
			named <- answer{err, time.Since(began)}
		}()
		openssh.Eventually(t, "the lookup", func() bool { return first.last().(*sshHop).blocking.at(time.Now()) != "" })
		calls := 0
		for looksUp := true; looksUp; {
			select {
			case a := <-named:
				looksUp = false
				t.Logf("%s: %d calls while a name was looked up for %v, %d connections: %v", kind, calls, a.took, p.connections(), a.err)
				if _, refused := errors.AsType[*OpenError](a.err); !refused {
					t.Errorf("the name: %v", a.err)
				}
			case <-time.After(100 * time.Millisecond):
				conn, _, err := opensOver(t.Context(), p, target)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, "x"); err != nil {
					t.Error(err)
				}
				conn.Close()
				calls++
			}
		}
		checkEcho(t, before)
		if first.life.Err() != nil {
			t.Errorf("the connection was given up: %v", context.Cause(first.life))
		}
	})
}
