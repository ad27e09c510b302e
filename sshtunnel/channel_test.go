//go:build !windows

package sshtunnel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// More bytes than all windows and buffers hold go in both directions at once, in writes of many
// sizes.
func TestBulkInBothDirections(t *testing.T) {
	t.Parallel()
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

// What was written before Close arrives, although Close does not wait for it.
func TestCloseLosesNothing(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	key := filepath.Join(t.TempDir(), "key")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey())
	tun := newTunnel(t, nil, s.Host(t, "bastion", key))
	want := bytes.Repeat([]byte("all of it "), 10_000)
	for range 20 {
		conn := mustDial(t, tun, ln.Addr().String())
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(want); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes of %d, %v", len(got), len(want), err)
		}
		far.Close()
	}
}

// A peer that does not read cannot keep a channel open for long.
func TestCloseWithAFullWindow(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := startFake(t, sshtest.Config{})
	tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
	noLeak(t, func() {
		conn := mustDial(t, tun, silent.Addr().String())
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		began := time.Now()
		conn.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		s.Drop() // the server, too, waits for the silent listener
	})
}
