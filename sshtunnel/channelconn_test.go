//go:build !windows

package sshtunnel

import (
	"bytes"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest/openssh"
)

// More bytes than all windows and buffers hold go in both directions at once, in writes of many sizes.
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

// partChannel takes a part of what is written, and fails.
type partChannel struct {
	ssh.Channel
	takes int
	quit  chan struct{}
}

func (c *partChannel) Read([]byte) (int, error)  { <-c.quit; return 0, io.EOF }
func (c *partChannel) Write([]byte) (int, error) { return c.takes, io.EOF }
func (c *partChannel) Close() error              { return nil }

// A Write that fails tells how much may have gone out. A request of which nothing went out may be sent
// again.
func TestWriteTellsWhatWentOut(t *testing.T) {
	t.Parallel()
	for _, takes := range []int{0, 3, 7} {
		ch := &partChannel{takes: takes, quit: make(chan struct{})}
		reqs := make(chan *ssh.Request)
		c := newChannelConn(channelSetup{ch: ch, reqs: reqs, serve: ssh.DiscardRequests, laddr: addr{}, raddr: addr{}})
		if n, err := c.Write([]byte("request")); n != takes || err == nil {
			t.Errorf("got %d, %v, want %d", n, err, takes)
		}
		close(ch.quit)
		close(reqs)
		c.Close()
	}
}
