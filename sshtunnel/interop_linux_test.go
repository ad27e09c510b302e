package sshtunnel

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
	"sallyport/sshtunnel/sshtest/servers"
)

// With servers other than OpenSSH the test logs in, opens a connection, listens and stops
// listening.
func TestInteroperation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(t *testing.T, pub ssh.PublicKey) (addr string, hostKey ssh.PublicKey)
		lend  func(t *testing.T) (network, addr string)
		kept  bool // it does not take a forward back
	}{
		{"dropbear", startKind("dropbear"), anyPort, true},
		{"asyncssh", startKind("asyncssh"), func(t *testing.T) (string, string) { return "unix", filepath.Join(t.TempDir(), "s") }, false},
		{"ssh2", startSSH2(), anyPort, false},
		{"ssh2 that refuses the cancel", startSSH2("keep"), anyPort, true},
		{"gliderlabs", startKind("gliderlabs"), anyPort, true}, // it says yes, and forgets that it chose the port
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := filepath.Join(t.TempDir(), "id")
			at, hostKey := tt.start(t, openssh.WriteKey(t, key, "").PublicKey())
			h := openssh.NewHost(t, tt.name, at)
			h.User, h.HostKeyAlias = "root", "server"
			h.IdentityFiles, h.IdentityFilesSet = []string{key}, true
			h.ServerAliveSet, h.ServerAliveInterval, h.ServerAliveCountMax = true, 500*time.Millisecond, 10
			knows := func(key ssh.PublicKey) {
				writeFile(t, h.UserKnownHostsFiles[0], "server "+string(ssh.MarshalAuthorizedKey(key)))
			}
			knows(sshtest.NewKey().PublicKey())
			err := newTunnel(t, nil, h).Connect(t.Context())
			if wrong, ok := errors.AsType[*hostkeys.Error](err); !ok || !wrong.Changed {
				t.Errorf("another host key is known: %v", err)
			}
			knows(hostKey)
			target := echo(t)
			noLeak(t, func() {
				p := &person{answers: map[string][]string{"keyboard-interactive": {oneTimeCode}}}
				tun := newTunnel(t, p.ask, h)
				if err := tun.Connect(t.Context()); err != nil {
					t.Fatal(err)
				}
				conn := mustDial(t, tun, target)
				checkEcho(t, conn)
				conn.(interface{ CloseWrite() error }).CloseWrite()
				if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
					t.Errorf("after half-close: %q, %v", rest, err)
				}
				_, err := tun.DialContext(t.Context(), "tcp", "127.0.0.1:1")
				if _, ok := errors.AsType[*OpenError](err); !ok {
					t.Errorf("nobody listens: %v", err)
				}

				network, addr := tt.lend(t)
				ln, err := tun.Listen(t.Context(), network, addr)
				if err != nil {
					t.Fatal(err)
				}
				far, err := net.Dial(network, ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer far.Close()
				near, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(near, "hello")
				near.Close()
				if got, err := io.ReadAll(far); string(got) != "hello" {
					t.Errorf("through the remote forward: %q, %v", got, err)
				}
				if err := ln.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				openssh.Eventually(t, "the forward is gone", func() bool {
					conn, err := net.Dial(network, ln.Addr().String())
					if err != nil {
						return true
					}
					defer conn.Close()
					if !tt.kept {
						return false
					}
					n, err := conn.Read(make([]byte, 1)) // we refuse it
					return n == 0 && err != nil
				})
				checkEcho(t, mustDial(t, tun, target)) // the link has not suffered
				tun.Close()
			})
		})
	}
}

func anyPort(*testing.T) (network, addr string) { return "tcp", "127.0.0.1:0" }

// startKind starts a server of package servers.
func startKind(name string) func(*testing.T, ssh.PublicKey) (string, ssh.PublicKey) {
	return func(t *testing.T, pub ssh.PublicKey) (string, ssh.PublicKey) {
		for _, kind := range servers.All(t) {
			if kind.Name == name {
				s := kind.Start(t, pub)
				return s.Addr, s.HostKey
			}
		}
		t.Fatalf("no such server: %s", name)
		return "", nil
	}
}

// oneTimeCode is what startSSH2 asks for after the key.
const oneTimeCode = "123456"

// startSSH2 runs npm's ssh2, which wants a key and then a code.
func startSSH2(options ...string) func(*testing.T, ssh.PublicKey) (string, ssh.PublicKey) {
	return func(t *testing.T, pub ssh.PublicKey) (string, ssh.PublicKey) {
		return servers.StartSSH2(t, pub, oneTimeCode, options...)
	}
}
