package sshtunnel

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
	"sallyport/sshtunnel/sshtest/servers"
)

// matrix holds the rows of a table that is printed when all of them are there.
type matrix struct {
	mu   sync.Mutex
	rows map[string][]string
}

func (m *matrix) add(name string, cells ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[string][]string{}
	}
	m.rows[name] = cells
}

// print logs the rows in the order of names.
func (m *matrix) print(t *testing.T, names []string, head ...string) {
	var b strings.Builder
	line := func(name string, cells []string) {
		fmt.Fprintf(&b, "\n%-44s", name)
		for _, c := range cells {
			fmt.Fprintf(&b, " %-22s", c)
		}
	}
	line("", head)
	for _, name := range names {
		line(name, m.rows[name])
	}
	t.Log(b.String())
}

// way is a server as both clients reach it.
type way struct {
	host   *sshconfig.Host
	server servers.Server
	key    string // the private key that may log in
	target string // an echo server
	second *sshtest.Server
}

// newWay starts a server and a second one behind it.
func newWay(t *testing.T, start func(testing.TB, ssh.PublicKey) servers.Server) *way {
	t.Helper()
	w := &way{key: filepath.Join(t.TempDir(), "id"), target: echo(t), second: startFake(t, sshtest.Config{})}
	w.server = start(t, openssh.WriteKey(t, w.key, "").PublicKey())
	w.host = openssh.NewHost(t, "first", w.server.Addr)
	w.host.User, w.host.HostKeyAlias = w.server.User, "first"
	w.host.IdentityFiles, w.host.IdentityFilesSet = []string{w.key}, true
	writeFile(t, w.host.UserKnownHostsFiles[0], "first "+openssh.KeyLine(w.server.HostKey)+"\n"+w.second.KnownHosts("second"))
	return w
}

// ssh returns a command of a real ssh that knows both servers. Options go before the arguments.
func (w *way) ssh(t *testing.T, program string, options []string, args ...string) *exec.Cmd {
	t.Helper()
	block := func(name, addr, user string) string {
		_, port, _ := net.SplitHostPort(addr)
		return fmt.Sprintf("Host %s\n HostName 127.0.0.1\n Port %s\n User %s\n HostKeyAlias %s\n", name, port, user, name)
	}
	config := filepath.Join(t.TempDir(), "config")
	writeFile(t, config, block("first", w.server.Addr, w.server.User)+block("second", w.second.Addr(), "any")+" ProxyJump first\n"+
		"Host *\n IdentityFile "+w.key+"\n IdentitiesOnly yes\n IdentityAgent none\n BatchMode yes\n UpdateHostKeys no\n"+
		" UserKnownHostsFile "+w.host.UserKnownHostsFiles[0]+"\n GlobalKnownHostsFile none\n "+strings.Join(options, "\n ")+"\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a channel that is never answered
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, append([]string{"-F", config}, args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

// channels are what is tried through each server, by its name in the table.
var channels = []string{"connect", "exec", "remote forward", "two hops"}

// bySSH reports whether a real ssh gets through, by channel.
func (w *way) bySSH(t *testing.T, program string, options ...string) map[string]error {
	return map[string]error{
		"connect":        echoes(w.ssh(t, program, options, "-W", w.target, "first")),
		"exec":           w.sshExec(t, program, options),
		"remote forward": w.sshForward(t, program, options),
		"two hops":       echoes(w.ssh(t, program, options, "-W", w.target, "second")),
	}
}

// echoes writes a line to a command and expects it back. Then it kills the command: not every
// server passes the end of a stream on.
func echoes(cmd *exec.Cmd) error {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	io.WriteString(in, "hello\n")
	got := make([]byte, len("hello\n"))
	_, err = io.ReadFull(out, got)
	cmd.Process.Kill()
	cmd.Wait()
	if string(got) != "hello\n" {
		return fmt.Errorf("%q, %v: %s", got, err, stderr.String())
	}
	return nil
}

func (w *way) sshExec(t *testing.T, program string, options []string) error {
	out, err := w.ssh(t, program, options, "-T", "first", "echo hi").CombinedOutput()
	if !strings.Contains(string(out), "hi") || err != nil {
		return fmt.Errorf("%q, %v", out, err)
	}
	return nil
}

// allocated is how ssh tells the port of a remote forward that the server has chosen.
var allocated = regexp.MustCompile(`Allocated port (\d+)`)

func (w *way) sshForward(t *testing.T, program string, options []string) error {
	network, addr, spec := "tcp", "", "127.0.0.1:0:"+w.target
	if w.server.UnixForwards {
		network, addr = "unix", filepath.Join(t.TempDir(), "s")
		spec = addr + ":" + w.target
	}
	cmd := w.ssh(t, program, options, "-v", "-N", "-o", "ExitOnForwardFailure=yes", "-R", spec, "first")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	granted := false
	lines := bufio.NewScanner(stderr)
	for !granted && lines.Scan() {
		if m := allocated.FindStringSubmatch(lines.Text()); m != nil {
			addr, granted = "127.0.0.1:"+m[1], true
		}
		granted = granted || network == "unix" && strings.Contains(lines.Text(), "forward success")
	}
	go io.Copy(io.Discard, stderr) // ends with the command
	if !granted {
		return errors.New("no forward was granted")
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	return echoOver(conn)
}

// echoOver writes a line and expects it back.
func echoOver(conn net.Conn) error {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err
	}
	got := make([]byte, len("hello\n"))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello\n" {
		return fmt.Errorf("%q, %v", got, err)
	}
	return nil
}

// byUs is bySSH for a Tunnel. It also returns the tunnel's phase after the first failure.
func (w *way) byUs(t *testing.T) (got map[string]error, phase string) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tun := newTunnel(t, nil, w.host)
	defer tun.Close()
	if err := tun.Connect(ctx); err != nil {
		st, _ := tun.State()
		return map[string]error{"connect": err, "exec": err, "remote forward": err, "two hops": err}, st.Phase
	}
	got = map[string]error{}
	connect := func(tun *Tunnel) error {
		conn, err := tun.DialContext(ctx, "tcp", w.target)
		if err != nil {
			return err
		}
		return echoOver(conn)
	}
	got["connect"] = connect(tun)
	got["exec"] = func() error {
		cmd, err := tun.Exec(ctx, "echo hi")
		if err != nil {
			return err
		}
		defer cmd.Close()
		out, err := io.ReadAll(cmd)
		if err == nil && !strings.Contains(string(out), "hi") {
			return fmt.Errorf("%q", out)
		}
		return err
	}()
	got["remote forward"] = w.forward(ctx, t, tun)
	second := openssh.NewHost(t, "second", w.second.Addr())
	second.HostKeyAlias, second.UserKnownHostsFiles = "second", w.host.UserKnownHostsFiles
	got["two hops"] = connect(newTunnel(t, nil, w.host, second))
	return got, Up
}

func (w *way) forward(ctx context.Context, t *testing.T, tun *Tunnel) error {
	network, addr := "tcp", "127.0.0.1:0"
	if w.server.UnixForwards {
		network, addr = "unix", filepath.Join(t.TempDir(), "s")
	}
	ln, err := tun.Listen(ctx, network, addr)
	if err != nil {
		return err
	}
	serveEcho(t, ln)
	conn, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		return err
	}
	return echoOver(conn)
}

// cell words what the two clients have got.
func cell(ssh, ours error) string {
	words := map[bool]string{true: "yes", false: "no"}
	return "ssh " + words[ssh == nil] + ", we " + words[ours == nil]
}

// Through every server that lets the real ssh through, we get through as well, with each kind of
// channel.
func TestMatrixOfServers(t *testing.T) {
	t.Parallel()
	clients := []string{openssh.Tool(t, "ssh")}
	if prefixes := servers.Prefixes(t); len(prefixes) > 0 {
		clients = append(clients, filepath.Join(prefixes[len(prefixes)-1], "bin", "ssh"))
	}
	for _, c := range clients {
		version, _ := exec.Command(c, "-V").CombinedOutput()
		t.Logf("%s: %s", c, version)
	}
	var table matrix
	var names []string
	t.Run("servers", func(t *testing.T) {
		for _, kind := range servers.All(t) {
			names = append(names, kind.Name)
			t.Run(kind.Name, func(t *testing.T) {
				t.Parallel()
				w := newWay(t, kind.Start)
				ours, _ := w.byUs(t)
				theirs := map[string]error{}
				for i, client := range clients {
					for channel, err := range w.bySSH(t, client) {
						if theirs[channel] == nil && i > 0 {
							continue // the other ssh got through: that is enough
						}
						theirs[channel] = err
					}
				}
				var cells []string
				for _, channel := range channels {
					cells = append(cells, cell(theirs[channel], ours[channel]))
					if theirs[channel] == nil && ours[channel] != nil {
						t.Errorf("%s: ssh gets through, we do not: %v", channel, ours[channel])
					} else if ours[channel] != nil {
						t.Logf("%s: neither gets through: %v; ssh: %v", channel, ours[channel], theirs[channel])
					}
				}
				table.add(kind.Name, cells...)
			})
		}
	})
	table.print(t, names, channels...)
}

// notImplemented are the algorithms that x/crypto lacks, of those that OpenSSH has. A server that
// offers nothing else is out of our reach. README.md names them.
var notImplemented = []string{
	"KexAlgorithms sntrup761x25519-sha512", "KexAlgorithms sntrup761x25519-sha512@openssh.com",
	"KexAlgorithms diffie-hellman-group18-sha512", "KexAlgorithms mlkem768nistp256-sha256",
	"MACs umac-64-etm@openssh.com", "MACs umac-128-etm@openssh.com", "MACs umac-64@openssh.com", "MACs umac-128@openssh.com",
	"MACs hmac-sha1-etm@openssh.com", "MACs hmac-sha1-96-etm@openssh.com", "MACs hmac-md5", "MACs hmac-md5-96",
	"MACs hmac-md5-etm@openssh.com", "MACs hmac-md5-96-etm@openssh.com",
	"Ciphers aes192-cbc", "Ciphers aes256-cbc", "Ciphers rijndael-cbc@lysator.liu.se",
	"HostKeyAlgorithms ssh-mldsa44-ed25519", "HostKeyAlgorithms ssh-mldsa44-ed25519@openssh.com",
}

// algorithmCases returns each algorithm of a keyword that sshd and ssh of an installation have.
// Those that are not among OpenSSH's defaults are the person's to allow.
func algorithmCases(t *testing.T, sshPath, keyword string) []string {
	query := map[string]string{"KexAlgorithms": "kex", "Ciphers": "cipher", "MACs": "mac", "HostKeyAlgorithms": "HostKeyAlgorithms"}[keyword]
	var all []string
	for _, name := range strings.Fields(openssh.Run(t, sshPath, "-Q", query)) {
		// Security keys and certificates cannot be had, or are the tests' of package hostkeys.
		// DSA is gone from OpenSSH 10 and from x/crypto.
		if name != "ssh-dss" && !strings.Contains(name, "sk-") && !strings.Contains(name, "-cert-") && !strings.HasPrefix(name, "webauthn") {
			all = append(all, name)
		}
	}
	return all
}

// hostKeyFor makes a host key that can sign by an algorithm, and returns its path.
func hostKeyFor(t *testing.T, keygen, algorithm string) string {
	path := filepath.Join(t.TempDir(), "host_key")
	args := map[string][]string{
		"ssh-rsa": {"-t", "rsa"}, "rsa-sha2-256": {"-t", "rsa"}, "rsa-sha2-512": {"-t", "rsa"}, "ssh-dss": {"-t", "dsa"},
		"ecdsa-sha2-nistp256": {"-t", "ecdsa", "-b", "256"}, "ecdsa-sha2-nistp384": {"-t", "ecdsa", "-b", "384"},
		"ecdsa-sha2-nistp521": {"-t", "ecdsa", "-b", "521"},
		"ssh-mldsa44-ed25519": {"-t", "mldsa44-ed25519"}, "ssh-mldsa44-ed25519@openssh.com": {"-t", "mldsa44-ed25519"},
	}[algorithm]
	if args == nil {
		args = []string{"-t", "ed25519"}
	}
	openssh.Run(t, keygen, append(args, "-q", "-N", "", "-f", path)...)
	return path
}

// An sshd that offers a single algorithm lets us through whenever it lets ssh through, but for the
// algorithms of notImplemented. Those fail by an *AlgorithmError, which is not tried again.
func TestMatrixOfAlgorithms(t *testing.T) {
	t.Parallel()
	sshd, client := openssh.Tool(t, "sshd"), openssh.Tool(t, "ssh")
	if prefixes := servers.Prefixes(t); len(prefixes) > 0 {
		newest := prefixes[len(prefixes)-1]
		sshd, client = filepath.Join(newest, "sbin", "sshd"), filepath.Join(newest, "bin", "ssh")
	}
	keygen := filepath.Join(filepath.Dir(client), "ssh-keygen")
	t.Logf("%s with %s", client, sshd)
	var table matrix
	var names []string
	t.Run("algorithms", func(t *testing.T) {
		for _, keyword := range []string{"KexAlgorithms", "Ciphers", "MACs", "HostKeyAlgorithms"} {
			for _, name := range algorithmCases(t, client, keyword) {
				row := keyword + " " + name
				names = append(names, row)
				t.Run(row, func(t *testing.T) {
					t.Parallel()
					checkAlgorithm(t, algorithmCell{sshd, client, keygen, keyword, name}, &table)
				})
			}
		}
	})
	table.print(t, names, "connect")
}

// textKey is a public key of a type that x/crypto does not know.
type textKey struct {
	ssh.PublicKey // nil
	kind          string
	blob          []byte
}

func (k textKey) Type() string    { return k.kind }
func (k textKey) Marshal() []byte { return k.blob }

// readHostKey reads a .pub file of any type.
func readHostKey(t testing.TB, path string) ssh.PublicKey {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return textKey{kind: fields[0], blob: blob}
}

// algorithmCell is one sshd that offers one algorithm.
type algorithmCell struct{ sshd, client, keygen, keyword, name string }

func checkAlgorithm(t *testing.T, c algorithmCell, table *matrix) {
	row := c.keyword + " " + c.name
	options := []string{c.keyword + " " + c.name}
	if c.keyword == "MACs" { // others need none
		options = append(options, "Ciphers aes128-ctr")
	}
	path := hostKeyFor(t, c.keygen, map[bool]string{true: c.name}[c.keyword == "HostKeyAlgorithms"])
	w := newWay(t, func(t testing.TB, pub ssh.PublicKey) servers.Server {
		s := openssh.StartBy(t, c.sshd, pub, append(options, "HostKey "+path)...)
		return servers.Server{Addr: s.Addr.String(), HostKey: readHostKey(t, path+".pub"), User: cmp.Or(os.Getenv("USER"), "root")}
	})
	allow := []string(nil)
	if !slices.Contains(sshconfig.DefaultAlgorithms(c.keyword), c.name) {
		allow = []string{c.keyword + " +" + c.name}
		switch list := append(sshconfig.DefaultAlgorithms(c.keyword), c.name); c.keyword {
		case "KexAlgorithms":
			w.host.KexAlgorithms = list
		case "Ciphers":
			w.host.Ciphers = list
		case "MACs":
			w.host.MACs = list
		case "HostKeyAlgorithms":
			w.host.HostKeyAlgorithms = list
		}
	}
	theirs := echoes(w.ssh(t, c.client, allow, "-W", w.target, "first"))
	tun := newTunnel(t, nil, w.host)
	ours := tun.Connect(t.Context())
	if ours == nil {
		checkEcho(t, mustDial(t, tun, w.target))
	}
	table.add(row, cell(theirs, ours), map[bool]string{true: "(not a default)"}[allow != nil])
	listed := slices.Contains(notImplemented, row)
	_, mismatch := errors.AsType[*AlgorithmError](ours)
	st, _ := tun.State()
	switch {
	case listed && ours == nil:
		t.Error("we get through: take it off the list")
	case listed && (!mismatch || st.Phase != Refused):
		t.Errorf("phase %s, %v; want an AlgorithmError, refused", st.Phase, ours)
	case theirs == nil && ours != nil && !listed:
		t.Errorf("ssh gets through, we do not: %v", ours)
	case theirs != nil && ours != nil:
		t.Logf("neither gets through: %v; ssh: %v", ours, theirs)
	}
}
