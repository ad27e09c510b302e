package sshtunnel

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gliderlabs "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
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
		{"dropbear", startDropbear, anyPort, true},
		{"asyncssh", startAsyncSSH, func(t *testing.T) (string, string) { return "unix", filepath.Join(t.TempDir(), "s") }, false},
		{"ssh2", startSSH2(), anyPort, false},
		{"ssh2 that refuses the cancel", startSSH2("keep"), anyPort, true},
		{"gliderlabs", startGliderlabs, anyPort, true}, // it says yes, and forgets that it chose the port
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

// startDropbear runs dropbear for each connection. dropbear reads authorized_keys in root's home
// only, so it runs in a mount namespace where that is a directory of ours.
func startDropbear(t *testing.T, pub ssh.PublicKey) (string, ssh.PublicKey) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, for a mount namespace")
		}
		t.Skip("needs root, for a mount namespace")
	}
	bin, keygen := openssh.Tool(t, "dropbear"), openssh.Tool(t, "dropbearkey")
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(home, ".ssh/authorized_keys"), string(ssh.MarshalAuthorizedKey(pub)))
	hostKey := filepath.Join(dir, "host_key")
	shown := openssh.Run(t, keygen, "-t", "ed25519", "-f", hostKey)
	s := openssh.StartProgram(t, dir, openssh.Tool(t, "unshare"), "-m", "sh", "-c", `mount --bind "$1" /root && exec "$2" -i -r "$3"`, "sh", home, bin, hostKey)
	for line := range strings.Lines(shown) {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			return s.Addr.String(), key
		}
	}
	t.Fatalf("no key in %q", shown)
	return "", nil
}

const asyncSSH = `
import asyncio, sys, asyncssh
class Server(asyncssh.SSHServer):
    def connection_requested(self, *args): return True
    def server_requested(self, *args): return True
    def unix_server_requested(self, path): return True
async def main():
    server = await asyncssh.listen('127.0.0.1', 0, server_factory=Server, server_host_keys=[sys.argv[1]], authorized_client_keys=sys.argv[2])
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
`

// startAsyncSSH runs Python's asyncssh, until its stdin ends.
func startAsyncSSH(t *testing.T, pub ssh.PublicKey) (string, ssh.PublicKey) {
	python := openssh.Tool(t, "/usr/bin/python3") // Debian's, whose module it is
	if out, err := exec.Command(python, "-c", "import asyncssh").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("asyncssh is missing: %s", out)
		}
		t.Skip("asyncssh is missing (.ci/install-parts gets it)")
	}
	dir := t.TempDir()
	hostKey, authorized := filepath.Join(dir, "host_key"), filepath.Join(dir, "authorized_keys")
	signer := openssh.WriteKey(t, hostKey, "")
	writeFile(t, authorized, string(ssh.MarshalAuthorizedKey(pub)))
	return startServer(t, exec.Command(python, "-c", asyncSSH, hostKey, authorized)), signer.PublicKey()
}

// startServer runs a server that prints its port, until its stdin ends.
func startServer(t *testing.T, cmd *exec.Cmd) (addr string) {
	t.Helper()
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
}

// oneTimeCode is what startSSH2 asks for after the key.
const oneTimeCode = "123456"

// startSSH2 runs npm's ssh2, which wants a key and then a code.
func startSSH2(options ...string) func(*testing.T, ssh.PublicKey) (string, ssh.PublicKey) {
	return func(t *testing.T, pub ssh.PublicKey) (string, ssh.PublicKey) {
		node := openssh.Tool(t, "node")
		peers := filepath.Join("..", "cmd", "sallyport", "testdata", "peers")
		if _, err := os.Stat(filepath.Join(peers, "node_modules", "ssh2")); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("npm's ssh2 is missing (.ci/install-parts gets it): %v", err)
		}
		dir := t.TempDir()
		hostKey, authorized := filepath.Join(dir, "host_key"), filepath.Join(dir, "authorized")
		signer := openssh.WriteKey(t, hostKey, "")
		writeFile(t, authorized, string(ssh.MarshalAuthorizedKey(pub)))
		args := append([]string{filepath.Join(peers, "sshd.mjs"), hostKey, authorized, oneTimeCode}, options...)
		return startServer(t, exec.Command(node, args...)), signer.PublicKey()
	}
}

// startGliderlabs runs a server of gliderlabs/ssh, which many Go programs embed.
func startGliderlabs(t *testing.T, pub ssh.PublicKey) (string, ssh.PublicKey) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	forwards, hostKey := &gliderlabs.ForwardedTCPHandler{}, sshtest.NewKey()
	s := &gliderlabs.Server{
		PublicKeyHandler:              func(_ gliderlabs.Context, key gliderlabs.PublicKey) bool { return hostkeys.SameKey(key, pub) },
		LocalPortForwardingCallback:   func(gliderlabs.Context, string, uint32) bool { return true },
		ReversePortForwardingCallback: func(gliderlabs.Context, string, uint32) bool { return true },
		ChannelHandlers:               map[string]gliderlabs.ChannelHandler{"direct-tcpip": gliderlabs.DirectTCPIPHandler},
		RequestHandlers: map[string]gliderlabs.RequestHandler{
			"tcpip-forward": forwards.HandleSSHRequest, "cancel-tcpip-forward": forwards.HandleSSHRequest,
		},
	}
	s.AddHostKey(hostKey)
	go s.Serve(ln) // ends with s
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String(), hostKey.PublicKey()
}
