//go:build !windows

package hostkeys

import (
	"context"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

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

// connect logs in to h as sshtunnel does: verify the key, offer the first of IdentityFiles, serve UpdateHostKeys. With
// proxied, the address that is dialed is none of the host's, as behind a ProxyCommand.
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

// startFake starts an in-process server that anybody may use.
func startFake(t *testing.T, cfg sshtest.Config) *sshtest.Server {
	t.Helper()
	cfg.NoAuth, cfg.Log = true, testLog(t)
	s, err := sshtest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
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

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			buf := make([]byte, 1<<18)
			t.Fatalf("never happened: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}
