//go:build !windows

package sshtunnel

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// pooled is a stream of a pool.
type pooled struct {
	net.Conn
	release func()
}

// end closes the stream and releases it.
func (s pooled) end() {
	s.Close()
	s.release()
}

// poolOf makes a pool over a fixed chain. The caller must call end.
func poolOf(tun *Tunnel) (p *pool, end func()) {
	p = newPool(tun)
	return p, func() {
		tun.Close()
		p.close()
	}
}

func mustCarry(t *testing.T, p *pool, target string) pooled {
	t.Helper()
	conn, release, err := carry(t.Context(), p, func(l *link) (net.Conn, error) { return l.last().open(t.Context(), "tcp", target) })
	if err != nil {
		t.Fatal(err)
	}
	return pooled{conn, release}
}

// fill opens streams until the first connection is full.
func fill(t *testing.T, p *pool, target string) (streams []pooled) {
	t.Helper()
	for range laneStreams {
		streams = append(streams, mustCarry(t, p, target))
	}
	return streams
}

// onLanes returns how many streams each connection has.
func onLanes(p *pool) (streams []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range p.lanes {
		streams = append(streams, ln.streams)
	}
	return streams
}

func TestSecondConnectionForManyStreams(t *testing.T) {
	t.Parallel()
	target := echo(t)
	f := startFaulty(t)
	f.host.ServerAliveSet = false
	noLeak(t, func() {
		p, end := poolOf(newTunnel(t, nil, f.host))
		defer end()
		streams := fill(t, p, target)
		if n := f.count(); n != 1 {
			t.Errorf("%d logins for %d streams", n, laneStreams)
		}
		streams = append(streams, mustCarry(t, p, target)) // does not wait for the second connection
		openssh.Eventually(t, "a second connection", func() bool { return p.connections() == 2 })
		for len(streams) < 250 {
			streams = append(streams, mustCarry(t, p, target))
		}
		for _, s := range streams {
			checkEcho(t, s)
		}
		if n, m := f.count(), p.connections(); n != 2 || m != 2 {
			t.Errorf("%d logins, %d connections: %v", n, m, onLanes(p))
		}
		// The first has room again, and the second is not needed any more.
		p.mu.Lock()
		p.idleAfter = 0
		p.mu.Unlock()
		for _, s := range streams {
			s.end()
		}
		openssh.Eventually(t, "one connection", func() bool { return p.connections() == 1 })
		s := mustCarry(t, p, target)
		checkEcho(t, s)
		s.end()
		if n := f.count(); n != 2 {
			t.Errorf("%d logins", n)
		}
	})
}

// The streams of a second connection that is lost end. The first connection does not notice, and
// the next need dials again.
func TestSecondConnectionIsLost(t *testing.T) {
	t.Parallel()
	target := echo(t)
	f := startFaulty(t)
	f.host.ServerAliveSet = false
	noLeak(t, func() {
		p, end := poolOf(newTunnel(t, nil, f.host))
		defer end()
		first := fill(t, p, target)
		mustCarry(t, p, target)
		openssh.Eventually(t, "a second connection", func() bool { return p.connections() == 2 })
		second := mustCarry(t, p, target)
		if got := onLanes(p); got[1] != 1 {
			t.Fatalf("streams: %v", got)
		}
		checkEcho(t, second)
		p.mu.Lock()
		lost := p.lanes[1].own
		p.mu.Unlock()
		lost.hops[0].heartbeat().conn.Close() // as if the network had cut it
		if _, err := io.ReadAll(second); err != nil {
			t.Errorf("the end of a lost stream: %v", err)
		}
		second.end()
		checkEcho(t, first[0])
		openssh.Eventually(t, "one connection", func() bool { return p.connections() == 1 })
		checkEcho(t, mustCarry(t, p, target))
		openssh.Eventually(t, "a new second connection", func() bool { return p.connections() == 2 })
		checkEcho(t, mustCarry(t, p, target))
		if n := f.count(); n != 3 {
			t.Errorf("%d logins", n)
		}
	})
}

// Bulk on the first connection makes small calls wait. Then new streams are opened on a second one.
func TestSecondConnectionBesideBulk(t *testing.T) {
	t.Parallel()
	target := echo(t)
	source := listenAnd(t, func(c net.Conn) { // sends for ever
		for buf := make([]byte, 32<<10); ; {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	f := startFaulty(t)
	f.host.ServerAliveSet = false
	slow := listenAnd(t, func(c net.Conn) { slowLine(c, f.addr.String(), 4<<20) })
	f.host = (&cable{addr: slow}).host(t, f.host)
	noLeak(t, func() {
		p, end := poolOf(newTunnel(t, nil, f.host))
		defer end()
		small := mustCarry(t, p, target)
		checkEcho(t, small)
		bulk := mustCarry(t, p, source.String())
		var reading sync.WaitGroup
		reading.Go(func() { io.Copy(io.Discard, bulk) }) // ends with bulk
		openssh.Eventually(t, "a second connection", func() bool {
			mustCarry(t, p, target).end()
			return p.connections() == 2
		})
		calm := mustCarry(t, p, target)
		if got := onLanes(p); len(got) != 2 || got[1] != 1 {
			t.Errorf("streams: %v", got)
		}
		checkEcho(t, calm)
		checkEcho(t, small)
		bulk.end()
		reading.Wait()
		openssh.Eventually(t, "the first is as good as before", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.lanes[0].rank() == 0
		})
		mustCarry(t, p, target)
		if got := onLanes(p); got[0] != 2 || f.count() != 2 {
			t.Errorf("streams: %v, %d logins", got, f.count())
		}
	})
}

// listenAnd serves each connection with f, which returns at the latest when the connection is
// closed.
func listenAnd(t *testing.T, f func(net.Conn)) *net.TCPAddr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.Map
	var tasks sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		tasks.Wait()
	})
	tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			tasks.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	return ln.Addr().(*net.TCPAddr)
}

// slowLine joins c with an address, and passes on so many bytes a second at most. It keeps little
// back, so that what waits does so at the two ends.
func slowLine(c net.Conn, address string, rate int) {
	far, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	pass := func(dst, src net.Conn) {
		defer dst.Close()
		defer src.Close()
		for buf := make([]byte, 16<<10); ; {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(time.Second * time.Duration(n) / time.Duration(rate))
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pass(far, c) })
	both.Go(func() { pass(c, far) })
	both.Wait()
}

// A bastion that asks is asked once, however many streams there are.
func TestNoSecondConnectionThatNeedsAPerson(t *testing.T) {
	t.Parallel()
	target := echo(t)
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	server := startPAM(t, key, "AuthenticationMethods publickey,keyboard-interactive")
	c := startCable(t, server.Addr.String())
	h := c.host(t, server.Host(t, "bastion", key))
	var asked atomic.Int32
	answers := []string{"first", "second"}
	noLeak(t, func() {
		p, end := poolOf(newTunnel(t, func(context.Context, Question) (string, error) {
			return answers[asked.Add(1)-1], nil
		}, h))
		defer end()
		fill(t, p, target)
		checkEcho(t, mustCarry(t, p, target))
		p.mu.Lock()
		alone, dialing := p.alone, p.dialing
		p.mu.Unlock()
		if !alone || dialing != nil || c.count() != 1 || asked.Load() != 2 {
			t.Errorf("alone %v, %d connections, %d questions", alone, c.count(), asked.Load())
		}
	})
}

// If the server lets us in without a person once and then does not, it is tried once, without a
// question.
func TestSecondConnectionIsRefused(t *testing.T) {
	t.Parallel()
	target := echo(t)
	f := startFaulty(t)
	f.host.ServerAliveSet = false
	other := startPAM(t, f.host.IdentityFiles[0], "AuthenticationMethods publickey,keyboard-interactive",
		"HostKey "+filepath.Join(f.server.Dir, "host_key"))
	noLeak(t, func() {
		tun := tunnelOf(t, Config{
			Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{f.host}, nil },
			Ask: func(context.Context, Question) (string, error) {
				t.Error("asked")
				return "", ErrNoPerson
			},
		})
		p, end := poolOf(tun)
		defer end()
		fill(t, p, target)
		f.lead(other.Addr.String())
		openssh.Eventually(t, "the refusal", func() bool {
			checkEcho(t, mustCarry(t, p, target))
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.alone
		})
		checkEcho(t, mustCarry(t, p, target))
		if st, _ := tun.State(); f.count() != 2 || st.Phase != Up {
			t.Errorf("%d logins, %+v", f.count(), st)
		}
	})
}
