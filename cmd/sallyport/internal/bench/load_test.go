//go:build linux

package bench_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// What a load asks of the service. The request is one of these bytes and a count, 8 bytes
// big-endian.
const (
	// opEcho: send back so many bytes.
	opEcho = 'e'
	// opSink: read so many bytes and answer with one.
	opSink = 'u'
	// opSource: send so many bytes.
	opSource = 'd'
)

// load is what a client does over one connection or more. If several ways are given, they take
// turns.
type load struct {
	Op byte
	// Count is the number of bytes over all streams, or of echoes.
	Count int64
	// Streams is the number of connections through the tunnel; 0 means 1.
	Streams int
	// Forward is where ssh -L listens; empty means not to use it.
	Forward string
	// Target is the service as the hop knows it.
	Target string
	// Config is an ssh_config and Alias a host in it; empty means not to use a tunnel of ours.
	Config, Alias string
	// Socket is that of a process with a shared connection, for one more tunnel; empty means none.
	Socket string
}

// loadChunk is what io.Copy moves at once, in bytes.
const loadChunk = 32 << 10

// serveLoads gives each connection what it asks for, until the listener is closed.
func serveLoads(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the client
			defer conn.Close()
			buf := make([]byte, 8*loadChunk)
			for serveLoad(conn, buf) == nil {
			}
		}()
	}
}

// serveLoad serves one request.
func serveLoad(conn net.Conn, buf []byte) error {
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint64(head[1:]))
	switch head[0] {
	case opEcho:
		_, err := io.CopyBuffer(struct{ io.Writer }{conn}, io.LimitReader(conn, n), buf)
		return err
	case opSink:
		if _, err := io.CopyN(io.Discard, conn, n); err != nil {
			return err
		}
		_, err := conn.Write(head[:1])
		return err
	case opSource:
		for ; n > 0; n -= int64(len(buf)) {
			if _, err := conn.Write(buf[:min(n, int64(len(buf)))]); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no operation %q", head[0])
}

// throughSSH carries a load through `ssh -L`.
func (s *site) throughSSH(t testing.TB, l load) time.Duration {
	t.Helper()
	defer s.startForward(t, s.loads).Stop()
	l.Forward = forwardAddr
	return s.carry(t, l)[0]
}

// throughTunnel carries a load through a tunnel of ours, in a process of its own.
func (s *site) throughTunnel(t testing.TB, l load) time.Duration {
	t.Helper()
	l.Target, l.Config, l.Alias = s.loads, s.config, s.hops[0]
	return s.carry(t, l)[0]
}

// both carries the load over both ways by turns. What takes the processors is too unsteady to be
// compared one after the other on a machine that does other work.
func (s *site) both(t testing.TB, l load) (theirs, ours time.Duration) {
	t.Helper()
	got := s.allWays(t, l)
	return got[0], got[1]
}

// allWays is both, and the load's Socket if there is one: the time of ssh -L, that of a tunnel, and
// that of a tunnel through a shared connection.
func (s *site) allWays(t testing.TB, l load) []time.Duration {
	t.Helper()
	defer s.startForward(t, s.loads).Stop()
	l.Forward, l.Target, l.Config, l.Alias = forwardAddr, s.loads, s.config, s.hops[0]
	return s.carry(t, l)
}

func (s *site) carry(t testing.TB, l load) []time.Duration {
	t.Helper()
	p, line := machines.StartRole(t, s.near, "load", l)
	defer p.Stop()
	var times []time.Duration
	for word := range strings.FieldsSeq(line) {
		d, err := time.ParseDuration(word)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, d)
	}
	return times
}

// idle is what one tunnel costs that stands and does nothing.
func (s *site) idle(t testing.TB) (kib, goroutines float64) {
	t.Helper()
	p, line := machines.StartRole(t, s.near, "idle", load{Config: s.config, Alias: s.hops[0]})
	defer p.Stop()
	if _, err := fmt.Sscan(line, &kib, &goroutines); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return kib, goroutines
}

// echoes returns the times of single small requests.
func echoes(conn net.Conn, count int64) (times []time.Duration, err error) {
	if _, err := conn.Write(binary.BigEndian.AppendUint64([]byte{opEcho}, uint64(count*echoSize))); err != nil {
		return nil, err
	}
	buf := make([]byte, echoSize)
	for range count {
		begin := time.Now()
		if _, err := conn.Write(buf); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
	}
	return times, nil
}

// bulk moves n bytes one way.
func bulk(conn net.Conn, op byte, n int64) error {
	if _, err := conn.Write(binary.BigEndian.AppendUint64([]byte{op}, uint64(n))); err != nil {
		return err
	}
	buf := make([]byte, loadChunk)
	if op == opSource {
		for left := n; left > 0; {
			got, err := conn.Read(buf[:min(left, loadChunk)])
			if err != nil {
				return err
			}
			left -= int64(got)
		}
		return nil
	}
	for left := n; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, loadChunk)]
		if _, err := conn.Write(buf); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(conn, buf[:1])
	return err
}
