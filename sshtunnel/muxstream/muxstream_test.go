//go:build unix

package muxstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/sshtunnel/mux"
)

// pair returns the two ends of a local connection.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pair") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("unix", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// newGroup returns a group of a set, and what counts the calls of left and drop.
func newGroup(t *testing.T, s *Set) (g *Group, left, drop *int) {
	t.Helper()
	left, drop = new(int), new(int)
	return s.NewGroup(t.Context(), func() { *left++ }, func() { *drop++ }), left, drop
}

// stream returns a stream to a peer that sends back what comes.
func stream(t *testing.T, g *Group) *Conn {
	t.Helper()
	near, far := pair(t)
	go io.Copy(far, far) // ends with far
	c, ok := g.Add(mux.NewConn(near), nil, near.LocalAddr(), near.RemoteAddr())
	if !ok {
		t.Fatal("the set is closed")
	}
	return c
}

func echoes(c *Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// A stream of a server that drains ends when it is quiet, unless an answer is due, and in the end
// it does anyhow. Nothing is written to it then.
func TestRetire(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                string
		asks, command, busy bool
		quiet, drained      time.Duration
		ends                bool
	}{
		{name: "just used", drained: time.Minute},
		{name: "quiet", quiet: QuietLimit, ends: true},
		{name: "quiet for less", quiet: QuietLimit * 3 / 4},
		{name: "quiet for less, but for longer than it may later", quiet: QuietLimit * 3 / 4, drained: DrainLimit / 2, ends: true},
		{name: "an answer is due", asks: true, quiet: DrainLimit, drained: DrainLimit - 1},
		{name: "an answer is due for too long", asks: true, quiet: DrainLimit, drained: DrainLimit, ends: true},
		{name: "an answer is due somewhere", busy: true, quiet: DrainLimit, drained: DrainLimit - 1},
		{name: "an answer is due somewhere for too long", busy: true, quiet: DrainLimit, drained: DrainLimit, ends: true},
		{name: "a command", command: true, quiet: DrainLimit, drained: DrainLimit - 1},
		{name: "used all the time", drained: DrainLimit, ends: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g, _, _ := newGroup(t, new(Set))
			other, _, _ := newGroup(t, g.set)
			c, bystander := stream(t, g), stream(t, other)
			if c.Write([]byte("x")); !c.asks {
				t.Error("no answer is due after a write")
			}
			if c.Read(make([]byte, 1)); c.asks {
				t.Error("an answer is due after a read")
			}
			c.mu.Lock()
			c.moved -= tt.quiet
			c.asks = tt.asks
			c.mu.Unlock()
			if tt.command {
				c.wait = mux.NewConn(c.Conn)
			}
			ended := g.Retire(tt.drained, tt.busy)
			if err := echoes(bystander); err != nil {
				t.Errorf("a stream of another server: %v", err)
			}
			if !tt.ends {
				if err := echoes(c); err != nil || len(ended) > 0 {
					t.Errorf("%v; ended are %v", err, ended)
				}
				return
			}
			if len(ended) != 1 || ended[0] != c.RemoteAddr() {
				t.Errorf("ended are %v", ended)
			}
			if n, err := c.Write([]byte("x")); n != 0 || err == nil {
				t.Errorf("wrote %d bytes, %v", n, err)
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A group counts its streams, and the end of each is told once.
func TestGroup(t *testing.T) {
	t.Parallel()
	g, left, drop := newGroup(t, new(Set))
	if g.Used(time.Hour) {
		t.Error("used without a stream")
	}
	one, two := stream(t, g), stream(t, g)
	if g.Open() != 2 || !g.Used(0) {
		t.Errorf("%d streams", g.Open())
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if err := one.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close: %v", err)
	}
	if g.Open() != 1 || *left != 1 {
		t.Errorf("%d streams, told %d times", g.Open(), *left)
	}
	g.Cut()
	if _, err := two.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after Cut: %v", err)
	}
	<-two.Ended()
	two.Close()
	if !g.Used(time.Hour) || *drop != 0 {
		t.Errorf("used %v, dropped %d times", g.Used(time.Hour), *drop)
	}
}

// A set that is closed ends its streams, and takes no more.
func TestClosedSet(t *testing.T) {
	t.Parallel()
	s := new(Set)
	g, _, drop := newGroup(t, s)
	c := stream(t, g)
	s.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF || *drop != 1 {
		t.Errorf("%v, dropped %d times", err, *drop)
	}
	near, _ := pair(t)
	late, ok := g.Add(mux.NewConn(near), nil, nil, nil)
	if ok {
		t.Error("a closed set takes a stream")
	}
	late.Close()
}

// The end of the life of a group frees who waits for the end of a stream where the system does not
// tell.
func TestEndedWithTheGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	g := new(Set).NewGroup(ctx, func() {}, func() {})
	near, far := net.Pipe() // which is no socket
	defer far.Close()
	c, _ := g.Add(mux.NewConn(near), nil, nil, nil)
	cancel()
	<-c.Ended()
	c.Close()
}
