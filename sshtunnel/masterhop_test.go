//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// startMaster starts the ControlMaster of a user. It returns the host for a tunnel, which has no
// key: only the master has one.
func startMaster(t *testing.T, options ...string) (*sshconfig.Host, *exec.Cmd) {
	t.Helper()
	dir := t.TempDir()
	key, socket := filepath.Join(dir, "id"), filepath.Join(dir, "m%")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey(), options...)
	h := s.Host(t, "bastion", key)
	cmd := exec.Command(openssh.Tool(t, "ssh"), "-F", "none", "-M", "-N", "-S", strings.ReplaceAll(socket, "%", "%%"), "-i", key,
		"-o", "UserKnownHostsFile="+h.UserKnownHostsFiles[0], "-o", "BatchMode=yes", "-p", strings.TrimPrefix(s.Addr.String(), "127.0.0.1:"), h.User+"@127.0.0.1")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	h.IdentityFiles, h.ControlPath = nil, socket
	m := newMasterHop(h, testLog(t), nil)
	openssh.Eventually(t, "the master answers", func() bool { return m.answers(t.Context()) })
	return h, cmd
}

func masterTunnel(t *testing.T, chain ...*sshconfig.Host) *Tunnel {
	t.Helper()
	return tunnelOf(t, Config{
		ControlMaster: MasterAlways,
		Chain:         func(context.Context) ([]*sshconfig.Host, error) { return chain, nil },
	})
}

func TestControlMaster(t *testing.T) {
	t.Parallel()
	target := echo(t)
	h, cmd := startMaster(t)
	noLeak(t, func() {
		tun := masterTunnel(t, h)
		conn := mustDial(t, tun, target)
		checkEcho(t, conn)
		conn.(interface{ CloseWrite() error }).CloseWrite()
		if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
			t.Errorf("after half-close: %q, %v", rest, err)
		}
		_, err := tun.DialContext(t.Context(), "tcp", "127.0.0.1:1")
		if open, ok := errors.AsType[*OpenError](err); !ok || open.Reason != ssh.ConnectionFailed || open.Hop != "bastion" {
			t.Errorf("nobody listens: %v", err)
		}
		p, err := tun.Exec(t.Context(), "cat; echo oops >&2; exit 3")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(p, "in")
		p.(interface{ CloseWrite() error }).CloseWrite()
		out, err := io.ReadAll(p)
		if exit, ok := errors.AsType[*ExitError](err); !ok || string(out) != "in" || exit.Status != 3 || !strings.Contains(exit.Stderr, "oops") {
			t.Errorf("got %q, %v", out, err)
		}
		p.Close()
		stays := mustDial(t, tun, target)
		tun.Close()
		if _, err := stays.Read(make([]byte, 1)); err == nil {
			t.Error("a connection survived Close")
		}
	})
	// The master lives on, until its user ends it; then we have nothing to log in with.
	tun := masterTunnel(t, h)
	checkEcho(t, mustDial(t, tun, target))
	cmd.Process.Kill()
	cmd.Wait()
	_, err := tun.DialContext(t.Context(), "tcp", target)
	if _, ok := errors.AsType[*AuthError](err); !ok {
		t.Errorf("without the master: %v", err)
	}
}

func TestControlMasterForward(t *testing.T) {
	t.Parallel()
	h, _ := startMaster(t)
	noLeak(t, func() {
		tun := masterTunnel(t, h)
		var lns []net.Listener
		for range 2 {
			ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			lns = append(lns, ln)
			go func() { // ends with ln
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					io.WriteString(c, "hello")
					c.Close()
				}
			}()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); string(got) != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
			conn.Close()
		}
		if _, err := tun.Listen(t.Context(), "tcp", lns[0].Addr().String()); err == nil {
			t.Error("a busy port was granted")
		}
		lns[0].Close()
		tun.Close() // takes the other back: the master would keep it
		for _, ln := range lns {
			openssh.Eventually(t, "the forward is gone", func() bool {
				conn, err := net.Dial("tcp", ln.Addr().String())
				if err == nil {
					conn.Close()
				}
				return err != nil
			})
		}
	})
}

// The hops after the master's are SSH connections of our own.
func TestControlMasterAsFirstHop(t *testing.T) {
	t.Parallel()
	target := echo(t)
	h, _ := startMaster(t)
	s := startFake(t, sshtest.Config{Listen: net.Listen})
	noLeak(t, func() {
		tun := masterTunnel(t, openssh.NewHost(t, "never dialed", "127.0.0.1:1"), h, fakeHost(t, "inner", s))
		checkEcho(t, mustDial(t, tun, target))
		s.Drop()
		openssh.Eventually(t, "a second login", func() bool { return s.Logins() == 2 })
		checkEcho(t, mustDial(t, tun, target))
		tun.Close()
	})
}

// If no master answers, the hop is dialed.
func TestNoControlMaster(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	h := fakeHost(t, "bastion", s)
	h.ControlPath = filepath.Join(t.TempDir(), "nobody")
	openssh.Tool(t, "ssh")
	checkEcho(t, mustDial(t, masterTunnel(t, h), target))
}
