//go:build !windows

package sshtunnel

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest/openssh"
)

// Keys are exchanged anew again and again while many channels carry data both ways and keepalives
// fire. sshd drops a client that sends anything else meanwhile (RFC 4253 section 7.1).
func TestKeysAreExchangedAgain(t *testing.T) {
	t.Parallel()
	const channels, each = 8, 4 << 20 // bytes in each direction
	for _, cipher := range []string{ssh.CipherAES128GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR} {
		t.Run(cipher, func(t *testing.T) {
			t.Parallel()
			target := echo(t)
			key := filepath.Join(t.TempDir(), "id")
			s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey(), "RekeyLimit 1M", "Ciphers "+cipher)
			h := s.Host(t, "bastion", key)
			h.ServerAliveSet, h.ServerAliveInterval, h.ServerAliveCountMax = true, 50*time.Millisecond, 1000
			noLeak(t, func() {
				tun := newTunnel(t, nil, h)
				before := mustDial(t, tun, target)
				stop := make(chan struct{})
				var pings sync.WaitGroup
				beat := linkOf(tun).last().heartbeat()
				pings.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-beat.ping(&linkOf(tun).tasks):
						}
					}
				})
				var all sync.WaitGroup
				for i := range channels {
					all.Go(func() {
						conn, err := tun.DialContext(t.Context(), "tcp", target)
						if err != nil {
							t.Error(err)
							return
						}
						defer conn.Close()
						checkBulk(t, conn, byte(i), each)
					})
				}
				all.Wait()
				close(stop)
				pings.Wait()
				checkEcho(t, before) // the link is still the same
				tun.Close()
			})
		})
	}
}

// checkBulk sends n bytes to an echo server and expects them back.
func checkBulk(t *testing.T, conn net.Conn, fill byte, n int) {
	t.Helper()
	block := bytes.Repeat([]byte{fill}, 64<<10)
	go func() { // ends when all is sent, or with conn
		for sent := 0; sent < n; sent += len(block) {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}()
	got := make([]byte, len(block))
	for read := 0; read < n; read += len(block) {
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, block) {
			t.Errorf("after %d bytes: %v", read, err)
			return
		}
	}
}
