//go:build !windows

package hostkeys

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// person answers questions in turn, and remembers them.
type person struct {
	mu      sync.Mutex
	answers []string
	asked   []string
}

func (p *person) ask(_ context.Context, prompt string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, prompt)
	if len(p.answers) == 0 {
		return "", ErrNoPerson
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	return answer, nil
}

// questions returns what was asked so far.
func (p *person) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// connection is an SSH connection whose host key was verified.
type connection struct {
	*ssh.Client
	voucher Voucher
}

// connect logs in to h as sshtunnel does: verify the key, offer the first of IdentityFiles, serve
// UpdateHostKeys. With proxied, the address that is dialed is none of the host's, as behind a
// ProxyCommand.
func connect(t *testing.T, ctx context.Context, h *sshconfig.Host, ask Asker, proxied bool) (*connection, error) {
	t.Helper()
	v, err := New(ctx, Config{Host: h, Getenv: os.Getenv, Log: testLog(t)})
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: h.Port})
	if err != nil {
		t.Fatal(err)
	}
	if !proxied {
		v.DialedDirectly(conn.RemoteAddr())
	}
	c := &connection{}
	var refused error
	config := &ssh.ClientConfig{
		User:              h.User,
		HostKeyAlgorithms: v.Algorithms(),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			c.voucher, refused = v.Verify(ctx, key, ask)
			return refused
		},
	}
	if len(h.IdentityFiles) > 0 {
		text, err := os.ReadFile(h.IdentityFiles[0])
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey(text)
		if err != nil {
			t.Fatal(err)
		}
		config.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	}
	sshConn, channels, requests, err := ssh.NewClientConn(conn, "", config)
	if err != nil {
		conn.Close()
		if refused != nil {
			return nil, refused
		}
		return nil, err
	}
	c.Client = ssh.NewClient(sshConn, channels, v.HandleUpdates(sshConn, requests, ask))
	t.Cleanup(func() { c.Close() })
	return c, nil
}

// connects is connect for tests that are interested in the error only.
func connects(t *testing.T, h *sshconfig.Host, ask Asker) error {
	t.Helper()
	c, err := connect(t, t.Context(), h, ask, false)
	if err == nil {
		c.Close()
	}
	return err
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serve starts an in-process server that shows the host keys, lets anybody in, and says yes to
// every command. Where ssh is asked what it makes of a host key, it is enough, and much faster than
// sshd.
func serve(t *testing.T, hostKeys ...ssh.Signer) *sshtest.Server {
	t.Helper()
	s, err := sshtest.Start(sshtest.Config{
		HostKeys: hostKeys, NoAuth: true, Log: testLog(t),
		Exec: func(context.Context, string, io.Reader, io.Writer, io.Writer) int { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// at returns what a server is called in known_hosts.
func at(s *sshtest.Server) string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return "[127.0.0.1]:" + port
}

// generate makes a key with ssh-keygen in dir, and reads it.
func generate(t *testing.T, dir, name string, args ...string) ssh.Signer {
	t.Helper()
	file := filepath.Join(dir, name)
	openssh.Run(t, "ssh-keygen", append([]string{"-q", "-N", "", "-f", file}, args...)...)
	signer, err := ssh.ParsePrivateKey([]byte(readFile(file)))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// certify lets ssh-keygen sign the key NAME.pub in dir by the authority ca, and returns a signer
// with the certificate.
func certify(t *testing.T, dir, name string, signer ssh.Signer, args ...string) ssh.Signer {
	t.Helper()
	file := filepath.Join(dir, name)
	args = append([]string{"-q", "-s", filepath.Join(dir, "ca"), "-I", "id", "-h"}, args...)
	openssh.Run(t, "ssh-keygen", append(args, file+".pub")...)
	certified, err := ssh.NewCertSigner(openssh.ReadPublicKey(t, file+"-cert.pub").(*ssh.Certificate), signer)
	if err != nil {
		t.Fatal(err)
	}
	return certified
}

// sshConnects tells whether the real ssh gets to run a command on h. It obeys what h says about
// host keys; options go first, so they win.
func sshConnects(t *testing.T, h *sshconfig.Host, options ...string) (bool, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh"), sshArgs(h, options...)...)
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

func sshArgs(h *sshconfig.Host, options ...string) []string {
	args := []string{"-F", "none", "-p", fmt.Sprint(h.Port)}
	for _, file := range h.IdentityFiles {
		args = append(args, "-i", file)
	}
	files := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, " ")
	}
	options = append(options, "BatchMode=yes", "StrictHostKeyChecking="+h.StrictHostKeyChecking, "IdentitiesOnly=yes", "UpdateHostKeys=no",
		"UserKnownHostsFile="+files(h.UserKnownHostsFiles), "GlobalKnownHostsFile="+files(h.GlobalKnownHostsFiles))
	if h.HostKeyAlias != "" {
		options = append(options, "HostKeyAlias="+h.HostKeyAlias)
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	return append(args, h.HostName, "true")
}

// draws is how many random cases a test makes: few, or as many as SALLYPORT_DRAWS says.
func draws(t *testing.T, few int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("SALLYPORT_DRAWS"))
	if err != nil {
		n = few
	}
	t.Logf("%d draws", n)
	return n
}

// randomSource returns a random source, and logs its seed. SALLYPORT_SEED repeats a run.
func randomSource(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// keyLine is a key as known_hosts holds it.
func keyLine(k ssh.PublicKey) string { return openssh.KeyLine(k) }

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "missing"
	}
	return string(text)
}
