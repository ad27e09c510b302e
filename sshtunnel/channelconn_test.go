//go:build !windows

package sshtunnel

import (
	"bytes"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"sallyport/sshtunnel/sshtest/openssh"
)

// TestBulkBothWays moves more than all windows and buffers hold, both ways at once, in writes of
// many sizes.
func TestBulkBothWays(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	server := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey())
	tun := newTunnel(t, nil, server.Host(t, "hop", key))
	conn, err := tun.DialContext(t.Context(), "tcp", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const total = 16 << 20
	want := make([]byte, total)
	rand.NewChaCha8([32]byte{1}).Read(want)
	wrote := make(chan error, 1)
	go func() { // ends with the data or the connection
		for left, size := want, 1; len(left) > 0; size = size*3%(1<<20) + 1 {
			n, err := conn.Write(left[:min(size, len(left))])
			if err != nil {
				wrote <- err
				return
			}
			left = left[n:]
		}
		wrote <- conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes other than the %d that were sent", len(got), len(want))
	}
}
