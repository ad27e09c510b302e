package sshtunnel

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// slowConn takes its time for each Write and remembers what came with it.
type slowConn struct {
	net.Conn
	took time.Duration
	err  error

	mu     sync.Mutex
	writes [][]byte
}

func (c *slowConn) Write(p []byte) (int, error) {
	time.Sleep(c.took) // in a bubble
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.writes = append(c.writes, bytes.Clone(p))
	return len(p), nil
}

func (c *slowConn) Close() error { return nil }

func (c *slowConn) sizes() (sizes []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.writes {
		sizes = append(sizes, len(w))
	}
	return sizes
}

func TestGather(t *testing.T) {
	write := func(t *testing.T, c *gatherConn, size int) {
		t.Helper()
		if n, err := c.Write(make([]byte, size)); n != size || err != nil {
			t.Errorf("Write of %d: %d, %v", size, n, err)
		}
	}
	for _, tt := range []struct {
		name   string
		asking int32
		do     func(t *testing.T, c *gatherConn)
		want   []int // sizes of the writes
	}{
		{"nobody promises a flush", 9, func(t *testing.T, c *gatherConn) { write(t, c, 1); write(t, c, 2) }, []int{1, 2}},
		{"no crowd", gatherCrowd - 1, func(t *testing.T, c *gatherConn) {
			c.hold()
			write(t, c, 1)
			write(t, c, 2)
			c.flush()
		}, []int{1, 2}},
		{"a crowd", gatherCrowd, func(t *testing.T, c *gatherConn) {
			c.hold()
			write(t, c, 1)
			c.hold()
			write(t, c, 2)
			c.flush()
			c.flush()
		}, []int{3}},
		{"bulk does not wait", gatherCrowd, func(t *testing.T, c *gatherConn) {
			c.hold()
			write(t, c, 1)
			write(t, c, gatherSize)
			write(t, c, 2)
			c.flush()
		}, []int{1 + gatherSize, 2}},
		{"who promised waits for a window", gatherCrowd, func(t *testing.T, c *gatherConn) {
			c.hold()
			begin := time.Now()
			write(t, c, 1)
			synctest.Wait()
			for len(c.Conn.(*slowConn).sizes()) == 0 {
				time.Sleep(gatherLimit / 10)
			}
			if late := time.Since(begin); late > 2*gatherLimit {
				t.Errorf("sent after %v", late)
			}
			c.flush()
		}, []int{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &slowConn{}
				c := newGatherConn(conn)
				c.asking.Store(tt.asking)
				tt.do(t, c)
				if got := conn.sizes(); !slices.Equal(got, tt.want) {
					t.Errorf("writes of %v bytes, want %v", got, tt.want)
				}
				if n := c.holders.Load(); n != 0 && tt.want != nil {
					t.Errorf("%d still hold", n)
				}
			})
		})
	}
}

// Everything arrives once and in the order of each writer, whoever sends it, and what waits is bounded.
func TestGatherManyWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slowConn{took: time.Millisecond}
		c := newGatherConn(conn)
		c.asking.Store(gatherCrowd)
		const writers, pieces = 8, 200
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range pieces {
					c.hold()
					c.Write([]byte{byte(w), byte(i)})
					if i%3 == 0 {
						c.Write(bytes.Repeat([]byte{0xff}, 5000))
					}
					c.flush()
				}
			})
		}
		wg.Wait()
		var next [writers]int
		all := bytes.Join(conn.writes, nil)
		for len(all) > 0 {
			if all[0] == 0xff {
				all = all[5000:]
				continue
			}
			if int(all[1]) != next[all[0]] {
				t.Fatalf("writer %d: piece %d, want %d", all[0], all[1], next[all[0]])
			}
			next[all[0]]++
			all = all[2:]
		}
		for w, n := range next {
			if n != pieces {
				t.Errorf("writer %d: %d pieces, want %d", w, n, pieces)
			}
		}
		if len(conn.writes) > writers*pieces/2 {
			t.Errorf("%d writes for %d pieces: nothing was gathered", len(conn.writes), writers*pieces)
			t.Log(conn.sizes()[:200])
		}
		for _, size := range conn.sizes() {
			if size > gatherSize+5002 {
				t.Errorf("%d bytes at once", size)
			}
		}
	})
}

// failingConn takes the first Write, once it may, and none after.
type failingConn struct {
	net.Conn
	begun, let chan struct{}
	writes     int // the lock of gatherConn.sending guards it
	closed     bool
}

func (c *failingConn) Write(p []byte) (int, error) {
	if c.writes++; c.writes > 1 {
		return 0, errors.New("broken")
	}
	close(c.begun)
	<-c.let
	return len(p), nil
}

func (c *failingConn) Close() error { c.closed = true; return nil }

// Whose bytes have all been sent has no error, whatever becomes of what others write meanwhile: it would be sent again.
func TestGatherErrorOfAnother(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		conn := &failingConn{begun: make(chan struct{}), let: make(chan struct{})}
		c := newGatherConn(conn)
		own := make(chan error)
		go func() {
			if !flushed {
				_, err := c.Write([]byte("own"))
				own <- err
				return
			}
			c.asking.Store(gatherCrowd)
			c.hold()
			_, err := c.Write([]byte("own"))
			own <- cmp.Or(err, c.flush())
		}()
		<-conn.begun
		c.hold()
		if _, err := c.Write([]byte("another's")); err != nil { // it waits for its turn
			t.Error(err)
		}
		close(conn.let)
		if err := <-own; err != nil {
			t.Errorf("flushed %v: %v for what was sent", flushed, err)
		}
		if err := c.flush(); err == nil {
			t.Errorf("flushed %v: no error for what was not sent", flushed)
		}
		if !conn.closed {
			t.Errorf("flushed %v: the connection is still open", flushed)
		}
	}
}

// partChannel takes a part of what is written and fails.
type partChannel struct {
	ssh.Channel
	takes int
	quit  chan struct{}
}

func (c *partChannel) Read([]byte) (int, error)  { <-c.quit; return 0, io.EOF }
func (c *partChannel) Write([]byte) (int, error) { return c.takes, io.EOF }
func (c *partChannel) Close() error              { return nil }

// A Write that fails tells how much may have gone out: a request of which nothing has may be sent again.
func TestWriteTellsWhatWentOut(t *testing.T) {
	for _, takes := range []int{0, 3, 7} {
		ch := &partChannel{takes: takes, quit: make(chan struct{})}
		reqs := make(chan *ssh.Request)
		c := newChannelConn(channelSetup{gather: newGatherConn(&slowConn{}), ch: ch, reqs: reqs, serve: ssh.DiscardRequests, laddr: addr{}, raddr: addr{}})
		if n, err := c.Write([]byte("request")); n != takes || err == nil {
			t.Errorf("got %d, %v, want %d", n, err, takes)
		}
		close(ch.quit)
		close(reqs)
		c.Close()
	}
}

// An error reaches the one who flushes, and everybody after.
func TestGatherError(t *testing.T) {
	broken := errors.New("broken")
	c := newGatherConn(&slowConn{err: broken})
	c.asking.Store(gatherCrowd)
	c.hold()
	if _, err := c.Write([]byte("a")); err != nil {
		t.Errorf("a write that is not sent yet: %v", err)
	}
	if err := c.flush(); err != broken {
		t.Errorf("flush: %v, want %v", err, broken)
	}
	if _, err := c.Write([]byte("b")); err != broken {
		t.Errorf("the next write: %v, want %v", err, broken)
	}
}
