//go:build !windows

package sshtunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

const (
	soakStreams  = 16
	maxSoakBlock = 256 << 10       // bytes
	soakPause    = time.Second / 2 // the most between two blocks of a stream
)

// block is the n-th request or answer of a stream; both sides can make it.
func soakBlock(stream, n uint64, answer bool) []byte {
	seed := [32]byte{}
	binary.BigEndian.PutUint64(seed[:], stream)
	binary.BigEndian.PutUint64(seed[8:], n)
	if answer {
		seed[16] = 1
	}
	src := rand.NewChaCha8(seed)
	b := make([]byte, src.Uint64()%maxSoakBlock+1)
	src.Read(b)
	return b
}

// soakHead goes before each block. It tells the block's stream, number and length.
type soakHead struct{ Stream, N, Len uint64 }

// soakServer takes blocks in order, each once, and sums up all bytes that it took.
type soakServer struct {
	mu       sync.Mutex
	next     [soakStreams]uint64
	sums     [soakStreams]hash.Hash
	repeated int // blocks that came once more
	bad      []string
}

func (s *soakServer) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var head soakHead
		if binary.Read(conn, binary.BigEndian, &head) != nil {
			return
		}
		if head.Stream >= soakStreams || head.Len > maxSoakBlock {
			s.complain("head %+v", head)
			return
		}
		body := make([]byte, head.Len)
		if _, err := io.ReadFull(conn, body); err != nil {
			return // broken off: asked again
		}
		if !s.take(head, body) {
			return
		}
		answer := soakBlock(head.Stream, head.N, true)
		head.Len = uint64(len(answer))
		var b bytes.Buffer
		binary.Write(&b, binary.BigEndian, head)
		b.Write(answer)
		if _, err := conn.Write(b.Bytes()); err != nil {
			return
		}
	}
}

func (s *soakServer) take(head soakHead, body []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch next := s.next[head.Stream]; {
	case head.N == next:
		s.next[head.Stream]++
		s.sums[head.Stream].Write(body)
	case head.N < next: // its answer was lost, or it comes late: it was held back on a wire that was given up
		s.repeated++
	default:
		s.bad = append(s.bad, fmt.Sprintf("stream %d: block %d, want %d", head.Stream, head.N, next))
		return false
	}
	return true
}

func (s *soakServer) complain(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, fmt.Sprintf(format, args...))
}

// soakStream sends blocks and checks their answers until stop is closed. A block whose connection
// broke is asked again on the next. It returns the number of blocks and the sum of what was sent.
func soakStream(ctx context.Context, tun *Tunnel, target string, stream uint64, stop <-chan struct{}, count *soakCount) (uint64, []byte, error) {
	sum := sha256.New()
	var conn net.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for n, settled := uint64(0), true; ; {
		if settled { // a block that was begun is brought to its end
			select {
			case <-stop:
				return n, sum.Sum(nil), nil
			case <-time.After(rand.N(soakPause)):
			}
		}
		if conn == nil {
			var err error
			if conn, err = tun.DialContext(ctx, "tcp", target); err != nil {
				return n, nil, fmt.Errorf("stream %d: %w", stream, err) // it waits through any loss
			}
			count.dials.Add(1)
		}
		body := soakBlock(stream, n, false)
		settled = false
		answer, err := soakAsk(conn, soakHead{stream, n, uint64(len(body))}, body)
		if err != nil {
			conn.Close()
			conn = nil
			count.broken.Add(1)
			continue
		}
		if !bytes.Equal(answer, soakBlock(stream, n, true)) {
			return n, nil, fmt.Errorf("stream %d: the answer to block %d is not right", stream, n)
		}
		sum.Write(body)
		count.bytes.Add(int64(len(body) + len(answer)))
		n++
		settled = true
	}
}

type soakCount struct{ dials, broken, bytes atomic.Int64 }

func soakAsk(conn net.Conn, head soakHead, body []byte) ([]byte, error) {
	var b bytes.Buffer
	binary.Write(&b, binary.BigEndian, head)
	b.Write(body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	var got soakHead
	if err := binary.Read(conn, binary.BigEndian, &got); err != nil {
		return nil, err
	}
	if got.Stream != head.Stream || got.N != head.N || got.Len > maxSoakBlock {
		return nil, nil // not right, as the caller sees
	}
	answer := make([]byte, got.Len)
	_, err := io.ReadFull(conn, answer)
	return answer, err
}

// Sixteen streams go through a real hop whose link is cut at random, by resets, orderly ends, and
// black holes shorter and longer than keepalive allows. Every block must arrive once and unchanged,
// and nothing may be left over at the end. SALLYPORT_SOAK says how long the test takes. If it is
// not set, that is a few seconds.
func TestSoak(t *testing.T) {
	// Not parallel: it counts the goroutines and the memory of the process.
	length := 3 * time.Second
	if text := os.Getenv("SALLYPORT_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	server := &soakServer{}
	for i := range server.sums {
		server.sums[i] = sha256.New()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { server.serve(conn) })
		}
	})

	key := filepath.Join(t.TempDir(), "id")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey(), "LogLevel QUIET")
	c := startCable(t, s.Addr.String())
	h := c.host(t, s.Host(t, "bastion", key))
	h.ServerAliveSet, h.ServerAliveInterval, h.ServerAliveCountMax = true, 500*time.Millisecond, 3
	h.ConnectTimeout = 10 * time.Second

	before := runtime.NumGoroutine()
	tun, err := New(Config{Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()

	stop := make(chan struct{})
	var count soakCount
	type result struct {
		blocks uint64
		sum    []byte
		err    error
	}
	var results [soakStreams]result
	var streams sync.WaitGroup
	for i := range results {
		streams.Go(func() {
			r := &results[i]
			r.blocks, r.sum, r.err = soakStream(t.Context(), tun, ln.Addr().String(), uint64(i), stop, &count)
		})
	}

	type sample struct {
		goroutines int
		heap       uint64 // bytes in use after a collection
	}
	measure := func() sample {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return sample{runtime.NumGoroutine(), m.HeapAlloc}
	}
	var cuts [4]int
	var first, last sample
	end := time.After(length)
	report := time.NewTicker(max(length/30, time.Second))
	defer report.Stop()
	for running, began := true, time.Now(); running; {
		pause := time.Duration(random.Int64N(int64(min(length/8, 10*time.Second))))
		select {
		case <-time.After(pause):
			kind := random.IntN(len(cuts))
			cuts[kind]++
			switch kind {
			case 0:
				c.cut(true)
			case 1:
				c.cut(false)
			case 2: // shorter than keepalive allows
				c.freeze(true)
				time.AfterFunc(time.Duration(random.Int64N(int64(700*time.Millisecond))), c.thaw)
			case 3: // only a new connection helps
				c.freeze(false)
			}
		case <-report.C:
			last = measure()
			if first == (sample{}) && time.Since(began) > length/10 {
				first = last
			}
			t.Logf("%v: %d MiB, %d goroutines, %d KiB heap, %v cuts (reset, end, short and long black hole)",
				time.Since(began).Round(time.Second), count.bytes.Load()>>20, last.goroutines, last.heap>>10, cuts)
		case <-end:
			running = false
		}
	}
	c.thaw()
	close(stop)
	streams.Wait()
	tun.Close()

	var blocks uint64
	server.mu.Lock()
	for i, r := range results {
		if r.err != nil {
			t.Error(r.err)
			continue
		}
		blocks += r.blocks
		if r.blocks == 0 {
			t.Errorf("stream %d carried nothing", i)
		}
		// The answer to the last block may have been lost, but then it was asked again.
		if got := server.sums[i].Sum(nil); server.next[i] != r.blocks || !bytes.Equal(got, r.sum) {
			t.Errorf("stream %d: the server took %d blocks of sum %x, %d of %x were sent", i, server.next[i], got, r.blocks, r.sum)
		}
	}
	for _, text := range server.bad {
		t.Error(text)
	}
	t.Logf("%d blocks, %d bytes right; %v cuts, %d dials, %d blocks broken off, %d came once more and were left out",
		blocks, count.bytes.Load(), cuts, count.dials.Load(), count.broken.Load(), server.repeated)
	server.mu.Unlock() // late duplicates may wait for it
	c.cut(true)
	openssh.Eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
	if first != (sample{}) && last.heap > first.heap+16<<20 {
		t.Errorf("heap grew from %d to %d bytes", first.heap, last.heap)
	}
	t.Logf("after Close %d goroutines, %d before; heap %d KiB early, %d KiB late", runtime.NumGoroutine(), before, first.heap>>10, last.heap>>10)
}
