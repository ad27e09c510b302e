//go:build linux

// Package servers starts SSH servers of many makers on loopback, for the tests that hold us to what
// ssh can do: OpenSSH of several versions, dropbear, asyncssh, npm's ssh2, libssh and gliderlabs.
//
// OpenSSH of this machine is always there. The environment variable SALLYPORT_OPENSSH names
// directories with others, separated by colons. Each is a prefix with sbin/sshd and bin/ssh, or
// holds such prefixes.
//
// A test that needs a program that is missing is skipped; with CI=true in the environment it fails.
package servers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gliderlabs "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// Kind is a kind of server.
type Kind struct {
	// Name tells the kinds apart.
	Name string
	// Start starts a server that lets in whoever has the key. It ends with the test.
	Start func(t testing.TB, authorized ssh.PublicKey) Server
}

// Server is a server that runs.
type Server struct {
	// Addr is host:port.
	Addr string
	// HostKey is the server's key.
	HostKey ssh.PublicKey
	// User is who may log in.
	User string
	// UnixForwards says that remote forwards work for Unix sockets only.
	UnixForwards bool
}

// All returns all kinds of servers.
func All(t testing.TB) []Kind {
	t.Helper()
	kinds := []Kind{{"sshd of this machine", sshdAt(openssh.Tool(t, "sshd"))}}
	for _, prefix := range Prefixes(t) {
		kinds = append(kinds, Kind{"sshd " + filepath.Base(prefix), sshdAt(filepath.Join(prefix, "sbin", "sshd"))})
	}
	return append(kinds,
		Kind{"dropbear", startDropbear},
		Kind{"asyncssh", startAsyncSSH},
		Kind{"ssh2", startSSH2},
		Kind{"libssh", startLibSSH},
		Kind{"gliderlabs", startGliderlabs},
	)
}

// Prefixes returns the directories of SALLYPORT_OPENSSH, the newest version last.
func Prefixes(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, dir := range filepath.SplitList(os.Getenv("SALLYPORT_OPENSSH")) {
		found, _ := filepath.Glob(filepath.Join(dir, "*", "sbin", "sshd"))
		if own := filepath.Join(dir, "sbin", "sshd"); len(found) == 0 {
			found = []string{own}
		}
		for _, sshd := range found {
			if _, err := os.Stat(sshd); err != nil {
				t.Fatalf("SALLYPORT_OPENSSH: %v", err)
			}
			all = append(all, filepath.Dir(filepath.Dir(sshd)))
		}
	}
	version := func(prefix string) (n [3]int) {
		fmt.Sscanf(filepath.Base(prefix), "%d.%dp%d", &n[0], &n[1], &n[2])
		return n
	}
	slices.SortFunc(all, func(a, b string) int {
		va, vb := version(a), version(b)
		return slices.Compare(va[:], vb[:])
	})
	return all
}

// sshdAt returns what starts a certain sshd. Its configuration has nothing that the oldest lacks.
func sshdAt(path string) func(testing.TB, ssh.PublicKey) Server {
	return func(t testing.TB, authorized ssh.PublicKey) Server {
		dir := t.TempDir()
		hostKey := filepath.Join(dir, "host_key")
		signer := openssh.WriteKey(t, hostKey, "")
		config := writeFile(t, dir, "sshd_config", []byte("PidFile none\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"+
			"HostKey "+hostKey+"\nAuthorizedKeysFile "+writeFile(t, dir, "authorized_keys", ssh.MarshalAuthorizedKey(authorized))+"\n"))
		if os.Geteuid() == 0 {
			// Privilege separation insists on this directory; a package's boot script makes it.
			if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		s := openssh.StartProgram(t, dir, path, "-i", "-e", "-f", config)
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		return Server{Addr: s.Addr.String(), HostKey: signer.PublicKey(), User: u.Username}
	}
}

// need skips the test, or fails it with CI=true, if a condition does not hold.
func need(t testing.TB, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatalf("missing: %s (.ci/install-parts gets what can be installed)", what)
	default:
		t.Skipf("missing: %s (.ci/install-parts gets what can be installed)", what)
	}
}

// writeFile writes a file for a server and returns its path.
func writeFile(t testing.TB, dir, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startDropbear runs dropbear for each connection. dropbear reads authorized_keys in root's home
// only, so it runs in a mount namespace where that is a directory of ours.
func startDropbear(t testing.TB, authorized ssh.PublicKey) Server {
	need(t, os.Geteuid() == 0, "root, for a mount namespace")
	bin, keygen := openssh.Tool(t, "dropbear"), openssh.Tool(t, "dropbearkey")
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(home, ".ssh"), "authorized_keys", ssh.MarshalAuthorizedKey(authorized))
	hostKey := filepath.Join(dir, "host_key")
	shown := openssh.Run(t, keygen, "-t", "ed25519", "-f", hostKey)
	s := openssh.StartProgram(t, dir, openssh.Tool(t, "unshare"), "-m", "sh", "-c", `mount --bind "$1" /root && exec "$2" -i -r "$3"`, "sh", home, bin, hostKey)
	for line := range strings.Lines(shown) {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			return Server{Addr: s.Addr.String(), HostKey: key, User: "root"}
		}
	}
	t.Fatalf("no key in %q", shown)
	return Server{}
}

const asyncSSH = `
import asyncio, sys, asyncssh
class Server(asyncssh.SSHServer):
    def connection_requested(self, *args): return True
    def server_requested(self, *args): return True
    def unix_server_requested(self, path): return True
def run(process):
    process.stdout.write('ran ' + process.command + '\n')
    process.exit(0)
async def main():
    server = await asyncssh.listen('127.0.0.1', 0, server_factory=Server, process_factory=run, server_host_keys=[sys.argv[1]], authorized_client_keys=sys.argv[2])
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
`

// startAsyncSSH runs Python's asyncssh, until its stdin ends. Its remote forwards of port 0 do not
// work.
func startAsyncSSH(t testing.TB, authorized ssh.PublicKey) Server {
	python := openssh.Tool(t, "/usr/bin/python3") // Debian's, whose module it is
	need(t, exec.Command(python, "-c", "import asyncssh").Run() == nil, "asyncssh")
	dir := t.TempDir()
	hostKey := filepath.Join(dir, "host_key")
	signer := openssh.WriteKey(t, hostKey, "")
	keys := writeFile(t, dir, "authorized_keys", ssh.MarshalAuthorizedKey(authorized))
	addr := startServer(t, exec.Command(python, "-c", asyncSSH, hostKey, keys))
	return Server{Addr: addr, HostKey: signer.PublicKey(), User: "root", UnixForwards: true}
}

// startServer runs a server that prints its port, until its stdin ends.
func startServer(t testing.TB, cmd *exec.Cmd) (addr string) {
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

// startSSH2 runs npm's ssh2, which wants a key and nothing more.
func startSSH2(t testing.TB, authorized ssh.PublicKey) Server {
	addr, hostKey := StartSSH2(t, authorized, "")
	return Server{Addr: addr, HostKey: hostKey, User: "root"}
}

// StartSSH2 runs npm's ssh2, which wants a key and then a code, unless that is empty. The option
// keep makes it refuse to take remote forwards back.
func StartSSH2(t testing.TB, authorized ssh.PublicKey, code string, options ...string) (addr string, hostKey ssh.PublicKey) {
	t.Helper()
	node := openssh.Tool(t, "node")
	peers := filepath.Join(moduleRoot(t), "cmd", "sallyport", "testdata", "peers")
	_, err := os.Stat(filepath.Join(peers, "node_modules", "ssh2"))
	need(t, err == nil, "npm's ssh2")
	dir := t.TempDir()
	path := filepath.Join(dir, "host_key")
	signer := openssh.WriteKey(t, path, "")
	keys := writeFile(t, dir, "authorized", ssh.MarshalAuthorizedKey(authorized))
	args := append([]string{filepath.Join(peers, "sshd.mjs"), path, keys, code}, options...)
	return startServer(t, exec.Command(node, args...)), signer.PublicKey()
}

// moduleRoot returns the directory of go.mod. A test runs in the directory of its package.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above this package")
		}
	}
}

// startLibSSH compiles a small server of Debian's libssh and runs it until its stdin ends.
func startLibSSH(t testing.TB, authorized ssh.PublicKey) Server {
	cc := openssh.Tool(t, "gcc")
	_, err := os.Stat("/usr/include/libssh/server.h")
	need(t, err == nil, "libssh-dev")
	dir := t.TempDir()
	source := filepath.Join(moduleRoot(t), "sshtunnel", "sshtest", "servers", "testdata", "libssh_server.c")
	bin, hostKey := filepath.Join(dir, "server"), filepath.Join(dir, "host_key")
	openssh.Run(t, cc, "-o", bin, source, "-lssh")
	signer := openssh.WriteKey(t, hostKey, "")
	keys := writeFile(t, dir, "authorized_keys", ssh.MarshalAuthorizedKey(authorized))
	return Server{Addr: startServer(t, exec.Command(bin, hostKey, keys)), HostKey: signer.PublicKey(), User: "root"}
}

// startGliderlabs runs a server of gliderlabs/ssh, which many Go programs embed.
func startGliderlabs(t testing.TB, authorized ssh.PublicKey) Server {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	forwards, hostKey := &gliderlabs.ForwardedTCPHandler{}, sshtest.NewKey()
	s := &gliderlabs.Server{
		Handler: func(session gliderlabs.Session) { fmt.Fprintf(session, "ran %s\n", session.RawCommand()) },
		PublicKeyHandler: func(_ gliderlabs.Context, key gliderlabs.PublicKey) bool {
			return gliderlabs.KeysEqual(key, authorized)
		},
		LocalPortForwardingCallback:   func(gliderlabs.Context, string, uint32) bool { return true },
		ReversePortForwardingCallback: func(gliderlabs.Context, string, uint32) bool { return true },
		ChannelHandlers: map[string]gliderlabs.ChannelHandler{
			"direct-tcpip": gliderlabs.DirectTCPIPHandler, "session": gliderlabs.DefaultSessionHandler,
		},
		RequestHandlers: map[string]gliderlabs.RequestHandler{
			"tcpip-forward": forwards.HandleSSHRequest, "cancel-tcpip-forward": forwards.HandleSSHRequest,
		},
	}
	s.AddHostKey(hostKey)
	go s.Serve(ln) // ends with s
	t.Cleanup(func() { s.Close() })
	return Server{Addr: ln.Addr().String(), HostKey: hostKey.PublicKey(), User: "root"}
}
